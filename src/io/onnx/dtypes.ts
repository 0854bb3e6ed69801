import { ONNX_DTYPES, type OnnxDType } from "./model.js";
import type { TypedField } from "./storage.js";

/** How elements of one type are stored. */
export interface DTypeLayout {
  /** Bits of an element in raw data; 0 for strings, which have no raw form. */
  readonly bits: number;
  /** The typed field that may hold elements in place of raw data. */
  readonly field: TypedField;
  /** Entries of the typed field that an element takes: 2 for complex, below 1 for packed small integers. */
  readonly entries: number;
}

function layout(bits: number, field: TypedField, entries = 1): DTypeLayout {
  return { bits, field, entries };
}

/** Source: the comments on TensorProto's data fields in onnx/onnx.proto. */
export const DTYPE_LAYOUT: Readonly<Record<OnnxDType, DTypeLayout>> = {
  float: layout(32, "float_data"),
  uint8: layout(8, "int32_data"),
  int8: layout(8, "int32_data"),
  uint16: layout(16, "int32_data"),
  int16: layout(16, "int32_data"),
  int32: layout(32, "int32_data"),
  int64: layout(64, "int64_data"),
  string: layout(0, "string_data"),
  bool: layout(8, "int32_data"),
  float16: layout(16, "int32_data"),
  double: layout(64, "double_data"),
  uint32: layout(32, "uint64_data"),
  uint64: layout(64, "uint64_data"),
  complex64: layout(64, "float_data", 2),
  complex128: layout(128, "double_data", 2),
  bfloat16: layout(16, "int32_data"),
  float8e4m3fn: layout(8, "int32_data"),
  float8e4m3fnuz: layout(8, "int32_data"),
  float8e5m2: layout(8, "int32_data"),
  float8e5m2fnuz: layout(8, "int32_data"),
  uint4: layout(4, "int32_data", 1 / 2),
  int4: layout(4, "int32_data", 1 / 2),
  float4e2m1: layout(4, "int32_data", 1 / 2),
  float8e8m0: layout(8, "int32_data"),
  uint2: layout(2, "int32_data", 1 / 4),
  int2: layout(2, "int32_data", 1 / 4),
  float6e2m3: layout(6, "int32_data"),
  float6e3m2: layout(6, "int32_data"),
};

/** The type of a TensorProto.DataType number, or null for UNDEFINED and unknown ones. */
export function dtypeOfCode(code: number): OnnxDType | null {
  return ONNX_DTYPES[code - 1] ?? null;
}

/** Bytes of `elements` elements in raw data; the last byte of a packed type may be part filled. */
export function rawBytes(dtype: OnnxDType, elements: number): number {
  return Math.ceil((elements / 8) * DTYPE_LAYOUT[dtype].bits);
}

/** Entries that `elements` elements take in the typed field. */
export function typedEntries(dtype: OnnxDType, elements: number): number {
  return Math.ceil(elements * DTYPE_LAYOUT[dtype].entries);
}

/** Bytes of an entry where they are fixed, or null for varints and strings. */
export function entryBytes(field: TypedField): 4 | 8 | null {
  if (field === "float_data") {
    return 4;
  }
  return field === "double_data" ? 8 : null;
}
