import { describe, expect, it } from "vitest";
import { createProgress } from "../../../src/cli/progress.js";

function shown(isTTY: boolean, total: number | null, counted: number): string {
  const writes: string[] = [];
  let ms = 0;
  const stream = { isTTY, columns: 100, write: (text: string) => writes.push(text) };
  const progress = createProgress({ stream, env: { NO_COLOR: "1" }, now: () => ms });
  const stage = progress.stage("Score and select", total, "samples");
  ms = 12_000;
  stage.update(counted);
  stage.done();
  return writes.join("");
}

describe("a stage of unknown amount in which nothing was counted", () => {
  it("shows its name and time, and no count", () => {
    expect(shown(false, null, 0)).toBe(
      "Score and select: started\nScore and select: running\nScore and select: 12.0 s\n",
    );
    expect(shown(true, null, 0)).not.toContain("samples");
    expect(shown(true, null, 0)).toContain("✓ Score and select  12.0 s\n");
  });

  it("shows the count as soon as there is one, and a known total from the start", () => {
    expect(shown(false, null, 5)).toContain("Score and select: 5 samples in 12.0 s");
    expect(shown(false, 9, 0)).toContain("Score and select: 0/9 samples in 12.0 s");
  });
});
