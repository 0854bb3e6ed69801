import type { OnnxArray } from "../../../io/onnx/model.js";
import { elementCount, isFloat } from "../operand.js";
import {
  bigIntsOf,
  floatArray,
  foldAxis,
  foldError,
  int64Array,
  integerArray,
  numbersOf,
  stridesOf,
} from "./array.js";
import type { FoldAttributes, Folder, Folders } from "./attributes.js";
import { forEachIndex } from "./places.js";

interface Reduction {
  readonly real: (values: readonly number[]) => number;
  readonly whole?: (values: readonly bigint[]) => bigint;
}

export interface ReducedAxes {
  /** From 0, ascending; none where nothing is to be reduced. */
  readonly axes: readonly number[];
  readonly keepdims: boolean;
}

/**
 * The axes that an ONNX Reduce operator takes: all where none are given, unless `noop_with_empty_axes`.
 */
export function reducedAxes(
  rank: number,
  given: readonly number[] | undefined,
  attributes: FoldAttributes,
): ReducedAxes {
  const keepdims = attributes.int("keepdims", 1) !== 0;
  if (given === undefined || given.length === 0) {
    const none = attributes.int("noop_with_empty_axes", 0) !== 0;
    return { axes: none ? [] : Array.from({ length: rank }, (_, i) => i), keepdims };
  }
  const axes = [...new Set(given.map((axis) => foldAxis(axis, rank)))];
  return { axes: axes.sort((a, b) => a - b), keepdims };
}

/** The sizes of a reduction's result. */
export function reducedDims(
  dims: readonly number[],
  { axes, keepdims }: ReducedAxes,
): readonly number[] {
  return dims.flatMap((size, axis) => (axes.includes(axis) ? (keepdims ? [1] : []) : [size]));
}

/** The elements that fall into each result, in row-major order. */
function groups<T>(values: readonly T[], dims: readonly number[], axes: readonly number[]): T[][] {
  const kept = dims.map((size, axis) => (axes.includes(axis) ? 1 : size));
  const strides = stridesOf(kept);
  const out: T[][] = Array.from({ length: elementCount(kept) }, () => []);
  forEachIndex(dims, (index, flat) => {
    const place = index.reduce(
      (sum, each, axis) => sum + (axes.includes(axis) ? 0 : each * (strides[axis] as number)),
      0,
    );
    (out[place] as T[]).push(values[flat] as T);
  });
  return out;
}

function reduce(reduction: Reduction): Folder {
  return ([x, given], attributes) => {
    if (!x) return null;
    const chosen = given ? numbersOf(given) : attributes.ints("axes");
    const reduced = reducedAxes(x.dims.length, chosen, attributes);
    const dims = reducedDims(x.dims, reduced);
    if (isFloat(x.dtype)) {
      const values = groups(numbersOf(x), x.dims, reduced.axes).map(reduction.real);
      return [floatArray(x.dtype, dims, values)];
    }
    const { whole } = reduction;
    if (whole === undefined) return null;
    return [integerArray(x.dtype, dims, groups(bigIntsOf(x), x.dims, reduced.axes).map(whole))];
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function wholeSum(values: readonly bigint[]): bigint {
  return values.reduce((total, value) => total + value, 0n);
}

/** The largest, or smallest, which must exist for integers. */
function wholeExtreme(
  better: (a: bigint, b: bigint) => boolean,
): (values: readonly bigint[]) => bigint {
  return (values) => {
    const [first, ...rest] = values;
    if (first === undefined) throw foldError("something to reduce", "nothing");
    return rest.reduce((best, value) => (better(value, best) ? value : best), first);
  };
}

function logSumExp(values: readonly number[]): number {
  const largest = values.reduce((best, value) => Math.max(best, value), Number.NEGATIVE_INFINITY);
  if (!Number.isFinite(largest)) return largest;
  return largest + Math.log(sum(values.map((value) => Math.exp(value - largest))));
}

/** Index of the first (or last) best element; NaN is not handled here. */
function best(
  values: readonly number[],
  better: (a: number, b: number) => boolean,
  last: boolean,
): number {
  let place = 0;
  values.forEach((value, i) => {
    const current = values[place] as number;
    if (better(value, current) || (last && value === current)) place = i;
  });
  return place;
}

function argument(better: (a: number, b: number) => boolean): Folder {
  return ([x], attributes) => {
    if (!x || x.dtype === "int64" || x.dtype === "uint64") return null;
    const values = numbersOf(x);
    if (values.some(Number.isNaN)) return null;
    const axis = foldAxis(attributes.int("axis", 0), x.dims.length);
    const dims = reducedDims(x.dims, {
      axes: [axis],
      keepdims: attributes.int("keepdims", 1) !== 0,
    });
    const last = attributes.int("select_last_index", 0) !== 0;
    return [
      int64Array(
        dims,
        groups(values, x.dims, [axis]).map((each) => best(each, better, last)),
      ),
    ];
  };
}

function running<T>(
  values: readonly T[],
  x: OnnxArray,
  axis: number,
  options: { readonly zero: T; readonly exclusive: boolean; readonly reverse: boolean },
  add: (a: T, b: T) => T,
): T[] {
  const size = x.dims[axis] as number;
  const stride = stridesOf(x.dims)[axis] as number;
  const out = [...values];
  forEachIndex(x.dims.with(axis, 1), (index) => {
    const strides = stridesOf(x.dims);
    const start = index.reduce((place, each, i) => place + each * (strides[i] as number), 0);
    let total = options.zero;
    for (let i = 0; i < size; i++) {
      const place = start + (options.reverse ? size - 1 - i : i) * stride;
      const next = add(total, values[place] as T);
      out[place] = options.exclusive ? total : next;
      total = next;
    }
  });
  return out;
}

const cumSum: Folder = ([x, along], attributes) => {
  if (!x || !along) return null;
  const axis = foldAxis(numbersOf(along)[0] ?? 0, x.dims.length);
  const flags = {
    exclusive: attributes.int("exclusive", 0) !== 0,
    reverse: attributes.int("reverse", 0) !== 0,
  };
  if (isFloat(x.dtype)) {
    const values = running(numbersOf(x), x, axis, { zero: 0, ...flags }, (a, b) => a + b);
    return [floatArray(x.dtype, x.dims, values)];
  }
  const values = running(bigIntsOf(x), x, axis, { zero: 0n, ...flags }, (a, b) => a + b);
  return [integerArray(x.dtype, x.dims, values)];
};

function absolute(value: bigint): bigint {
  return value < 0n ? -value : value;
}

/** Operators over whole axes. Integer sums and products are exact and wrap. */
export const reduceFolders: Folders = {
  ReduceSum: reduce({ real: sum, whole: wholeSum }),
  ReduceMean: reduce({ real: (values) => sum(values) / values.length }),
  ReduceProd: reduce({
    real: (values) => values.reduce((product, value) => product * value, 1),
    whole: (values) => values.reduce((product, value) => BigInt.asIntN(64, product * value), 1n),
  }),
  ReduceMax: reduce({
    real: (values) =>
      values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY),
    whole: wholeExtreme((a, b) => a > b),
  }),
  ReduceMin: reduce({
    real: (values) =>
      values.reduce((least, value) => Math.min(least, value), Number.POSITIVE_INFINITY),
    whole: wholeExtreme((a, b) => a < b),
  }),
  ReduceL1: reduce({
    real: (values) => sum(values.map(Math.abs)),
    whole: (values) => wholeSum(values.map(absolute)),
  }),
  ReduceL2: reduce({ real: (values) => Math.sqrt(sum(values.map((value) => value * value))) }),
  ReduceSumSquare: reduce({
    real: (values) => sum(values.map((value) => value * value)),
    whole: (values) => wholeSum(values.map((value) => value * value)),
  }),
  ReduceLogSum: reduce({ real: (values) => Math.log(sum(values)) }),
  ReduceLogSumExp: reduce({ real: logSumExp }),
  ArgMax: argument((a, b) => a > b),
  ArgMin: argument((a, b) => a < b),
  CumSum: cumSum,
};
