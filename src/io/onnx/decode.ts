import { FishermaskError } from "../../native/errors.js";
import { badFile } from "../file-error.js";
import { bf16ToNumber, decodeFloats, type FloatDtype, f16ToNumber } from "../float-format.js";
import { entryBytes, rawBytes, typedEntries } from "./dtypes.js";
import { walkEntries } from "./entries.js";
import type { OnnxArray, OnnxData, OnnxDType, OnnxTensor } from "./model.js";
import type { TypedPiece } from "./storage.js";
import { type Reading, type Varint, varintToInt64, varintToUint64 } from "./wire.js";

// What is converted while it is read passes through a buffer of at most this many bytes.
const kChunkBytes = 1024 * 1024;

type NativeDType = "float" | "double" | `${"" | "u"}int${8 | 16 | 32 | 64}`;

// Stored as they are in memory: every supported host is little-endian.
const kNative: Readonly<Record<NativeDType, (elements: number) => OnnxData>> = {
  float: (elements) => new Float32Array(elements),
  double: (elements) => new Float64Array(elements),
  int8: (elements) => new Int8Array(elements),
  int16: (elements) => new Int16Array(elements),
  int32: (elements) => new Int32Array(elements),
  int64: (elements) => new BigInt64Array(elements),
  uint8: (elements) => new Uint8Array(elements),
  uint16: (elements) => new Uint16Array(elements),
  uint32: (elements) => new Uint32Array(elements),
  uint64: (elements) => new BigUint64Array(elements),
};

function isNative(dtype: OnnxDType): dtype is NativeDType {
  return Object.hasOwn(kNative, dtype);
}

const kHalf: ReadonlyMap<OnnxDType, FloatDtype> = new Map([
  ["float16", "F16"],
  ["bfloat16", "BF16"],
]);

// Bits of an element, and whether it has a sign.
const kPackedIntegers: ReadonlyMap<OnnxDType, { bits: 2 | 4; signed: boolean }> = new Map([
  ["uint4", { bits: 4, signed: false }],
  ["int4", { bits: 4, signed: true }],
  ["uint2", { bits: 2, signed: false }],
  ["int2", { bits: 2, signed: true }],
]);

function label(tensor: OnnxTensor): string {
  return tensor.name === "" ? "a tensor without a name" : `tensor ${JSON.stringify(tensor.name)}`;
}

/** Takes memory for a tensor, which may be more than there is, or than an array can hold. */
function take<T>(source: string, tensor: OnnxTensor, make: () => T): T {
  try {
    return make();
  } catch (cause) {
    if (!(cause instanceof RangeError)) {
      throw cause;
    }
    const message = `could not take memory for the ${tensor.elements} elements of ${label(tensor)} of ${source}`;
    const details = { path: source, tensor: tensor.name };
    throw new FishermaskError("ERR_FM_OUT_OF_MEMORY", message, { cause, details });
  }
}

/** An array for the elements of a tensor, all zero. */
function allocate(source: string, tensor: OnnxTensor): OnnxData {
  const { dtype, elements } = tensor;
  if (isNative(dtype)) {
    return kNative[dtype](elements);
  }
  if (kHalf.has(dtype)) {
    return new Float32Array(elements);
  }
  if (dtype === "bool") {
    return new Uint8Array(elements);
  }
  const packed = kPackedIntegers.get(dtype);
  if (packed === undefined) {
    const expected = "a numeric type that has an array in JavaScript";
    throw new FishermaskError(
      "ERR_FM_DTYPE",
      `Expected ${expected} for ${label(tensor)} of ${source} but received ${dtype}`,
      { details: { path: source, tensor: tensor.name } },
    );
  }
  return packed.signed ? new Int8Array(elements) : new Uint8Array(elements);
}

/** Spreads packed small integers, the first in the lowest bits, over one array element each. */
function unpack(dtype: OnnxDType, bytes: Uint8Array, into: OnnxData): void {
  const { bits, signed } = kPackedIntegers.get(dtype) ?? { bits: 4, signed: false };
  const perByte = 8 / bits;
  const mask = (1 << bits) - 1;
  const sign = signed ? 1 << (bits - 1) : 0;
  for (let i = 0; i < into.length; i += 1) {
    const field = ((bytes[Math.floor(i / perByte)] as number) >> ((i % perByte) * bits)) & mask;
    into[i] = (field ^ sign) - sign;
  }
}

function* decodeHalves(format: FloatDtype, begin: number, into: Float32Array): Reading<void> {
  const perChunk = kChunkBytes / 2;
  for (let start = 0; start < into.length; start += perChunk) {
    const part = into.subarray(start, start + perChunk);
    const target = new Uint8Array(2 * part.length);
    yield { position: begin + 2 * start, target };
    decodeFloats(format, target, part);
  }
}

function* decodeRaw(tensor: OnnxTensor, begin: number, data: OnnxData): Reading<void> {
  const { dtype, elements } = tensor;
  const half = kHalf.get(dtype);
  if (half !== undefined && data instanceof Float32Array) {
    yield* decodeHalves(half, begin, data);
    return;
  }
  if (kPackedIntegers.has(dtype)) {
    const target = new Uint8Array(rawBytes(dtype, elements));
    yield { position: begin, target };
    unpack(dtype, target, data);
    return;
  }
  yield { position: begin, target: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
  if (dtype === "bool") {
    (data as Uint8Array).forEach((value, index) => {
      data[index] = value === 0 ? 0 : 1;
    });
  }
}

/** Stores the value of a varint as the element that it stands for, or returns false where it is none of the type. */
type StoreEntry = (index: number, value: Varint) => boolean;

function storeHalf(data: OnnxData, toNumber: (bits: number) => number): StoreEntry {
  return (index, { low, high }) => {
    data[index] = toNumber(low & 0xffff);
    return high === 0 && low <= 0xffff;
  };
}

/** Signed entries as int32_data has them; what the array cannot hold comes back changed. */
function storeSmall(data: OnnxData): StoreEntry {
  return (index, { low, high }) => {
    const value = low | 0;
    data[index] = value;
    return data[index] === value && (high | 0) === (value < 0 ? -1 : 0);
  };
}

function storeFor(tensor: OnnxTensor, data: OnnxData): StoreEntry {
  if (data instanceof BigInt64Array) {
    return (index, value) => {
      data[index] = varintToInt64(value);
      return true;
    };
  }
  if (data instanceof BigUint64Array) {
    return (index, value) => {
      data[index] = varintToUint64(value);
      return true;
    };
  }
  switch (tensor.dtype) {
    case "float16":
      return storeHalf(data, f16ToNumber);
    case "bfloat16":
      return storeHalf(data, bf16ToNumber);
    case "uint32":
      return (index, { low, high }) => {
        data[index] = low;
        return high === 0;
      };
    case "bool":
      return (index, { low, high }) => {
        data[index] = low === 0 && high === 0 ? 0 : 1;
        return true;
      };
    default:
      return storeSmall(data);
  }
}

function malformed(source: string, tensor: OnnxTensor, piece: TypedPiece, at: number): Error {
  const where = `${label(tensor)} (byte ${piece.range.begin + at})`;
  const expected = `${tensor.elements} elements of ${tensor.dtype}`;
  return badFile(source, where, expected, "another number of them, or one that the type lacks");
}

function* pieceBytes(source: string, tensor: OnnxTensor, piece: TypedPiece): Reading<Uint8Array> {
  const { begin, end } = piece.range;
  const target = take(source, tensor, () => new Uint8Array(end - begin));
  yield { position: piece.range.begin, target };
  return target;
}

/** float_data and double_data: the entries are the elements' bytes. */
function* decodeFixed(
  source: string,
  tensor: OnnxTensor,
  pieces: readonly TypedPiece[],
  data: Float32Array | Float64Array,
): Reading<void> {
  const field = data instanceof Float32Array ? "float_data" : "double_data";
  const into = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  let filled = 0;
  for (const piece of pieces) {
    if (piece.packed) {
      const target = into.subarray(filled, filled + piece.range.end - piece.range.begin);
      yield { position: piece.range.begin, target };
      filled += target.byteLength;
      continue;
    }
    const bytes = yield* pieceBytes(source, tensor, piece);
    const left = (into.byteLength - filled) / (entryBytes(field) ?? 1);
    const count = walkEntries(bytes, piece, field, left, (begin, end) => {
      into.set(bytes.subarray(begin, end), filled);
      filled += end - begin;
    });
    if (count < 0) {
      throw malformed(source, tensor, piece, -1 - count);
    }
  }
}

function* decodeVarints(
  source: string,
  tensor: OnnxTensor,
  pieces: readonly TypedPiece[],
  entries: number,
  store: StoreEntry,
): Reading<void> {
  let index = 0;
  for (const piece of pieces) {
    const bytes = yield* pieceBytes(source, tensor, piece);
    let wrong = -1;
    const count = walkEntries(bytes, piece, "int32_data", entries - index, (begin, _end, value) => {
      if (!store(index, value) && wrong < 0) {
        wrong = begin;
      }
      index += 1;
    });
    if (count < 0 || wrong >= 0) {
      throw malformed(source, tensor, piece, count < 0 ? -1 - count : wrong);
    }
  }
  if (index !== entries) {
    throw malformed(source, tensor, pieces.at(-1) as TypedPiece, 0);
  }
}

function* decodeTyped(
  source: string,
  tensor: OnnxTensor,
  pieces: readonly TypedPiece[],
  data: OnnxData,
): Reading<void> {
  const { dtype, elements } = tensor;
  if (dtype === "float" || dtype === "double") {
    yield* decodeFixed(source, tensor, pieces, data as Float32Array | Float64Array);
    return;
  }
  const entries = typedEntries(dtype, elements);
  if (!kPackedIntegers.has(dtype)) {
    yield* decodeVarints(source, tensor, pieces, entries, storeFor(tensor, data));
    return;
  }
  const packed = new Uint8Array(entries);
  // A byte of packed integers may have been sign-extended.
  const store: StoreEntry = (index, { low }) => {
    packed[index] = low & 0xff;
    return low <= 0xff || low >= 0xffffff80;
  };
  yield* decodeVarints(source, tensor, pieces, entries, store);
  unpack(dtype, packed, data);
}

/**
 * The elements of a tensor. Positions asked for are those of the file that holds its data: the model's, or the external
 * one. Takes the memory of the elements, and of one piece of the file where they are not stored as they are.
 *
 * @param source the file's name, for messages
 * @throws {@link FishermaskError} `ERR_FM_DTYPE` for strings, complex numbers and floats of 8 bits and fewer,
 * `ERR_FM_BAD_FILE` where the data are not those of the tensor, `ERR_FM_OUT_OF_MEMORY`
 */
export function* decodeTensor(source: string, tensor: OnnxTensor): Reading<OnnxArray> {
  const { dtype, dims, storage } = tensor;
  const data = take(source, tensor, () => allocate(source, tensor));
  if (storage.kind === "raw") {
    yield* decodeRaw(tensor, storage.range.begin, data);
  } else if (storage.kind === "external") {
    yield* decodeRaw(tensor, storage.offset, data);
  } else if (storage.kind === "typed") {
    yield* decodeTyped(source, tensor, storage.pieces, data);
  }
  return { dtype, dims, data };
}
