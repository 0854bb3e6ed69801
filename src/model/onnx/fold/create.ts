import { elementCount, isFloat } from "../operand.js";
import {
  allocate,
  bigIntsOf,
  floatArray,
  foldError,
  int64Array,
  integerArray,
  numbersOf,
  scalarOf,
  takeElements,
} from "./array.js";
import type { Folder, Folders } from "./attributes.js";
import { dtypeOf } from "./cast.js";
import { forEachIndex } from "./places.js";

/** The part of the sizes that ONNX Shape asks for: `start` and `end` count from the end when negative and are clamped. */
export function shapeSlice(
  dims: readonly number[],
  start: number,
  end?: number,
): readonly number[] {
  const rank = dims.length;
  const clamp = (axis: number): number =>
    Math.min(Math.max(axis < 0 ? axis + rank : axis, 0), rank);
  return dims.slice(clamp(start), Math.max(clamp(start), clamp(end ?? rank)));
}

const constantOfShape: Folder = ([shape], attributes) => {
  if (!shape) return null;
  const dims = numbersOf(shape);
  if (dims.some((size) => size < 0)) throw foldError("sizes of 0 or more", `(${dims.join()})`);
  const value = attributes.tensor("value") ?? floatArray("float", [], [0]);
  if (value.data.length !== 1) throw foldError("a value of one element", `(${value.dims.join()})`);
  return [takeElements(value, dims, new Int32Array(allocate(value.dtype, dims).length))];
};

/** start, start + delta, … before limit; floats are each start + i·delta in the type. */
const range: Folder = ([start, limit, delta]) => {
  if (!start || !limit || !delta) return null;
  if (isFloat(start.dtype)) {
    const [from = 0, to = 0, by = 0] = [start, limit, delta].map((each) => numbersOf(each)[0]);
    const count = Math.max(Math.ceil((to - from) / by), 0);
    const places = allocate(start.dtype, [count]).length;
    return [
      floatArray(
        start.dtype,
        [count],
        Array.from({ length: places }, (_, i) => from + i * by),
      ),
    ];
  }
  const [from = 0n, to = 0n, by = 0n] = [start, limit, delta].map((each) => bigIntsOf(each)[0]);
  if (by === 0n) throw foldError("a step other than 0", "0");
  const span = to - from;
  const steps = span / by + (span % by === 0n ? 0n : 1n);
  const count = span > 0n === by > 0n && span !== 0n ? Number(steps) : 0;
  const places = allocate(start.dtype, [count]).length;
  const values = Array.from({ length: places }, (_, i) => from + BigInt(i) * by);
  return [integerArray(start.dtype, [count], values)];
};

const eyeLike: Folder = ([x], attributes) => {
  if (x?.dims.length !== 2) return null;
  const dtype = attributes.has("dtype") ? dtypeOf(attributes.int("dtype")) : x.dtype;
  const shift = attributes.int("k", 0);
  if (dtype === undefined) return null;
  const one = scalarOf(dtype, 1);
  const places: number[] = [];
  forEachIndex(x.dims, ([row = 0, column = 0]) => places.push(column - row === shift ? 0 : -1));
  return [takeElements(one, x.dims, places)];
};

/** The cosine windows: Σ over j of (−1)^j · a_j · cos(2πjn/N), N one less where the window is symmetric. */
function window(terms: readonly number[]): Folder {
  return ([size], attributes) => {
    const dtype = dtypeOf(attributes.int("output_datatype", 1));
    if (!size || !dtype || !isFloat(dtype)) return null;
    const count = numbersOf(size)[0] ?? 0;
    const period = attributes.int("periodic", 1) !== 0 ? count : count - 1;
    const value = (n: number): number =>
      terms.reduce(
        (sum, a, j) => sum + (j % 2 ? -a : a) * Math.cos((2 * Math.PI * j * n) / period),
        0,
      );
    const places = allocate(dtype, [count]).length;
    return [
      floatArray(
        dtype,
        [count],
        Array.from({ length: places }, (_, n) => value(n)),
      ),
    ];
  };
}

/** Operators that make a tensor out of sizes and numbers. */
export const createFolders: Folders = {
  Shape: ([x], attributes) => {
    if (!x) return null;
    const end = attributes.has("end") ? attributes.int("end") : undefined;
    const sizes = shapeSlice(x.dims, attributes.int("start", 0), end);
    return [int64Array([sizes.length], sizes)];
  },
  Size: ([x]) => (x ? [int64Array([], [elementCount(x.dims)])] : null),
  ConstantOfShape: constantOfShape,
  Range: range,
  EyeLike: eyeLike,
  HannWindow: window([0.5, 0.5]),
  HammingWindow: window([25 / 46, 21 / 46]),
  BlackmanWindow: window([0.42, 0.5, 0.08]),
};
