import { describe, expect, it } from "vitest";
import { counting, floats, folded, foldOne, int64, numbers, tensor } from "./node-support.js";

const x23 = counting([2, 3]);

describe("folding operators that move", () => {
  it("reshapes with −1, 0 and allowzero", () => {
    expect(foldOne("Reshape", [x23, int64([2], [3, -1])]).dims).toEqual([3, 2]);
    expect(foldOne("Reshape", [x23, int64([2], [0, 3])]).dims).toEqual([2, 3]);
    expect(() => foldOne("Reshape", [x23, int64([1], [5])])).toThrow(/6 elements/);
  });

  it("transposes, the sizes reversed by default", () => {
    const y = foldOne("Transpose", [x23]);
    expect(y.dims).toEqual([3, 2]);
    expect(numbers(y)).toEqual([0, 3, 1, 4, 2, 5]);
  });

  it("slices with negative and too large bounds, and backwards", () => {
    const row = int64([6], [0, 1, 2, 3, 4, 5]);
    const slice = (start: number, end: number, step: number): readonly number[] =>
      numbers(
        foldOne("Slice", [row, int64([1], [start]), int64([1], [end]), null, int64([1], [step])]),
      );
    expect(slice(-2, 1000, 1)).toEqual([4, 5]);
    expect(slice(4, 1, -2)).toEqual([4, 2]);
    expect(slice(1000, -1000, -1)).toEqual([5, 4, 3, 2, 1, 0]);
    expect(slice(3, 2, 1)).toEqual([]);
  });

  it("splits into equal parts with a smaller last one", () => {
    const parts = folded("Split", [int64([5], [0, 1, 2, 3, 4])], { outputs: 2 });
    expect(parts?.map(numbers)).toEqual([
      [0, 1, 2],
      [3, 4],
    ]);
  });

  it("concatenates along an inner axis", () => {
    const y = foldOne("Concat", [x23, floats([2, 1], [8, 9])], { attributes: { axis: -1n } });
    expect(y.dims).toEqual([2, 4]);
    expect(numbers(y)).toEqual([0, 1, 2, 8, 3, 4, 5, 9]);
  });

  it("gathers with ids from the end, and refuses those out of range", () => {
    const y = foldOne("Gather", [x23, int64([2, 1], [-1, 0])], { attributes: { axis: 1n } });
    expect(y.dims).toEqual([2, 2, 1]);
    expect(numbers(y)).toEqual([2, 0, 5, 3]);
    expect(() => foldOne("Gather", [x23, int64([1], [2])])).toThrow(/index/);
  });

  it("gathers slices with batches", () => {
    const y = foldOne("GatherND", [counting([2, 2, 2]), int64([2, 1], [1, 0])], {
      attributes: { batch_dims: 1n },
    });
    expect(y.dims).toEqual([2, 2]);
    expect(numbers(y)).toEqual([2, 3, 4, 5]);
  });

  it("pads by every mode and crops", () => {
    const row = int64([3], [1, 2, 3]);
    const pad = (mode: string, pads: number[]): readonly number[] =>
      numbers(foldOne("Pad", [row, int64([2], pads)], { attributes: { mode } }));
    expect(pad("constant", [1, 2])).toEqual([0, 1, 2, 3, 0, 0]);
    expect(pad("reflect", [2, 2])).toEqual([3, 2, 1, 2, 3, 2, 1]);
    expect(pad("edge", [1, 1])).toEqual([1, 1, 2, 3, 3]);
    expect(pad("wrap", [2, 4])).toEqual([2, 3, 1, 2, 3, 1, 2, 3, 1]);
    expect(pad("constant", [-1, 1])).toEqual([2, 3, 0]);
  });

  it("expands both ways and tiles", () => {
    const y = foldOne("Expand", [int64([2, 1], [1, 2]), int64([3], [2, 1, 2])]);
    expect(y.dims).toEqual([2, 2, 2]);
    expect(numbers(y)).toEqual([1, 1, 2, 2, 1, 1, 2, 2]);
    expect(numbers(foldOne("Tile", [int64([2], [1, 2]), int64([1], [2])]))).toEqual([1, 2, 1, 2]);
  });

  it("keeps a triangle", () => {
    const lower = foldOne("Trilu", [int64([2, 3], [1, 2, 3, 4, 5, 6])], {
      attributes: { upper: 0n },
    });
    expect(numbers(lower)).toEqual([1, 0, 0, 4, 5, 0]);
  });

  it("squeezes only sizes of 1 and unsqueezes in the result's places", () => {
    expect(foldOne("Unsqueeze", [x23, int64([2], [0, -1])]).dims).toEqual([1, 2, 3, 1]);
    expect(() => foldOne("Squeeze", [x23, int64([1], [0])])).toThrow(/size of 1/);
  });

  it("refuses sizes beyond any memory", () => {
    expect(() => foldOne("ConstantOfShape", [int64([2], [1_000_000, 1_000_000])])).toThrow(
      /at most/,
    );
    expect(() => foldOne("Range", [int64([], [0]), int64([], [2 ** 40]), int64([], [1])])).toThrow(
      /at most/,
    );
  });
});

describe("folding operators that make, reduce and choose", () => {
  it("counts up and down", () => {
    expect(numbers(foldOne("Range", [int64([], [5]), int64([], [0]), int64([], [-2])]))).toEqual([
      5, 3, 1,
    ]);
    expect(
      numbers(foldOne("Range", [floats([], [1]), floats([], [2]), floats([], [0.25])])),
    ).toEqual([1, 1.25, 1.5, 1.75]);
  });

  it("takes a part of a shape", () => {
    const shape = foldOne("Shape", [counting([2, 3, 4])], {
      attributes: { start: -2n, end: 100n },
    });
    expect(shape.dtype).toBe("int64");
    expect(numbers(shape)).toEqual([3, 4]);
  });

  it("makes windows", () => {
    const hann = foldOne("HannWindow", [int64([], [4])]);
    expect(numbers(hann).map((value) => Math.round(value * 1e6) / 1e6)).toEqual([0, 0.5, 1, 0.5]);
  });

  it("sums and multiplies integers exactly", () => {
    const x = tensor("int64", [2], [2n ** 62n, 2n ** 62n]);
    expect(foldOne("ReduceSum", [x]).data[0]).toBe(-(2n ** 63n));
    expect(numbers(foldOne("ReduceProd", [int64([2, 2], [2, 3, 4, 5]), int64([1], [0])]))).toEqual([
      8, 15,
    ]);
  });

  it("reduces nothing where no axes mean none, but still squares", () => {
    const none = { attributes: { noop_with_empty_axes: 1n } };
    expect(numbers(foldOne("ReduceSumSquare", [int64([2], [2, 3])], none))).toEqual([4, 9]);
  });

  it("gives sums of nothing", () => {
    const empty = tensor("float", [2, 0], []);
    expect(numbers(foldOne("ReduceSum", [empty, int64([1], [1])]))).toEqual([0, 0]);
    expect(numbers(foldOne("ReduceMax", [empty, int64([1], [1])]))).toEqual([
      Number.NEGATIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
    ]);
  });

  it("sums up to each place", () => {
    const sum = (attributes: Record<string, bigint>): readonly number[] =>
      numbers(foldOne("CumSum", [int64([3], [1, 2, 3]), int64([], [0])], { attributes }));
    expect(sum({})).toEqual([1, 3, 6]);
    expect(sum({ exclusive: 1n })).toEqual([0, 1, 3]);
    expect(sum({ reverse: 1n })).toEqual([6, 5, 3]);
    expect(sum({ reverse: 1n, exclusive: 1n })).toEqual([5, 3, 0]);
  });

  it("finds the first or last of the largest", () => {
    const x = floats([1, 3], [2, 7, 7]);
    const axis = { axis: 1n, keepdims: 0n };
    expect(numbers(foldOne("ArgMax", [x], { attributes: axis }))).toEqual([1]);
    expect(
      numbers(foldOne("ArgMax", [x], { attributes: { ...axis, select_last_index: 1n } })),
    ).toEqual([2]);
  });

  it("ranks, the first of equals first", () => {
    const [values, ids] = folded("TopK", [floats([4], [1, 3, 3, 2]), int64([1], [3])]) ?? [];
    expect(numbers(values)).toEqual([3, 3, 2]);
    expect(numbers(ids)).toEqual([1, 2, 3]);
  });

  it("multiplies matrices of small integers around their zero points", () => {
    const a = tensor("uint8", [2, 2], [1, 2, 3, 4]);
    const b = tensor("uint8", [2, 1], [10, 20]);
    const zeros = [tensor("uint8", [2], [1, 3]), tensor("uint8", [1], [5])];
    const product = foldOne("MatMulInteger", [a, b, ...zeros]);
    expect(product.dtype).toBe("int32");
    expect(numbers(product)).toEqual([15, 15]);
  });

  it("lists what is not 0, by axis", () => {
    const places = foldOne("NonZero", [int64([2, 2], [1, 0, 1, 1])]);
    expect(places.dims).toEqual([2, 3]);
    expect(numbers(places)).toEqual([0, 1, 1, 0, 0, 1]);
  });

  it("makes one-hot rows, off where an index is out of range", () => {
    const y = foldOne("OneHot", [int64([3], [1, -1, 5]), int64([], [3]), int64([2], [0, 9])]);
    expect(y.dims).toEqual([3, 3]);
    expect(numbers(y)).toEqual([0, 9, 0, 0, 0, 9, 0, 0, 0]);
  });

  it("scatters one after the other", () => {
    const inputs = [int64([3], [0, 0, 0]), int64([2], [1, 1]), int64([2], [5, 7])];
    expect(numbers(foldOne("ScatterElements", inputs))).toEqual([0, 7, 0]);
    const add = { attributes: { reduction: "add" } };
    expect(numbers(foldOne("ScatterElements", inputs, add))).toEqual([0, 12, 0]);
  });

  it("finds what is unique, with places and counts", () => {
    const outputs = folded("Unique", [floats([6], [2, 1, 1, 3, 4, 3])]) ?? [];
    expect(outputs.map(numbers)).toEqual([
      [1, 2, 3, 4],
      [1, 0, 3, 4],
      [1, 0, 0, 2, 3, 2],
      [2, 1, 2, 1],
    ]);
  });
});
