import { FishermaskError } from "../native/errors.js";

/** The floating-point element types that convert to and from f32. All are little-endian, as is every supported host. */
export type FloatDtype = "F64" | "F32" | "F16" | "BF16";

export const FLOAT_BYTES: Readonly<Record<FloatDtype, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
};

export function isFloatDtype(dtype: string): dtype is FloatDtype {
  return Object.hasOwn(FLOAT_BYTES, dtype);
}

const kScratch = new DataView(new ArrayBuffer(4));

function bitsOfF32(value: number): number {
  kScratch.setFloat32(0, value);
  return kScratch.getUint32(0);
}

function f32OfBits(bits: number): number {
  kScratch.setUint32(0, bits);
  return kScratch.getFloat32(0);
}

/** The value of 16 bits as IEEE 754 binary16. Exact. */
export function f16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) {
    return sign * fraction * 2 ** -24;
  }
  if (exponent === 0x1f) {
    return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  }
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** The value of 16 bits as bfloat16: the upper half of an f32. Exact. */
export function bf16ToNumber(bits: number): number {
  return f32OfBits((bits << 16) >>> 0);
}

/** Drops the low `shift` bits of a non-negative integer, rounding to nearest, ties to even. */
function shiftRoundEven(value: number, shift: number): number {
  const kept = value >>> shift;
  const dropped = value & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  const up = dropped > half || (dropped === half && (kept & 1) === 1);
  return kept + (up ? 1 : 0);
}

/** An f32 rounded to binary16, to nearest, ties to even; beyond 65504 it becomes infinite, NaN becomes a quiet NaN. */
export function numberToF16(value: number): number {
  const bits = bitsOfF32(value);
  const sign = (bits >>> 16) & 0x8000;
  const exponent = (bits >>> 23) & 0xff;
  const fraction = bits & 0x7fffff;
  if (exponent === 0xff) {
    return sign | (fraction === 0 ? 0x7c00 : 0x7e00);
  }
  if (exponent >= 113) {
    // A carry out of the fraction moves on into the exponent, and out of the largest exponent into infinity.
    const rounded = shiftRoundEven(((exponent - 112) << 23) | fraction, 13);
    return sign | Math.min(rounded, 0x7c00);
  }
  // Subnormal in binary16: units of 2^-24. Below 2^-25 everything rounds to zero.
  return exponent < 102 ? sign : sign | shiftRoundEven(0x800000 | fraction, 126 - exponent);
}

/** An f32 rounded to bfloat16, to nearest, ties to even; NaN becomes a quiet NaN. */
export function numberToBf16(value: number): number {
  const bits = bitsOfF32(value);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  return magnitude > 0x7f800000 ? sign | 0x7fc0 : sign | shiftRoundEven(magnitude, 16);
}

type ReadElement = (view: DataView, byteOffset: number) => number;
type WriteElement = (view: DataView, byteOffset: number, value: number) => void;

const kRead: Readonly<Record<FloatDtype, ReadElement>> = {
  F64: (view, offset) => view.getFloat64(offset, true),
  F32: (view, offset) => view.getFloat32(offset, true),
  F16: (view, offset) => f16ToNumber(view.getUint16(offset, true)),
  BF16: (view, offset) => bf16ToNumber(view.getUint16(offset, true)),
};

const kWrite: Readonly<Record<FloatDtype, WriteElement>> = {
  F64: (view, offset, value) => view.setFloat64(offset, value, true),
  F32: (view, offset, value) => view.setFloat32(offset, value, true),
  F16: (view, offset, value) => view.setUint16(offset, numberToF16(value), true),
  BF16: (view, offset, value) => view.setUint16(offset, numberToBf16(value), true),
};

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Reads as many elements as `target` holds. F16, BF16 and F32 are exact; F64 is rounded to the nearest f32.
 *
 * @param bytes at least `target.length` elements of `dtype`, little-endian, at any alignment
 * @returns index of the first finite F64 that is infinite as f32, or −1
 */
export function decodeFloats(dtype: FloatDtype, bytes: Uint8Array, target: Float32Array): number {
  const view = viewOf(bytes);
  const read = kRead[dtype];
  const width = FLOAT_BYTES[dtype];
  let overflow = -1;
  for (let i = 0; i < target.length; i += 1) {
    const value = read(view, i * width);
    target[i] = value;
    if (overflow < 0 && Number.isFinite(value) && !Number.isFinite(target[i])) {
      overflow = i;
    }
  }
  return overflow;
}

/**
 * Writes f32 values over stored elements, rounding to nearest even where the type is narrower. An element whose stored
 * value already reads as the new value keeps its bits, so an F64 that was not changed does not lose its low digits.
 *
 * @param bytes the stored elements, little-endian, changed in place; `values.length` of them
 * @returns index of the first finite value that the type cannot hold (it would become infinite), or −1
 */
export function encodeFloatsOver(
  dtype: FloatDtype,
  values: Float32Array,
  bytes: Uint8Array,
): number {
  const view = viewOf(bytes);
  const read = kRead[dtype];
  const write = kWrite[dtype];
  const width = FLOAT_BYTES[dtype];
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i] as number;
    // Object.is tells −0 from 0: a weight masked to 0 must not stay −0.
    if (Object.is(Math.fround(read(view, i * width)), value)) {
      continue;
    }
    write(view, i * width, value);
    if (!Number.isFinite(read(view, i * width))) {
      return i;
    }
  }
  return -1;
}

/** Index of the first NaN or infinity, or −1. */
export function firstNonFinite(values: Float32Array): number {
  return values.findIndex((value) => !Number.isFinite(value));
}

/** An `ERR_FM_NON_FINITE` naming tensor and element. */
export function nonFiniteError(
  path: string,
  tensor: string,
  index: number,
  expected: string,
  received: number | undefined,
): FishermaskError {
  return new FishermaskError(
    "ERR_FM_NON_FINITE",
    `Expected ${expected} for element ${index} of tensor "${tensor}" of ${path} but received ${received}`,
    { details: { path, tensor, index } },
  );
}
