import type { OnnxArray, OnnxDType } from "../../../io/onnx/model.js";
import { ONNX_DTYPES } from "../../../io/onnx/model.js";
import { isFloat } from "../operand.js";
import { allocate, bigIntsOf, floatArray, integerArray, isFoldable, numbersOf } from "./array.js";
import type { Folders } from "./attributes.js";

/** The dtype of a number of TensorProto.DataType; undefined for one that is not known. */
export function dtypeOf(code: number): OnnxDType | undefined {
  return ONNX_DTYPES[code - 1];
}

const kRanges: Readonly<Partial<Record<OnnxDType, readonly [number, number]>>> = {
  int8: [-(2 ** 7), 2 ** 7],
  int16: [-(2 ** 15), 2 ** 15],
  int32: [-(2 ** 31), 2 ** 31],
  int64: [-(2 ** 63), 2 ** 63],
  uint8: [0, 2 ** 8],
  uint16: [0, 2 ** 16],
  uint32: [0, 2 ** 32],
  uint64: [0, 2 ** 64],
};

/** Integers of less than a byte, which are read as one byte each and never made. */
const kNarrow: ReadonlySet<OnnxDType> = new Set<OnnxDType>(["int4", "uint4", "int2", "uint2"]);

/**
 * The array as another type: floats are rounded to nearest, truncated towards 0 on the way to integers; integers wrap;
 * bool is 1 where an element is not 0. null where the standard leaves the value open (NaN or a number out of range to an
 * integer) or a type is not numeric.
 */
export function castArray(array: OnnxArray, dtype: OnnxDType): OnnxArray | null {
  const { dims } = array;
  if (!(isFoldable(array.dtype) || kNarrow.has(array.dtype)) || !isFoldable(dtype)) return null;
  if (dtype === array.dtype) return array;
  if (dtype === "bool") {
    const data = allocate("bool", dims) as Uint8Array;
    numbersOf(array).forEach((value, i) => {
      data[i] = value === 0 ? 0 : 1;
    });
    return { dtype, dims, data };
  }
  if (isFloat(dtype)) return floatArray(dtype, dims, numbersOf(array));
  if (!isFloat(array.dtype)) return integerArray(dtype, dims, bigIntsOf(array));
  const values = numbersOf(array).map(Math.trunc);
  const [low, high] = kRanges[dtype] ?? [0, 0];
  if (!values.every((value) => value >= low && value < high)) return null;
  return integerArray(dtype, dims, values.map(BigInt));
}

export const castFolders: Folders = {
  Cast: ([x], attributes) => {
    const dtype = dtypeOf(attributes.int("to"));
    const result = x && dtype ? castArray(x, dtype) : null;
    return result && [result];
  },
  CastLike: ([x, like]) => {
    const result = x && like ? castArray(x, like.dtype) : null;
    return result && [result];
  },
};
