import { describe, expect, it } from "vitest";
import { FishermaskError } from "../../src/native/errors.js";
import { fuzz } from "./engine.js";
import { BLIND } from "./mutate.js";

function target(execute: (data: Uint8Array, index: number) => void) {
  const seeds = [Uint8Array.of(1, 2, 3, 4)];
  return { name: "engine", seeds, mutators: BLIND, execute };
}

/** Takes processor time: a busy machine gives less of it than the clock says. */
function spin(milliseconds: number): void {
  const start = process.cpuUsage();
  for (let used = 0; used < milliseconds * 1000; ) {
    const { user, system } = process.cpuUsage(start);
    used = user + system;
  }
}

const kKept: Uint8Array[] = [];

describe("the fuzzer", () => {
  it("tells of another exception, and how to have it again", async () => {
    const broken = target((data) => void (data as unknown as { missing: string }).missing.length);
    const { failures } = await fuzz(broken, 100);
    expect(failures[0]).toMatch(/--target engine --seed \d+ --at 0.*threw TypeError/s);
  });

  it("tells of an internal error, more than a second, and memory beyond bounds", async () => {
    const internal = target(() => {
      throw new FishermaskError("ERR_FM_INTERNAL", "a bug");
    });
    expect((await fuzz(internal, 100)).failures[0]).toContain("a bug");
    const slow = target(() => spin(1300));
    expect((await fuzz(slow, 100)).failures[0]).toContain(" ms");
    const large = target(() => void kKept.push(new Uint8Array(80 * 1024 * 1024)));
    expect((await fuzz(large, 1)).failures[0]).toContain("bytes of memory");
    kKept.length = 0;
  });

  it("counts what is accepted and what is refused, and makes the same files of a seed", async () => {
    const seen: string[][] = [];
    for (let run = 0; run < 2; run += 1) {
      const files: string[] = [];
      seen.push(files);
      const some = target((data, index) => {
        files.push(Buffer.from(data).toString("hex"));
        if (index % 2 === 1) {
          throw new FishermaskError("ERR_FM_BAD_FILE", "refused");
        }
      });
      const { executions, accepted, failures } = await fuzz(some, 100);
      expect(failures).toEqual([]);
      expect(accepted).toBe(Math.ceil(executions / 2));
    }
    const [first = [], second = []] = seen;
    const both = Math.min(first.length, second.length);
    expect(both).toBeGreaterThan(10);
    expect(first.slice(0, both)).toEqual(second.slice(0, both));
  });
});
