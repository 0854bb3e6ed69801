import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from "../../../io/float-format.js";
import type { OnnxArray, OnnxData, OnnxDType } from "../../../io/onnx/model.js";
import { FishermaskError } from "../../../native/errors.js";
import { elementCount, isFloat } from "../operand.js";

/** More elements than this are not folded: a few bytes of a file may ask for any number of them. */
const kMostElements = 2 ** 26;

type MakeData = (count: number) => OnnxData;

const kMakers: Readonly<Partial<Record<OnnxDType, MakeData>>> = {
  float: (count) => new Float32Array(count),
  double: (count) => new Float64Array(count),
  float16: (count) => new Float32Array(count),
  bfloat16: (count) => new Float32Array(count),
  int8: (count) => new Int8Array(count),
  int16: (count) => new Int16Array(count),
  int32: (count) => new Int32Array(count),
  int64: (count) => new BigInt64Array(count),
  uint8: (count) => new Uint8Array(count),
  uint16: (count) => new Uint16Array(count),
  uint32: (count) => new Uint32Array(count),
  uint64: (count) => new BigUint64Array(count),
  bool: (count) => new Uint8Array(count),
};

/** Floats, integers of 8 to 64 bits, and bool. */
export function isFoldable(dtype: OnnxDType): boolean {
  return kMakers[dtype] !== undefined;
}

/** An `ERR_FM_UNSUPPORTED`: what folding found that it does not take. The caller names the node. */
export function foldError(expected: string, received: string): FishermaskError {
  return new FishermaskError("ERR_FM_UNSUPPORTED", `Expected ${expected} but received ${received}`);
}

/**
 * Zeros of this dtype.
 *
 * @throws {FishermaskError} `ERR_FM_UNSUPPORTED` for a dtype that is not foldable or more than 2^26 elements
 */
export function allocate(dtype: OnnxDType, dims: readonly number[]): OnnxData {
  const make = kMakers[dtype];
  if (make === undefined) throw foldError("a numeric tensor", dtype);
  const count = elementCount(dims);
  if (!(count >= 0 && count <= kMostElements)) {
    throw foldError(`at most ${kMostElements} constant elements`, `(${dims.join()})`);
  }
  return make(count);
}

export function isBig(data: OnnxData): data is BigInt64Array | BigUint64Array {
  return data instanceof BigInt64Array || data instanceof BigUint64Array;
}

/** Row-major strides, in elements. */
export function stridesOf(dims: readonly number[]): number[] {
  const strides = dims.map(() => 1);
  for (let axis = dims.length - 2; axis >= 0; axis--) {
    strides[axis] = (strides[axis + 1] as number) * (dims[axis + 1] as number);
  }
  return strides;
}

/** The axis counted from 0. */
export function foldAxis(axis: number, rank: number): number {
  if (!(Number.isInteger(axis) && axis >= -rank && axis < rank)) {
    throw foldError(`an axis of ${rank} sizes`, String(axis));
  }
  return axis < 0 ? axis + rank : axis;
}

/** Every element as a double; 64-bit integers beyond 2^53 are rounded. */
export function numbersOf(array: OnnxArray): readonly number[] {
  return Array.from<number | bigint, number>(array.data as ArrayLike<number | bigint>, Number);
}

/** Every element of an integer or bool array, exactly. */
export function bigIntsOf(array: OnnxArray): readonly bigint[] {
  return Array.from<number | bigint, bigint>(array.data as ArrayLike<number | bigint>, BigInt);
}

/** The nearest value of the dtype: the two half precisions are stored as f32. */
export function roundTo(dtype: OnnxDType, value: number): number {
  if (dtype === "float16") return f16ToNumber(numberToF16(value));
  if (dtype === "bfloat16") return bf16ToNumber(numberToBf16(value));
  return value;
}

/** An array of a float dtype, every value rounded to it. */
export function floatArray(
  dtype: OnnxDType,
  dims: readonly number[],
  values: ArrayLike<number>,
): OnnxArray {
  const data = allocate(dtype, dims);
  if (isBig(data)) throw foldError("a float type", dtype);
  for (let i = 0; i < data.length; i++) data[i] = roundTo(dtype, values[i] as number);
  return { dtype, dims, data };
}

/** An array of an integer dtype, every value wrapped as two's complement; bool takes 0 and 1. */
export function integerArray(
  dtype: OnnxDType,
  dims: readonly number[],
  values: ArrayLike<bigint>,
): OnnxArray {
  const data = allocate(dtype, dims);
  for (let i = 0; i < data.length; i++) {
    const value = values[i] as bigint;
    if (isBig(data)) data[i] = value;
    else data[i] = Number(BigInt.asIntN(53, value));
  }
  return { dtype, dims, data };
}

/** An int64 array of one or more numbers. */
export function int64Array(dims: readonly number[], values: readonly number[]): OnnxArray {
  return integerArray("int64", dims, values.map(BigInt));
}

export function boolArray(dims: readonly number[], values: readonly boolean[]): OnnxArray {
  return { dtype: "bool", dims, data: Uint8Array.from(values, Number) };
}

/** One number as a scalar of any foldable dtype (truncated where the dtype is an integer). */
export function scalarOf(dtype: OnnxDType, value: number): OnnxArray {
  if (isFloat(dtype)) return floatArray(dtype, [], [value]);
  return integerArray(dtype, [], [BigInt(Math.trunc(value))]);
}

/** The array with each element where `places` says it stands in the source; −1 takes the fill (0 where left out). */
export function takeElements(
  source: OnnxArray,
  dims: readonly number[],
  places: ArrayLike<number>,
  fill?: number | bigint,
): OnnxArray {
  const data = allocate(source.dtype, dims);
  const from = source.data;
  if (isBig(data) && isBig(from)) {
    const value = fill === undefined ? 0n : BigInt(fill);
    for (let i = 0; i < data.length; i++) data[i] = from[places[i] as number] ?? value;
  } else if (!isBig(data) && !isBig(from)) {
    const value = Number(fill ?? 0);
    for (let i = 0; i < data.length; i++) data[i] = from[places[i] as number] ?? value;
  }
  return { dtype: source.dtype, dims, data };
}

/** The same elements under other sizes. */
export function withDims(array: OnnxArray, dims: readonly number[]): OnnxArray {
  if (elementCount(dims) !== array.data.length) {
    throw foldError(`${array.data.length} elements`, `(${dims.join()})`);
  }
  return { ...array, dims };
}
