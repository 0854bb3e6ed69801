import { concat } from "../unit/io/onnx/writer.js";
import type { Random } from "./random.js";

/** Changes a file in one place. `others` are the seeds, to splice from. */
export type Mutator = (
  data: Uint8Array,
  random: Random,
  others: readonly Uint8Array[],
) => Uint8Array;

// Varints, lengths and numbers that readers trip over: 0, 1, edges of 7, 8, 16, 31, 32, 53, 63 and 64 bits, overlong ones.
const kEdges: readonly (readonly number[])[] = [
  [0x00],
  [0x01],
  [0x7f],
  [0x80, 0x01],
  [0xff, 0x01],
  [0xff, 0xff, 0x03],
  [0xff, 0xff, 0xff, 0xff, 0x07],
  [0x80, 0x80, 0x80, 0x80, 0x08],
  [0xff, 0xff, 0xff, 0xff, 0x0f],
  [0x80, 0x80, 0x80, 0x80, 0x10],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
  [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
  [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
  [0x80, 0x80, 0x00],
  [0xff, 0xff, 0xff, 0xff],
  [0x00, 0x00, 0x00, 0x80],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
];

function replaced(data: Uint8Array, begin: number, end: number, by: Uint8Array): Uint8Array {
  return concat(data.subarray(0, begin), by, data.subarray(end));
}

const flipBits: Mutator = (data, random) => {
  const result = data.slice();
  for (let i = random.below(4); i >= 0 && result.length > 0; i -= 1) {
    const at = random.below(result.length);
    result[at] = (result[at] as number) ^ (1 << random.below(8));
  }
  return result;
};

const setByte: Mutator = (data, random) => {
  const result = data.slice();
  if (result.length > 0) {
    result[random.below(result.length)] = random.below(256);
  }
  return result;
};

const truncate: Mutator = (data, random) => data.slice(0, random.below(data.length));

const remove: Mutator = (data, random) => {
  const begin = random.below(data.length);
  return replaced(data, begin, begin + 1 + random.below(16), new Uint8Array(0));
};

const repeat: Mutator = (data, random) => {
  const begin = random.below(data.length);
  const chunk = data.subarray(begin, begin + 1 + random.below(64));
  return replaced(data, begin, begin, concat(...new Array(1 + random.below(8)).fill(chunk)));
};

const overwriteWithEdge: Mutator = (data, random) => {
  const edge = Uint8Array.from(random.pick(kEdges));
  const begin = random.below(data.length);
  return replaced(data, begin, begin + (random.below(2) === 0 ? edge.length : 1), edge);
};

const splice: Mutator = (data, random, others) => {
  const other = random.pick(others);
  const from = random.below(other.length);
  const chunk = other.subarray(from, from + random.below(other.length - from + 1));
  const begin = random.below(data.length);
  return replaced(data, begin, begin + random.below(data.length - begin + 1), chunk);
};

/** Mutations that know nothing of the format. */
export const BLIND: readonly Mutator[] = [
  flipBits,
  setByte,
  truncate,
  remove,
  repeat,
  overwriteWithEdge,
  splice,
];

const kNumbers = [
  "-1",
  "0",
  "1e400",
  "9007199254740993",
  "18446744073709551616",
  "1.5",
  "null",
  '"4"',
  "[]",
];
const kTexts = [
  '"',
  "}",
  "{",
  "[[[[",
  ",",
  "\\u0000",
  "__proto__",
  "__metadata__",
  "F32",
  "data_offsets",
  "\ud800",
];

function mutateText(text: string, random: Random): string {
  const numbers = [...text.matchAll(/\d+/g)];
  const number = random.pick(numbers);
  if (number !== undefined && random.below(2) === 0) {
    const by = random.below(2) === 0 ? random.pick(kNumbers) : `${random.below(100)}`;
    return text.slice(0, number.index) + by + text.slice(number.index + number[0].length);
  }
  const at = random.below(text.length);
  return text.slice(0, at) + random.pick(kTexts) + text.slice(at + random.below(3));
}

/** Changes a safetensors header's text, mostly with the length before it set right. */
export const mutateHeader: Mutator = (data, random) => {
  if (data.length < 8) {
    return data;
  }
  const length = Math.min(
    new DataView(data.buffer, data.byteOffset).getUint32(0, true),
    data.length - 8,
  );
  const text = new TextDecoder().decode(data.subarray(8, 8 + length));
  const header = new TextEncoder().encode(mutateText(text, random));
  const field = new Uint8Array(8);
  const isRight = random.below(8) > 0;
  new DataView(field.buffer).setUint32(0, isRight ? header.length : random.next(), true);
  return concat(field, header, data.subarray(8 + length));
};
