import { describe, expect, it } from "vitest";
import { castArray } from "../../../../src/model/onnx/fold/cast.js";
import { floats, folded, foldOne, int64, numbers, tensor } from "./node-support.js";

describe("folding elementwise operators", () => {
  it("adds with broadcasting", () => {
    const sum = foldOne("Add", [int64([2, 1], [10, 20]), int64([3], [1, 2, 3])]);
    expect(sum.dims).toEqual([2, 3]);
    expect(numbers(sum)).toEqual([11, 12, 13, 21, 22, 23]);
  });

  it("wraps integers as two's complement, 64 bits among them", () => {
    const big = foldOne("Add", [
      tensor("int64", [1], [2n ** 63n - 1n]),
      tensor("int64", [1], [1n]),
    ]);
    expect(big.data[0]).toBe(-(2n ** 63n));
    expect(
      numbers(foldOne("Mul", [tensor("int32", [1], [65537]), tensor("int32", [1], [65537])])),
    ).toEqual([131073]);
    expect(numbers(foldOne("Sub", [tensor("uint8", [1], [3]), tensor("uint8", [1], [5])]))).toEqual(
      [254],
    );
    expect(numbers(foldOne("Neg", [tensor("int8", [1], [-128])]))).toEqual([-128]);
  });

  it("multiplies 64-bit numbers beyond 2^53 exactly", () => {
    const product = foldOne("Mul", [
      tensor("int64", [1], [9_007_199_254_740_993n]),
      tensor("int64", [1], [3n]),
    ]);
    expect(product.data[0]).toBe(27_021_597_764_222_979n);
  });

  it("divides integers towards 0 and gives the remainder the divisor's sign", () => {
    const [a, b] = [int64([4], [7, -7, 7, -7]), int64([4], [2, 2, -2, -2])];
    expect(numbers(foldOne("Div", [a, b]))).toEqual([3, -3, -3, 3]);
    expect(numbers(foldOne("Mod", [a, b]))).toEqual([1, 1, -1, -1]);
    expect(numbers(foldOne("Mod", [a, b], { attributes: { fmod: 1n } }))).toEqual([1, -1, 1, -1]);
  });

  it("refuses an integer division by 0", () => {
    expect(() => foldOne("Div", [int64([1], [1]), int64([1], [0])])).toThrow(/divisor/);
  });

  it("rounds floats to f32", () => {
    const sum = foldOne("Add", [floats([1], [0.1]), floats([1], [0.2])]);
    expect(sum.data[0]).toBe(Math.fround(Math.fround(0.1) + Math.fround(0.2)));
  });

  it("gives a power the base's type", () => {
    const power = foldOne("Pow", [tensor("int32", [2], [2, -3]), floats([2], [10, 3])]);
    expect(power.dtype).toBe("int32");
    expect(numbers(power)).toEqual([1024, -27]);
  });

  it("compares and combines", () => {
    const less = foldOne("Less", [int64([3], [1, 2, 3]), int64([], [2])]);
    expect(less.dtype).toBe("bool");
    expect(numbers(less)).toEqual([1, 0, 0]);
    expect(numbers(foldOne("Xor", [less, tensor("bool", [3], [1, 1, 0])]))).toEqual([0, 1, 0]);
    expect(numbers(foldOne("Not", [less]))).toEqual([0, 1, 1]);
  });

  it("compares 64-bit integers that are equal as doubles", () => {
    const equal = foldOne("Equal", [
      tensor("int64", [1], [9_007_199_254_740_993n]),
      tensor("int64", [1], [9_007_199_254_740_992n]),
    ]);
    expect(numbers(equal)).toEqual([0]);
  });

  it("chooses with a condition that broadcasts", () => {
    const chosen = foldOne("Where", [
      tensor("bool", [2, 1], [1, 0]),
      int64([2], [1, 2]),
      int64([1], [9]),
    ]);
    expect(chosen.dims).toEqual([2, 2]);
    expect(numbers(chosen)).toEqual([1, 2, 9, 9]);
  });

  it("shifts unsigned integers within their width", () => {
    const shift = { attributes: { direction: "LEFT" } };
    const [a, b] = [tensor("uint8", [2], [255, 1]), tensor("uint8", [2], [4, 7])];
    expect(numbers(foldOne("BitShift", [a, b], shift))).toEqual([240, 128]);
    expect(numbers(foldOne("BitwiseAnd", [a, b]))).toEqual([4, 1]);
  });

  it("rounds halves to even", () => {
    expect(numbers(foldOne("Round", [floats([5], [0.5, 1.5, 2.5, -1.5, -2.5])]))).toEqual([
      0, 2, 2, -2, -2,
    ]);
  });

  it("clips to bounds that are left out", () => {
    const x = tensor("int8", [3], [-5, 0, 5]);
    expect(numbers(foldOne("Clip", [x, tensor("int8", [], [-1]), null]))).toEqual([-1, 0, 5]);
    expect(numbers(foldOne("Clip", [x, null, tensor("int8", [], [2])]))).toEqual([-5, 0, 2]);
  });

  it("finds one kind of infinity", () => {
    const x = floats([3], [Number.NEGATIVE_INFINITY, 1, Number.POSITIVE_INFINITY]);
    const only = { attributes: { detect_negative: 0n } };
    expect(numbers(foldOne("IsInf", [x], only))).toEqual([0, 0, 1]);
  });

  it("leaves what it does not know", () => {
    expect(folded("Erf", [floats([1], [1])])).toBeNull();
    expect(folded("Add", [tensor("bool", [1], [1]), tensor("bool", [1], [1])])).toBeNull();
  });
});

describe("casting", () => {
  it("truncates floats towards 0", () => {
    expect(numbers(castArray(floats([4], [1.9, -1.9, 0.2, -0.2]), "int64") ?? undefined)).toEqual([
      1, -1, 0, 0,
    ]);
  });

  it("leaves what the standard leaves open", () => {
    expect(castArray(floats([1], [Number.NaN]), "int32")).toBeNull();
    expect(castArray(floats([1], [300]), "uint8")).toBeNull();
  });

  it("wraps integers and takes every number but 0 as true", () => {
    expect(numbers(castArray(tensor("int32", [2], [300, -1]), "uint8") ?? undefined)).toEqual([
      44, 255,
    ]);
    expect(numbers(castArray(floats([3], [0, 0.5, -2]), "bool") ?? undefined)).toEqual([0, 1, 1]);
  });

  it("rounds to the half precisions, to nearest, ties to even", () => {
    const x = floats([3], [1 + 2 ** -11, 1 + 3 * 2 ** -11, 70000]);
    expect(numbers(castArray(x, "float16") ?? undefined)).toEqual([
      1,
      1 + 2 ** -9,
      Number.POSITIVE_INFINITY,
    ]);
    const y = floats([2], [1 + 2 ** -8, 1 + 3 * 2 ** -8]);
    expect(numbers(castArray(y, "bfloat16") ?? undefined)).toEqual([1, 1 + 2 ** -6]);
  });
});
