import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { placeLabels } from "../../../src/report/place-labels.js";

const box = { width: 15, height: 12 };

describe("placeLabels", () => {
  it("puts a label right of a mark that stands alone", () => {
    expect(placeLabels([{ x: 100, y: 50 }], box)).toEqual([{ x: 112.5, y: 50 }]);
  });

  it("keeps labels off each other and off the marks where there is room", () => {
    // A lattice with jitter: marks at least 40 apart.
    const jitter = fc.array(fc.integer({ min: 0, max: 8 }), { minLength: 18, maxLength: 18 });
    fc.assert(
      fc.property(jitter, (offsets) => {
        const marks = Array.from({ length: 9 }, (_, i) => ({
          x: 48 * (i % 3) + (offsets[2 * i] as number),
          y: 48 * Math.floor(i / 3) + (offsets[2 * i + 1] as number),
        }));
        const labels = placeLabels(marks, box);
        const apart = (
          a: { x: number; y: number },
          b: { x: number; y: number },
          w: number,
          h: number,
        ) => Math.abs(a.x - b.x) >= w || Math.abs(a.y - b.y) >= h;
        for (const [i, label] of labels.entries()) {
          for (const other of labels.slice(i + 1)) expect(apart(label, other, 15, 12)).toBe(true);
          for (const mark of marks) expect(apart(label, mark, 12.5, 11)).toBe(true);
        }
      }),
    );
  });

  it("gives every mark a label even where all lie on one spot", () => {
    const labels = placeLabels(
      Array.from({ length: 60 }, () => ({ x: 0, y: 0 })),
      box,
    );
    expect(labels).toHaveLength(60);
    expect(new Set(labels.map(({ x, y }) => `${x},${y}`)).size).toBeGreaterThan(12);
  });
});
