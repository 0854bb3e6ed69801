import { describe, expect, it } from "vitest";
import { rawBytes } from "../../../../src/io/onnx/dtypes.js";
import type { OnnxData, OnnxDType } from "../../../../src/io/onnx/model.js";
import { parseTensorProto } from "../../../../src/io/onnx/tensor-proto.js";
import { expectError } from "../support.js";
import {
  bytes,
  concat,
  packedDoubles,
  packedFloats,
  packedInts,
  raw,
  singleDoubles,
  singleFloats,
  singleInts,
  tensor,
} from "./writer.js";

function decoded(dtype: OnnxDType, count: number, data: Uint8Array): OnnxData {
  const { data: elements, ...rest } = parseTensorProto(tensor("t", dtype, [count], data), "t.pb");
  expect(rest).toEqual({ name: "t", dtype, dims: [count] });
  return elements;
}

// 1, −2, the largest half and infinity as binary16, and as bfloat16 without it.
const kHalfBits = [0x3c00, 0xc000, 0x7bff, 0x7c00];
const kHalves = Float32Array.of(1, -2, 65504, Number.POSITIVE_INFINITY);
const kBrainBits = [0x3f80, 0xc000, 0x4049];
const kBrains = Float32Array.of(1, -2, 3.140625);

describe("the bytes of raw data", () => {
  it.each<[OnnxDType, number, number]>([
    ["float", 5, 20],
    ["complex128", 5, 80],
    ["int4", 5, 3],
    ["uint2", 5, 2],
    ["float6e3m2", 5, 4],
    ["bool", 0, 0],
    ["double", 2 ** 47, 2 ** 50],
  ])("of type %s are for %d elements %d", (dtype, elements, expected) => {
    expect(rawBytes(dtype, elements)).toBe(expected);
  });
});

describe("the elements of a tensor", () => {
  const cases: [OnnxDType, string, Uint8Array, OnnxData][] = [
    ["float", "raw", raw(Float32Array.of(1, -0, 3)), Float32Array.of(1, -0, 3)],
    ["float", "packed", packedFloats([1, -2]), Float32Array.of(1, -2)],
    [
      "float",
      "in two packed pieces",
      concat(packedFloats([1]), packedFloats([2])),
      Float32Array.of(1, 2),
    ],
    ["float", "one by one", singleFloats([1, 2, 3]), Float32Array.of(1, 2, 3)],
    [
      "float",
      "mixed",
      concat(singleFloats([1, 2]), packedFloats([3, 4]), singleFloats([5])),
      Float32Array.of(1, 2, 3, 4, 5),
    ],
    ["double", "raw", raw(Float64Array.of(0.1, -2)), Float64Array.of(0.1, -2)],
    ["double", "packed", packedDoubles([0.1, 2]), Float64Array.of(0.1, 2)],
    ["double", "one by one", singleDoubles([0.1, 2]), Float64Array.of(0.1, 2)],
    ["float16", "raw", raw(Uint16Array.from(kHalfBits)), kHalves],
    ["float16", "packed", packedInts(5, kHalfBits), kHalves],
    ["float16", "one by one", singleInts(5, kHalfBits), kHalves],
    ["bfloat16", "raw", raw(Uint16Array.from(kBrainBits)), kBrains],
    ["bfloat16", "packed", packedInts(5, kBrainBits), kBrains],
    ["int8", "raw", raw(Int8Array.of(-128, 127)), Int8Array.of(-128, 127)],
    ["int8", "packed", packedInts(5, [-128, 127]), Int8Array.of(-128, 127)],
    ["uint8", "packed", packedInts(5, [0, 255]), Uint8Array.of(0, 255)],
    ["int16", "packed", packedInts(5, [-32768, 32767]), Int16Array.of(-32768, 32767)],
    ["uint16", "packed", packedInts(5, [0, 65535]), Uint16Array.of(0, 65535)],
    ["int32", "raw", raw(Int32Array.of(-(2 ** 31))), Int32Array.of(-(2 ** 31))],
    ["int32", "packed", packedInts(5, [-1, 2 ** 31 - 1]), Int32Array.of(-1, 2 ** 31 - 1)],
    ["uint32", "packed", packedInts(11, [2 ** 32 - 1]), Uint32Array.of(2 ** 32 - 1)],
    ["int64", "raw", raw(BigInt64Array.of(-1n, 2n ** 62n)), BigInt64Array.of(-1n, 2n ** 62n)],
    ["int64", "packed", packedInts(7, [-1, 5]), BigInt64Array.of(-1n, 5n)],
    ["int64", "one by one", singleInts(7, [-1, 5]), BigInt64Array.of(-1n, 5n)],
    ["uint64", "packed", packedInts(11, [2n ** 64n - 1n]), BigUint64Array.of(2n ** 64n - 1n)],
    ["bool", "raw", raw(Uint8Array.of(0, 1, 2)), Uint8Array.of(0, 1, 1)],
    ["bool", "packed", packedInts(5, [0, 1, -1]), Uint8Array.of(0, 1, 1)],
    ["uint4", "raw", raw(Uint8Array.of(0xa1, 0x0f)), Uint8Array.of(1, 10, 15)],
    ["int4", "raw", raw(Uint8Array.of(0xa1, 0x0f)), Int8Array.of(1, -6, -1)],
    ["int4", "packed", packedInts(5, [0xa1, -1]), Int8Array.of(1, -6, -1)],
    ["uint2", "raw", raw(Uint8Array.of(0b11100100, 0b10)), Uint8Array.of(0, 1, 2, 3, 2)],
    ["int2", "raw", raw(Uint8Array.of(0b11100100)), Int8Array.of(0, 1, -2, -1)],
  ];
  it.each(cases)("of type %s, %s, are as written", (dtype, _, data, expected) => {
    expect(decoded(dtype, expected.length, data)).toEqual(expected);
  });

  it("may be none", () => {
    expect(decoded("float", 0, new Uint8Array(0))).toEqual(new Float32Array(0));
    expect(decoded("float", 0, raw(new Float32Array(0)))).toEqual(new Float32Array(0));
  });

  it("of more than one chunk of halves are all converted", () => {
    const count = 600_000;
    const halves = decoded("float16", count, raw(new Uint16Array(count).fill(0x3c00)));
    expect((halves as Float32Array).every((value) => value === 1)).toBe(true);
  });

  it.each([
    ["a half beyond 16 bits", tensor("t", "float16", [1], packedInts(5, [0x10000]))],
    ["a negative half", tensor("t", "float16", [1], packedInts(5, [-1]))],
    ["an int8 of 128", tensor("t", "int8", [1], packedInts(5, [128]))],
    ["an int8 of −129", tensor("t", "int8", [1], packedInts(5, [-129]))],
    ["a uint8 of 256", tensor("t", "uint8", [1], packedInts(5, [256]))],
    ["a uint16 of −1", tensor("t", "uint16", [1], packedInts(5, [-1]))],
    ["an int32 of 2^31", tensor("t", "int32", [1], packedInts(5, [2 ** 31]))],
    ["a uint32 of 2^32", tensor("t", "uint32", [1], packedInts(11, [2 ** 32]))],
    ["two int4 of 9 bits", tensor("t", "int4", [2], packedInts(5, [256]))],
    ["too many varints", tensor("t", "int64", [2], packedInts(7, [1, 2, 3]))],
    ["too few varints", tensor("t", "int64", [2], packedInts(7, [1000]))],
    ["a cut varint", tensor("t", "int64", [1], bytes(7, Uint8Array.of(0x80)))],
  ])("are refused with %s", async (_, data) => {
    await expectError(() => parseTensorProto(data, "t.pb"), "ERR_FM_BAD_FILE", "t.pb", '"t"');
  });

  it.each<[OnnxDType, Uint8Array]>([
    ["string", bytes(6, Uint8Array.of(65))],
    ["complex64", packedFloats([1, 2])],
    ["complex128", packedDoubles([1, 2])],
    ["float8e4m3fn", raw(new Uint8Array(1))],
    ["float4e2m1", raw(new Uint8Array(1))],
    ["float6e2m3", raw(new Uint8Array(1))],
  ])("of type %s have no array", async (dtype, data) => {
    const whole = tensor("t", dtype, [1], data);
    await expectError(() => parseTensorProto(whole, "t.pb"), "ERR_FM_DTYPE", "t.pb", dtype);
  });
});
