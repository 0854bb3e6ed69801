import { describe, expect, it } from "vitest";
import { createProgress, type ProgressOptions } from "../../../src/cli/progress.js";
import { displayWidth } from "../../../src/cli/table.js";

const kClear = "\r\u001B[2K";

function setUp(options: Partial<ProgressOptions> & { isTTY?: boolean; columns?: number } = {}) {
  const { isTTY = true, columns = 100, ...rest } = options;
  const writes: string[] = [];
  let ms = 0;
  const stream = {
    isTTY,
    columns,
    write(text: string) {
      writes.push(text);
    },
  };
  const progress = createProgress({ stream, env: { NO_COLOR: "1" }, now: () => ms, ...rest });
  return {
    progress,
    writes,
    wait(milliseconds: number) {
      ms += milliseconds;
    },
  };
}

describe("progress on a terminal", () => {
  it("draws a bar with share, amount, rate and time left", () => {
    const { progress, writes, wait } = setUp();
    const stage = progress.stage("Fisher, forget set", 5000, "samples");
    wait(2000);
    stage.advance(1000);
    expect(writes.at(-1)).toBe(
      `${kClear}Fisher, forget set  ━━━━━───────────────────  20 %  1,000/5,000 samples  500 samples/s  8.0 s left`,
    );
  });

  it("redraws at most ten times a second", () => {
    const { progress, writes, wait } = setUp();
    const stage = progress.stage("s", 1000, "samples");
    for (let i = 0; i < 1000; i++) {
      wait(1);
      stage.advance();
    }
    // The first drawing and ten more in this one second.
    expect(writes.length).toBe(11);
  });

  it("leaves one line when done, once", () => {
    const { progress, writes, wait } = setUp();
    const stage = progress.stage("Mask", 10, "tensors");
    wait(2000);
    stage.advance(10);
    stage.done();
    const count = writes.length;
    stage.done();
    stage.advance(5);
    expect(writes.length).toBe(count);
    expect(writes.slice(-2)).toEqual([kClear, "✓ Mask  10/10 tensors  2.0 s  5.0 tensors/s\n"]);
  });

  it("clears its line before a message, draws again after it, and on close goes", () => {
    const { progress, writes } = setUp();
    progress.stage("Load", 10, "files");
    writes.length = 0;
    progress.message("chose cpu");
    expect(writes.slice(0, 2)).toEqual([kClear, "chose cpu\n"]);
    expect(writes[2]).toMatch(/^Load/);
    progress.close();
    expect(writes.at(-1)).toBe(kClear);
    progress.message("after");
    expect(writes.at(-1)).toBe("after\n");
  });

  it("returns to the outer stage when the inner one ends", () => {
    const { progress, writes } = setUp();
    progress.stage("Rounds", 3, "rounds");
    progress.stage("Fisher", 10, "samples").done();
    expect(writes.at(-1)).toMatch(/^Rounds/);
  });

  it.each([20, 40, 60, 100])("never fills a terminal of %i columns", (columns) => {
    const { progress, writes, wait } = setUp({ columns });
    const stage = progress.stage("A stage with a rather long name 猫猫猫", 50_000_000, "samples");
    wait(5000);
    stage.advance(12_345_678);
    for (const line of writes) {
      expect(displayWidth(line.replaceAll(kClear, ""))).toBeLessThan(columns);
    }
  });

  it("colours unless NO_COLOR is set", () => {
    const sgr = "\u001B[3";
    const plain = setUp();
    plain.progress.stage("s", 10, "x").done();
    expect(plain.writes.join("")).not.toContain(sgr);
    const coloured = setUp({ env: {} });
    coloured.progress.stage("s", 10, "x").done();
    expect(coloured.writes.join("")).toContain(sgr);
  });

  it("shows an unknown total without a bar, and takes absolute counts", () => {
    const { progress, writes, wait } = setUp();
    const stage = progress.stage("Read", null, "bytes");
    wait(1000);
    stage.update(400);
    expect(writes.at(-1)).toBe(`${kClear}Read  400 bytes  400 bytes/s`);
  });
});

describe("progress elsewhere", () => {
  it("writes a line at the start, at the end, and every ten seconds at most", () => {
    const { progress, writes, wait } = setUp({ isTTY: false });
    const stage = progress.stage("Fine-tune", 1000, "samples");
    for (let i = 0; i < 250; i++) {
      wait(100);
      stage.advance(4);
    }
    stage.done();
    expect(writes).toEqual([
      "Fine-tune: started (1,000 samples)\n",
      "Fine-tune: 400/1,000 samples, 40 samples/s, 15.0 s left\n",
      "Fine-tune: 800/1,000 samples, 40 samples/s, 5.0 s left\n",
      "Fine-tune: 1,000/1,000 samples in 25.0 s (40 samples/s)\n",
    ]);
  });

  it("treats a dumb terminal as none", () => {
    const { progress, writes } = setUp({ env: { TERM: "dumb" } });
    progress.stage("s", 1, "x");
    expect(writes).toEqual(["s: started (1 x)\n"]);
  });

  it("writes JSON lines when asked", () => {
    const { progress, writes, wait } = setUp({ json: true });
    const stage = progress.stage("s", 8, "x");
    wait(500);
    stage.advance(8);
    stage.done();
    progress.warning("careful");
    expect(writes.map((line) => JSON.parse(line))).toEqual([
      { event: "start", stage: "s", done: 0, total: 8, unit: "x", seconds: 0 },
      { event: "end", stage: "s", done: 8, total: 8, unit: "x", seconds: 0.5 },
      { event: "warning", text: "careful" },
    ]);
  });

  it("is silent when quiet, but for warnings", () => {
    const { progress, writes } = setUp({ quiet: true });
    const stage = progress.stage("s", 8, "x");
    stage.advance(8);
    stage.done();
    progress.message("hello");
    progress.warning("careful");
    expect(writes).toEqual(["careful\n"]);
  });

  it("refuses standard output, and blanks control characters", () => {
    expect(() => createProgress({ stream: process.stdout })).toThrow(
      expect.objectContaining({ code: "ERR_FM_ARGUMENT" }),
    );
    const { progress, writes } = setUp({ isTTY: false });
    progress.message("a\u001B[2Jb\nc");
    expect(writes).toEqual(["a [2Jb c\n"]);
  });
});
