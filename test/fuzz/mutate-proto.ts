import { decodeVarint } from "../../src/io/onnx/wire.js";
import { bytes, concat, tag, varint } from "../unit/io/onnx/writer.js";
import type { Mutator } from "./mutate.js";
import type { Random } from "./random.js";

/** A field of a protobuf message: its number, and its value as bytes or, where it reads as one, as a message. */
interface Field {
  readonly number: number;
  readonly wire: number;
  readonly value: Uint8Array;
  readonly children: Field[] | null;
}

const kMaxDepth = 12;

/** Takes a message apart, or returns null where the bytes are none. */
function parse(data: Uint8Array, depth: number): Field[] | null {
  const fields: Field[] = [];
  const value = { low: 0, high: 0 };
  for (let at = 0; at < data.length; ) {
    at = decodeVarint(data, at, data.length, value);
    const [wire, number] = [value.low & 7, value.low >>> 3];
    if (at < 0 || number === 0 || value.high !== 0) {
      return null;
    }
    const begin = wire === 2 ? decodeVarint(data, at, data.length, value) : at;
    const sizes: Record<number, number> = { 1: 8, 2: value.low, 5: 4 };
    const end =
      wire === 0 ? decodeVarint(data, at, data.length, value) : begin + (sizes[wire] ?? Number.NaN);
    if (begin < 0 || !(end >= begin) || end > data.length) {
      return null;
    }
    const body = data.subarray(begin, end);
    const children = wire === 2 && body.length > 1 && depth > 0 ? parse(body, depth - 1) : null;
    fields.push({ number, wire, value: body, children });
    at = end;
  }
  return fields;
}

function build(fields: readonly Field[]): Uint8Array {
  return concat(
    ...fields.map(({ number, wire, value, children }) => {
      const body = children === null ? value : build(children);
      return wire === 2 ? bytes(number, body) : concat(tag(number, wire), body);
    }),
  );
}

/** The lists of fields of a message and of all messages in it. */
function listsOf(fields: Field[], into: Field[][] = []): Field[][] {
  into.push(fields);
  for (const { children } of fields) {
    if (children !== null) {
      listsOf(children, into);
    }
  }
  return into;
}

function nested(field: Field, random: Random): Field {
  let result = field;
  for (let depth = random.below(100); depth > 0; depth -= 1) {
    const value = build([result]);
    // Through node, attribute and graph, which is how graphs stand in each other.
    const number = [1, 5, 6][depth % 3] as number;
    result = { number, wire: 2, value, children: null };
  }
  return result;
}

function changed(field: Field, random: Random, others: readonly Field[]): Field[] {
  const other = random.pick(others);
  switch (random.below(8)) {
    case 0:
      return [];
    case 1:
      return [field, field];
    case 2:
      return [{ ...field, number: 1 + random.below(26) }];
    case 3: {
      const value = varint(random.pick([0n, 1n, 2n ** 31n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]));
      return [{ number: field.number, wire: 0, value, children: null }];
    }
    case 4:
      return [nested(field, random)];
    case 5:
      return [{ ...field, wire: 2, value: field.value.slice(random.below(8)), children: null }];
    case 6:
      return other === undefined ? [] : [field, other];
    default:
      return other === undefined ? [] : [other];
  }
}

/** Removes, doubles, renumbers, nests, shortens or replaces a field anywhere, with every length around it set right. */
export const mutateField: Mutator = (data, random, others) => {
  const message = parse(data, kMaxDepth);
  if (message === null || message.length === 0) {
    return data;
  }
  const list = random.pick(listsOf(message));
  const donor = random.pick(listsOf(parse(random.pick(others), kMaxDepth) ?? []));
  const at = random.below(list.length);
  const field = list[at];
  if (field !== undefined) {
    list.splice(at, 1, ...changed(field, random, donor));
  }
  return build(message);
};

/** Sets the length of a field anywhere without moving anything: it and its message no longer agree. */
export const breakLength: Mutator = (data, random) => {
  const value = { low: 0, high: 0 };
  const lengths: [number, number][] = [];
  const walk = (begin: number, end: number, depth: number): void => {
    for (let at = begin; at < end; ) {
      const tagEnd = decodeVarint(data, at, end, value);
      const wire = value.low & 7;
      const next =
        tagEnd < 0 || wire === 1 || wire > 2 ? -1 : decodeVarint(data, tagEnd, end, value);
      if (next < 0) {
        return;
      }
      if (wire === 2) {
        lengths.push([tagEnd, next]);
        if (depth > 0 && next + value.low <= end) {
          const size = value.low;
          walk(next, next + size, depth - 1);
          at = next + size;
          continue;
        }
      }
      at = next;
    }
  };
  walk(0, data.length, kMaxDepth);
  const [begin, end] = random.pick(lengths) ?? [0, 0];
  const length = varint(
    random.pick([0, 1, random.below(data.length), data.length, 2 ** 31, 2 ** 53, -1]),
  );
  return concat(data.subarray(0, begin), length, data.subarray(end));
};
