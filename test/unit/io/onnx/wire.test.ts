import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  decodeVarint,
  type Reading,
  runOnBytes,
  varintToInt64,
  varintToUint64,
  WireReader,
} from "../../../../src/io/onnx/wire.js";
import { expectError } from "../support.js";
import { bytes, concat, float, int, tag, text, varint } from "./writer.js";

function decode(data: Uint8Array): { next: number; unsigned: bigint; signed: bigint } {
  const value = { low: 0, high: 0 };
  const next = decodeVarint(data, 0, data.length, value);
  return { next, unsigned: varintToUint64(value), signed: varintToInt64(value) };
}

describe("a varint", () => {
  it("is what was written, for any 64 bits", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (value) => {
        const data = varint(value);
        const expected = { next: data.length, unsigned: value, signed: BigInt.asIntN(64, value) };
        expect(decode(data)).toEqual(expected);
      }),
    );
  });

  it("may be padded", () => {
    expect(decode(Uint8Array.of(0x85, 0x80, 0x80, 0x00))).toMatchObject({ next: 4, unsigned: 5n });
  });

  it.each([
    ["cut", [0x80, 0x80]],
    ["empty", []],
    ["of 65 bits", [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]],
    ["of eleven bytes", [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]],
  ])("that is %s is none", (_, data) => {
    expect(decode(Uint8Array.from(data)).next).toBe(-1);
  });
});

function* fieldsOf(reader: WireReader, end: number): Reading<number[]> {
  const fields: number[] = [];
  while (yield* reader.nextField(end)) {
    fields.push(reader.field);
  }
  return fields;
}

function fields(data: Uint8Array): number[] {
  return runOnBytes(fieldsOf(new WireReader("some.onnx", data), data.length), data);
}

describe("the fields of a message", () => {
  it("are passed over whatever they are", () => {
    const fixed64 = concat(tag(3, 1), new Uint8Array(8));
    const data = concat(int(1, -1), text(2, "two"), fixed64, float(4, 1), bytes(2 ** 29 - 1));
    expect(fields(data)).toEqual([1, 2, 3, 4, 2 ** 29 - 1]);
  });

  it.each([
    ["a group", tag(1, 3), 2, "a group"],
    ["the end of a group", tag(1, 4), 2, "the end of a group"],
    ["wire type 6", tag(1, 6), 2, "wire type 6"],
    ["wire type 7", tag(1, 7), 2, "wire type 7"],
    ["field 0", tag(0, 0), 2, "a field number"],
    ["a field number of 30 bits", varint(2 ** 32), 2, "a field number"],
    ["a length beyond the message", concat(tag(1, 2), varint(1)), 2, "0 bytes that are left"],
    ["a length of 2^63", concat(tag(1, 2), varint(2n ** 63n)), 2, "9223372036854775808"],
    ["a cut fixed value", concat(tag(1, 5), new Uint8Array(3)), 2, "3 bytes that are left"],
    ["a cut varint", concat(tag(1, 0), Uint8Array.of(0x80)), 3, "the end of its message"],
  ])("are refused with %s", async (_, data, byte, word) => {
    const bad = () => fields(concat(int(1, 7), data));
    await expectError(bad, "ERR_FM_BAD_FILE", "some.onnx", `(byte ${byte})`, word);
  });
});

describe("the budget", () => {
  it("refuses a small file that unfolds into a large one", async () => {
    function* ints(reader: WireReader, end: number): Reading<number> {
      const into: bigint[] = [];
      while (yield* reader.nextField(end)) {
        yield* reader.int64s(into);
      }
      return into.length;
    }
    const parse = (count: number) => {
      const data = bytes(1, new Uint8Array(count));
      return runOnBytes(ints(new WireReader("some.onnx", data), data.length), data);
    };
    expect(parse(1_000_000)).toBe(1_000_000);
    await expectError(() => parse(1_200_000), "ERR_FM_BAD_FILE", "bytes of memory");
  });
});
