import { describe, expect, it } from "vitest";
import {
  bf16ToNumber,
  decodeFloats,
  encodeFloatsOver,
  f16ToNumber,
  firstNonFinite,
  numberToBf16,
  numberToF16,
} from "../../../src/io/float-format.js";

interface Format {
  readonly exponentBits: number;
  readonly fractionBits: number;
  readonly toNumber: (bits: number) => number;
  readonly fromNumber: (value: number) => number;
}

const kFormats: [string, Format][] = [
  ["F16", { exponentBits: 5, fractionBits: 10, toNumber: f16ToNumber, fromNumber: numberToF16 }],
  ["BF16", { exponentBits: 8, fractionBits: 7, toNumber: bf16ToNumber, fromNumber: numberToBf16 }],
];

/** IEEE 754's definition, by arithmetic on its three fields. */
function reference(bits: number, { exponentBits, fractionBits }: Format): number {
  const sign = Math.floor(bits / 2 ** 15) === 1 ? -1 : 1;
  const exponent = Math.floor(bits / 2 ** fractionBits) % 2 ** exponentBits;
  const fraction = bits % 2 ** fractionBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  if (exponent === 2 ** exponentBits - 1) {
    return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  }
  const scale = 2 ** ((exponent === 0 ? 1 : exponent) - bias - fractionBits);
  return sign * (fraction + (exponent === 0 ? 0 : 2 ** fractionBits)) * scale;
}

describe.each(kFormats)("%s", (_name, format) => {
  const infinity = (2 ** format.exponentBits - 1) * 2 ** format.fractionBits;

  it("reads all 65536 values", () => {
    let wrong = 0;
    for (let bits = 0; bits < 65536; bits += 1) {
      wrong += Object.is(format.toNumber(bits), reference(bits, format)) ? 0 : 1;
    }
    expect(wrong).toBe(0);
  });

  it("writes all 65536 values back to their bits, NaN to a NaN", () => {
    let wrong = 0;
    for (let bits = 0; bits < 65536; bits += 1) {
      const value = reference(bits, format);
      const back = format.fromNumber(value);
      wrong += Number.isNaN(value)
        ? Number(!Number.isNaN(reference(back, format)))
        : Number(back !== bits);
    }
    expect(wrong).toBe(0);
  });

  it("rounds between every two neighbours to nearest, ties to even", () => {
    let wrong = 0;
    for (let bits = 0; bits + 1 < infinity; bits += 1) {
      const low = reference(bits, format);
      const high = reference(bits + 1, format);
      const middle = (low + high) / 2;
      // All three have at most 12 significant bits, so each is an f32, and so are the middle's neighbours.
      const below = neighbour(middle, -1);
      const above = neighbour(middle, 1);
      const even = bits % 2 === 0 ? bits : bits + 1;
      for (const sign of [1, -1]) {
        const flag = sign < 0 ? 0x8000 : 0;
        wrong += format.fromNumber(sign * middle) === flag + even ? 0 : 1;
        wrong += format.fromNumber(sign * below) === flag + bits ? 0 : 1;
        wrong += format.fromNumber(sign * above) === flag + bits + 1 ? 0 : 1;
      }
    }
    expect(wrong).toBe(0);
  });

  it("becomes infinite from half a step beyond its largest value", () => {
    const largest = reference(infinity - 1, format);
    const step = largest - reference(infinity - 2, format);
    expect(format.fromNumber(neighbour(largest + step / 2, -1))).toBe(infinity - 1);
    expect(format.fromNumber(Math.fround(largest + step / 2))).toBe(infinity);
    expect(format.fromNumber(Number.NEGATIVE_INFINITY)).toBe(0x8000 + infinity);
  });
});

/** The f32 next to a positive f32. */
function neighbour(value: number, direction: 1 | -1): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value);
  view.setUint32(0, view.getUint32(0) + direction);
  return view.getFloat32(0);
}

describe("decodeFloats and encodeFloatsOver", () => {
  it("rounds F64 to f32 and reports the first that overflows", () => {
    const bytes = new Uint8Array(new Float64Array([0.1, 1e300, Number.POSITIVE_INFINITY]).buffer);
    const target = new Float32Array(3);
    expect(decodeFloats("F64", bytes, target)).toBe(1);
    expect(target[0]).toBe(Math.fround(0.1));
    expect(decodeFloats("F64", bytes.subarray(16), new Float32Array(1))).toBe(-1);
  });

  it("reads at any alignment", () => {
    const bytes = new Uint8Array(9);
    new DataView(bytes.buffer).setFloat32(1, 1.5, true);
    new DataView(bytes.buffer).setFloat32(5, -2.5, true);
    const target = new Float32Array(2);
    expect(decodeFloats("F32", bytes.subarray(1), target)).toBe(-1);
    expect([...target]).toEqual([1.5, -2.5]);
  });

  it("keeps an F64's low digits where its f32 value stays, and tells −0 from 0", () => {
    const stored = new Float64Array([0.1, 0.2, -0]);
    const bytes = new Uint8Array(stored.buffer);
    expect(encodeFloatsOver("F64", new Float32Array([0.1, 0, 0]), bytes)).toBe(-1);
    expect(stored[0]).toBe(0.1);
    expect(stored[1]).toBe(0);
    expect(Object.is(stored[2], 0)).toBe(true);
  });

  it("reports the first value that F16 cannot hold", () => {
    const bytes = new Uint8Array(6);
    expect(encodeFloatsOver("F16", new Float32Array([65504, 65519, 65520]), bytes)).toBe(2);
  });

  it("finds NaN and infinity", () => {
    expect(firstNonFinite(new Float32Array([0, 1]))).toBe(-1);
    expect(firstNonFinite(new Float32Array([0, Number.NaN]))).toBe(1);
    expect(firstNonFinite(new Float32Array([Number.NEGATIVE_INFINITY]))).toBe(0);
  });
});
