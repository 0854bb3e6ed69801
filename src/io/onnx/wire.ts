import { badFile } from "../file-error.js";
import { type OpenFile, readExactly } from "../read.js";
import type { OnnxTensor } from "./model.js";

/** Asks whoever drives a {@link Reading} to fill `target` from byte `position` of the file. */
export interface ReadRequest {
  readonly position: number;
  readonly target: Uint8Array;
}

/**
 * A reader that stops wherever it lacks bytes. One parser so serves files, read in windows without blocking, and bytes
 * in memory. Drive it with {@link runOnFile} or {@link runOnBytes}.
 */
export type Reading<T> = Generator<ReadRequest, T, void>;

/** Drives a reading over an open file. */
export async function runOnFile<T>(reading: Reading<T>, file: OpenFile): Promise<T> {
  for (;;) {
    const step = reading.next();
    if (step.done === true) {
      return step.value;
    }
    await readExactly(file, step.value.position, step.value.target);
  }
}

/** Drives a reading over bytes in memory. */
export function runOnBytes<T>(reading: Reading<T>, bytes: Uint8Array): T {
  for (;;) {
    const step = reading.next();
    if (step.done === true) {
      return step.value;
    }
    const { position, target } = step.value;
    target.set(bytes.subarray(position, position + target.byteLength));
  }
}

/** A varint of at most 64 bits, as two unsigned 32-bit words. Filled by {@link decodeVarint}. */
export interface Varint {
  low: number;
  high: number;
}

/** A varint takes at most this many bytes. */
export const MAX_VARINT_BYTES = 10;

/**
 * Decodes the varint at `bytes[at]`.
 *
 * @returns index of the byte after it, or −1 where it is cut off at `end` or has more than 64 bits
 */
export function decodeVarint(bytes: Uint8Array, at: number, end: number, into: Varint): number {
  let low = 0;
  let high = 0;
  const most = Math.min(end, at + MAX_VARINT_BYTES);
  for (let i = at, shift = 0; i < most; i += 1, shift += 7) {
    const byte = bytes[i] as number;
    const bits = byte & 0x7f;
    if (shift < 28) {
      low |= bits << shift;
    } else if (shift === 28) {
      low |= bits << 28;
      high = bits >> 4;
    } else {
      high |= bits << (shift - 32);
    }
    if (byte < 0x80) {
      into.low = low >>> 0;
      into.high = high >>> 0;
      return shift === 63 && byte > 1 ? -1 : i + 1;
    }
  }
  return -1;
}

/** The value of a varint as a signed 64-bit integer. */
export function varintToInt64(value: Varint): bigint {
  return (BigInt(value.high | 0) << 32n) | BigInt(value.low);
}

/** The value of a varint as an unsigned 64-bit integer. */
export function varintToUint64(value: Varint): bigint {
  return (BigInt(value.high) << 32n) | BigInt(value.low);
}

/** The wire types of protobuf; groups (3 and 4) are refused. */
export const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;
export type WireType = (typeof WIRE)[keyof typeof WIRE];

const kWireNames: Readonly<Record<number, string>> = {
  0: "a varint",
  1: "8 fixed bytes",
  2: "a length-delimited value",
  3: "a group",
  4: "the end of a group",
  5: "4 fixed bytes",
};

function wireName(wire: number): string {
  return kWireNames[wire] ?? `wire type ${wire}`;
}

// Small, because a file with large tensors is read in one window per tensor.
const kWindowBytes = 32 * 1024;
const kMaxTagBytes = 5;
const kMaxHeadBytes = kMaxTagBytes + MAX_VARINT_BYTES;
const kMaxSharedBytes = 128;
const kBudgetSlackBytes = 48 * 1024 * 1024;
// A process whose JavaScript heap is full dies at once; its limit is 2 to 4 GiB unless it is told otherwise.
const kMaxBudgetBytes = 512 * 1024 * 1024;

// A byte order mark is part of a name like any other character.
const kUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Walks the fields of protobuf messages, forwards only. `nextField` moves on to a field and past it: what is not asked
 * for is skipped unread. Every length is checked against its message before any memory is taken, and what is kept is
 * charged to a budget of twice the file and 48 MiB, and 512 MiB at most, so that a small file cannot unfold into a large
 * one.
 */
export class WireReader {
  readonly source: string;
  /** Number of the present field. */
  field = 0;
  wire: WireType = WIRE.varint;
  /** Where the present field's tag stands. */
  fieldBegin = 0;
  /** Where the present field's value stands: bytes `valueBegin` to `valueEnd`. */
  valueBegin = 0;
  valueEnd = 0;
  /** The tensors met whose data stand in other files, wherever they are in the model. */
  readonly externals: OnnxTensor[] = [];
  /** Value of a varint field. */
  readonly varint: Varint = { low: 0, high: 0 };
  private position = 0;
  private window: Uint8Array;
  private windowBegin = 0;
  private readonly size: number;
  private readonly windowBytes: number;
  private readonly path: string[] = [];
  private readonly shared = new Map<string, string>();
  private readonly mostBytes: number;
  private budget: number;

  /**
   * @param source the file's name, for messages
   * @param input the bytes themselves, or the file's size where they are to be asked for
   * @param windowBytes how many are asked for at a time, at least 16
   */
  constructor(source: string, input: Uint8Array | number, windowBytes = kWindowBytes) {
    this.source = source;
    this.size = typeof input === "number" ? input : input.byteLength;
    this.window = typeof input === "number" ? new Uint8Array(0) : input;
    this.windowBytes = windowBytes;
    this.mostBytes = Math.min(2 * this.size + kBudgetSlackBytes, kMaxBudgetBytes);
    this.budget = this.mostBytes;
  }

  /** An `ERR_FM_BAD_FILE` that names the file, the field's path and the byte. */
  fault(expected: string, received: string, offset = this.fieldBegin, cause?: unknown): Error {
    const where = this.path.length === 0 ? "the message" : this.path.join(".");
    return badFile(this.source, `${where} (byte ${offset})`, expected, received, cause);
  }

  /** Takes `bytes` from the budget for something that is kept. */
  charge(bytes: number): void {
    this.budget -= bytes;
    if (this.budget < 0) {
      const expected = `entries that take at most ${this.mostBytes} bytes of memory`;
      throw this.fault(expected, "more of them");
    }
  }

  /**
   * Moves to the next field of the message that ends at `end`, and past it.
   *
   * @returns false at the message's end
   */
  *nextField(end: number): Reading<boolean> {
    this.fieldBegin = this.position;
    if (this.position >= end) {
      return false;
    }
    yield* this.hold(this.position, Math.min(kMaxHeadBytes, end - this.position));
    this.readTag(end);
    this.readExtent(end);
    this.position = this.valueEnd;
    return true;
  }

  /** The rest of the message that the present field is: parses it from its first byte to its last. */
  *message<T>(label: string, parse: (reader: WireReader, end: number) => Reading<T>): Reading<T> {
    this.path.push(label);
    this.expectWire(WIRE.bytes);
    const end = this.valueEnd;
    this.position = this.valueBegin;
    const result = yield* parse(this, end);
    this.path.pop();
    return result;
  }

  /** Throws unless the present field has this wire type. */
  expectWire(wire: WireType): void {
    if (this.wire !== wire) {
      throw this.fault(`${wireName(wire)} in field ${this.field}`, wireName(this.wire));
    }
  }

  /** Bytes of the present field. Valid until the next field is read. */
  *bytes(): Reading<Uint8Array> {
    this.expectWire(WIRE.bytes);
    const length = this.valueEnd - this.valueBegin;
    if (length > this.windowBytes && !this.holds(this.valueBegin, length)) {
      this.charge(length);
      const target = new Uint8Array(length);
      yield { position: this.valueBegin, target };
      return target;
    }
    yield* this.hold(this.valueBegin, length);
    return this.inWindow(this.valueBegin, length);
  }

  /** The present field as text, or null where it is no UTF-8. */
  *textOrNull(): Reading<string | null> {
    const bytes = yield* this.bytes();
    try {
      return this.keep(kUtf8.decode(bytes), bytes.byteLength);
    } catch (error) {
      if (error instanceof TypeError) {
        return null;
      }
      throw error;
    }
  }

  /** The present field as text. */
  *text(): Reading<string> {
    const text = yield* this.textOrNull();
    if (text === null) {
      throw this.fault(`UTF-8 in field ${this.field}`, "bytes that are none", this.valueBegin);
    }
    return text;
  }

  /** The present varint field as a signed 64-bit integer. */
  int64(): bigint {
    this.expectWire(WIRE.varint);
    return varintToInt64(this.varint);
  }

  /** The present varint field as a number. */
  integer(what: string): number {
    const value = this.int64();
    const result = Number(value);
    if (!Number.isSafeInteger(result)) {
      throw this.fault(`a number below 2^53 as ${what}`, `${value}`);
    }
    return result;
  }

  /** The present field as an f32. */
  *float(): Reading<number> {
    this.expectWire(WIRE.fixed32);
    yield* this.hold(this.valueBegin, 4);
    const bytes = this.inWindow(this.valueBegin, 4);
    return new DataView(bytes.buffer, bytes.byteOffset, 4).getFloat32(0, true);
  }

  /** Adds the present field to a repeated int64, which may come packed or one by one. */
  *int64s(into: bigint[]): Reading<void> {
    if (this.wire === WIRE.varint) {
      this.charge(kBigIntCost);
      into.push(varintToInt64(this.varint));
      return;
    }
    const bytes = yield* this.bytes();
    const value: Varint = { low: 0, high: 0 };
    for (let at = 0; at < bytes.byteLength; ) {
      const next = decodeVarint(bytes, at, bytes.byteLength, value);
      if (next < 0) {
        throw this.fault("a varint", "more than 64 bits or a cut", this.valueBegin + at);
      }
      this.charge(kBigIntCost);
      into.push(varintToInt64(value));
      at = next;
    }
  }

  /** Adds the present field to a repeated float, which may come packed or one by one. */
  *floats(into: number[]): Reading<void> {
    if (this.wire === WIRE.fixed32) {
      this.charge(kNumberCost);
      into.push(yield* this.float());
      return;
    }
    const bytes = yield* this.bytes();
    if (bytes.byteLength % 4 !== 0) {
      throw this.fault("a multiple of 4 bytes", `${bytes.byteLength}`);
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.charge((bytes.byteLength / 4) * kNumberCost);
    for (let at = 0; at < bytes.byteLength; at += 4) {
      into.push(view.getFloat32(at, true));
    }
  }

  /** One object for all equal short strings: names come again and again. */
  private keep(text: string, bytes: number): string {
    // Latin-1 takes a byte a character in memory, any other text two.
    const cost = kStringCost + (text.length < bytes ? 2 : 1) * text.length;
    if (bytes > kMaxSharedBytes) {
      this.charge(cost);
      return text;
    }
    const known = this.shared.get(text);
    if (known === undefined) {
      this.charge(cost + kMapEntryCost);
      this.shared.set(text, text);
    }
    return known ?? text;
  }

  private holds(begin: number, length: number): boolean {
    const end = this.windowBegin + this.window.byteLength;
    return begin >= this.windowBegin && begin + length <= end;
  }

  /** Sees to it that the window holds these bytes of the file, at most a window's worth. */
  private *hold(begin: number, length: number): Reading<void> {
    if (this.holds(begin, length)) {
      return;
    }
    const target = new Uint8Array(Math.min(this.windowBytes, this.size - begin));
    yield { position: begin, target };
    this.window = target;
    this.windowBegin = begin;
  }

  private inWindow(begin: number, length: number): Uint8Array {
    return this.window.subarray(begin - this.windowBegin, begin - this.windowBegin + length);
  }

  private readVarint(at: number, most: number, what: string): number {
    const offset = this.windowBegin;
    const next = decodeVarint(this.window, at - offset, most - offset, this.varint);
    if (next < 0) {
      throw this.fault(`a varint as ${what}`, "more than 64 bits, or the end of its message", at);
    }
    return next + offset;
  }

  private readTag(end: number): void {
    const most = Math.min(end, this.position + kMaxTagBytes);
    this.valueBegin = this.readVarint(this.position, most, "a tag");
    const { low, high } = this.varint;
    const wire = low & 7;
    this.field = low >>> 3;
    if (high !== 0 || this.field === 0) {
      throw this.fault("a field number from 1 to 2^29 - 1", `tag ${varintToUint64(this.varint)}`);
    }
    if (wire !== 0 && wire !== 1 && wire !== 2 && wire !== 5) {
      throw this.fault(`a value of field ${this.field}`, wireName(wire));
    }
    this.wire = wire;
  }

  private readExtent(end: number): void {
    const begin = this.valueBegin;
    if (this.wire === WIRE.varint) {
      this.valueEnd = this.readVarint(begin, end, `field ${this.field}`);
      return;
    }
    let length = this.wire === WIRE.fixed32 ? 4n : 8n;
    if (this.wire === WIRE.bytes) {
      this.valueBegin = this.readVarint(begin, end, `the length of field ${this.field}`);
      length = varintToUint64(this.varint);
    }
    if (length > end - this.valueBegin) {
      const left = `at most the ${end - this.valueBegin} bytes that are left, in field ${this.field}`;
      throw this.fault(left, `${length}; is the file whole?`);
    }
    this.valueEnd = this.valueBegin + Number(length);
  }
}

// What entries take in memory on a 64-bit machine, rounded up: the prices of the budget.
const kStringCost = 32;
const kMapEntryCost = 56;
const kBigIntCost = 48;
const kNumberCost = 16;
