import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatIds, parseIds } from "../../../src/unlearn/id-ranges.js";

const problem = (): Error => new RangeError("not ranges");
const parse = (text: string): number[] => [...parseIds(text, problem)];

describe("id ranges", () => {
  it("are short for runs", () => {
    expect(formatIds(Int32Array.of(0, 1, 2, 3, 7, 9, 10))).toBe("0-3,7,9-10");
    expect(formatIds(new Int32Array(0))).toBe("");
    expect(parse("")).toEqual([]);
    expect(parse("0-3,7,9-10")).toEqual([0, 1, 2, 3, 7, 9, 10]);
    expect(parse("2147483647")).toEqual([2147483647]);
  });

  it("come back whatever the ids", () => {
    const ids = fc.uniqueArray(fc.oneof(fc.nat(60), fc.nat(2 ** 31 - 1)), { maxLength: 80 });
    fc.assert(
      fc.property(ids, (drawn) => {
        const sorted = Int32Array.from(drawn).sort();
        const text = formatIds(sorted);
        expect(parse(text)).toEqual([...sorted]);
        // Never two neighbouring ranges where one would do.
        expect(text.split(",").length).toBeLessThanOrEqual(Math.max(1, sorted.length));
        expect(formatIds(parseIds(text, problem))).toBe(text);
      }),
    );
  });

  it("are refused when they do not ascend, overlap, or are no numbers; never anything but the given error", () => {
    for (const text of ["1,1", "2,1", "3-2", "0-2,2-4", "a", "1-", "-1", "1,,2", " 1", "1.5"]) {
      expect(() => parse(text), text).toThrow(RangeError);
      expect(() => parse(text), text).toThrow("not ranges");
    }
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(..."0123456789,- x"), maxLength: 7 }),
        (text) => {
          let ids: number[];
          try {
            ids = parse(text);
          } catch (error) {
            expect((error as Error).message).toBe("not ranges");
            return;
          }
          for (const [i, id] of ids.entries())
            expect(id).toBeGreaterThan(i === 0 ? -1 : (ids[i - 1] as number));
        },
      ),
      // Seven characters keep a range short enough to be listed.
      { numRuns: 200 },
    );
  });

  it("that would fill the memory are refused before it is taken", () => {
    const before = process.memoryUsage().arrayBuffers;
    expect(() => parse("0-2147483647")).toThrow("not ranges");
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1e8);
  });
});
