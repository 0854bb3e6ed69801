import { FishermaskError } from "../native/errors.js";
import { badFile } from "./file-error.js";
import { parseStrictJson, type StrictJson, StrictJsonError } from "./strict-json.js";

/** Bits per element. Types that fishermask does not compute with are carried as opaque bytes. */
export const SAFETENSORS_BITS = {
  F64: 64,
  F32: 32,
  F16: 16,
  BF16: 16,
  I64: 64,
  I32: 32,
  I16: 16,
  I8: 8,
  U64: 64,
  U32: 32,
  U16: 16,
  U8: 8,
  BOOL: 8,
  C64: 64,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  F6_E2M3: 6,
  F6_E3M2: 6,
  F4: 4,
} as const;

export type SafetensorsDtype = keyof typeof SAFETENSORS_BITS;

/** One tensor of a file. `begin` and `end` are byte offsets from the end of the header; row-major, little-endian. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** What a header says. `tensors` is in the order of the data. */
export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** The length field at the start of a file. */
export const HEADER_LENGTH_BYTES = 8;
/** The format's own limit. */
export const MAX_HEADER_BYTES = 100_000_000;

const kMetadataKey = "__metadata__";
const kTensorKeys: ReadonlySet<string> = new Set(["dtype", "shape", "data_offsets"]);
// The file's object, a tensor's object, its arrays: three. One more leaves room for nothing.
const kMaxNesting = 3;

export function isSafetensorsDtype(dtype: unknown): dtype is SafetensorsDtype {
  return typeof dtype === "string" && Object.hasOwn(SAFETENSORS_BITS, dtype);
}

/** Number of elements, or undefined where some product on the way is no safe integer. */
export function elementCount(shape: readonly number[]): number | undefined {
  let count = 1;
  for (const dimension of shape) {
    count *= dimension;
    if (!Number.isSafeInteger(count)) {
      return undefined;
    }
  }
  return count;
}

/** Bytes that a tensor takes, or undefined where they are no whole safe number. */
export function tensorBytes(dtype: SafetensorsDtype, shape: readonly number[]): number | undefined {
  const bits = (elementCount(shape) ?? Number.NaN) * SAFETENSORS_BITS[dtype];
  return Number.isSafeInteger(bits) && bits % 8 === 0 ? bits / 8 : undefined;
}

/** A parsed value in a message, in at most 60 characters. */
function show(value: StrictJson | undefined): string {
  if (value === undefined) {
    return "nothing";
  }
  const text = value instanceof Map ? "an object" : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

function isSize(value: StrictJson): value is number {
  return (
    typeof value === "number" && Number.isSafeInteger(value) && !Object.is(value, -0) && value >= 0
  );
}

function isSizes(value: StrictJson | undefined): value is readonly number[] {
  return Array.isArray(value) && value.every(isSize);
}

function isMap(value: StrictJson | undefined): value is ReadonlyMap<string, StrictJson> {
  return value instanceof Map;
}

function parseMetadata(path: string, value: StrictJson): ReadonlyMap<string, string> {
  if (!isMap(value)) {
    throw badFile(path, kMetadataKey, "an object of strings", show(value));
  }
  const metadata = new Map<string, string>();
  for (const [key, text] of value) {
    if (typeof text !== "string") {
      throw badFile(path, `${kMetadataKey} ${show(key)}`, "a string", show(text));
    }
    metadata.set(key, text);
  }
  return metadata;
}

function parseTensor(path: string, name: string, value: StrictJson): TensorInfo {
  const where = `tensor ${show(name)}`;
  if (!isMap(value)) {
    throw badFile(path, where, "an object with dtype, shape and data_offsets", show(value));
  }
  for (const key of value.keys()) {
    if (!kTensorKeys.has(key)) {
      throw badFile(path, where, "only the keys dtype, shape and data_offsets", show(key));
    }
  }
  const dtype = value.get("dtype");
  if (!isSafetensorsDtype(dtype)) {
    const known = Object.keys(SAFETENSORS_BITS).join(", ");
    throw badFile(path, `dtype of ${where}`, `one of ${known}`, show(dtype));
  }
  const shape = value.get("shape");
  if (!isSizes(shape)) {
    throw badFile(path, `shape of ${where}`, "an array of sizes below 2^53", show(shape));
  }
  const offsets = value.get("data_offsets");
  const [begin, end, ...rest] = isSizes(offsets) ? offsets : [];
  if (begin === undefined || end === undefined || begin > end || rest.length > 0) {
    throw badFile(path, `data_offsets of ${where}`, "two ascending byte offsets", show(offsets));
  }
  const bytes = tensorBytes(dtype, shape);
  if (bytes !== end - begin) {
    const expected =
      bytes === undefined
        ? "a shape of a whole, representable number of bytes"
        : `${bytes} bytes (${dtype} ${show(shape)})`;
    throw badFile(path, `data of ${where}`, expected, `${end - begin} bytes`);
  }
  return { name, dtype, shape, begin, end };
}

/** Without holes and overlaps nothing can hide between tensors, and no byte belongs to two. */
function checkContiguous(path: string, tensors: readonly TensorInfo[], dataBytes: number): void {
  let end = 0;
  for (const tensor of tensors) {
    if (tensor.begin !== end) {
      const problem = tensor.begin > end ? "a hole" : "an overlap";
      throw badFile(
        path,
        `data_offsets of tensor ${show(tensor.name)}`,
        `a begin of ${end}, where the tensor before it ends,`,
        `${tensor.begin} (${problem})`,
      );
    }
    end = tensor.end;
  }
  if (end !== dataBytes) {
    throw badFile(path, "the end of the last tensor", `${dataBytes} bytes of data`, `${end}`);
  }
}

function parseText(path: string, bytes: Uint8Array): StrictJson {
  try {
    // A byte order mark is no part of the format: kept, so that it is refused.
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    if (!text.startsWith("{")) {
      throw new StrictJsonError("no {", 0);
    }
    return parseStrictJson(text, kMaxNesting);
  } catch (cause) {
    const reason = cause instanceof StrictJsonError ? cause.message : "bytes that are no UTF-8";
    throw badFile(path, "the header", "a JSON object", reason, cause);
  }
}

/**
 * Parses and checks a header against the bytes that follow it: names and keys unique, types known, sizes safe integers,
 * data contiguous from 0 to the end of the file. A key that the format does not define is refused.
 *
 * @param path named in errors only
 * @param bytes the header's JSON, without its length field
 * @param dataBytes bytes of the file after the header
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE` naming file and tensor or key
 * Source: huggingface/safetensors, `safetensors/src/tensor.rs`; stricter in refusing unknown keys.
 */
export function parseHeader(path: string, bytes: Uint8Array, dataBytes: number): SafetensorsHeader {
  const root = parseText(path, bytes);
  if (!isMap(root)) {
    throw badFile(path, "the header", "a JSON object", show(root));
  }
  let metadata: ReadonlyMap<string, string> = new Map();
  const tensors: TensorInfo[] = [];
  for (const [name, value] of root) {
    if (name === kMetadataKey) {
      metadata = parseMetadata(path, value);
    } else {
      tensors.push(parseTensor(path, name, value));
    }
  }
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkContiguous(path, tensors, dataBytes);
  return { tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])), metadata };
}

/**
 * The bytes of a file up to its data: length field and JSON, padded with spaces to a multiple of 8.
 *
 * @param tensors in the order of their data; names are unique
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` when the header would pass the format's limit
 */
export function encodeHeader(
  tensors: Iterable<TensorInfo>,
  metadata: ReadonlyMap<string, string>,
): Uint8Array {
  // Put together by hand: JSON.stringify would move keys that look like numbers to the front.
  const entries: string[] = [];
  if (metadata.size > 0) {
    const pairs = [...metadata].map(
      ([key, text]) => `${JSON.stringify(key)}:${JSON.stringify(text)}`,
    );
    entries.push(`"${kMetadataKey}":{${pairs.join(",")}}`);
  }
  for (const { name, dtype, shape, begin, end } of tensors) {
    const shapeText = shape.join(",");
    entries.push(
      `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shapeText}],"data_offsets":[${begin},${end}]}`,
    );
  }
  const json = new TextEncoder().encode(`{${entries.join(",")}}`);
  const length = Math.ceil(json.byteLength / 8) * 8;
  if (length > MAX_HEADER_BYTES) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected at most ${MAX_HEADER_BYTES} bytes for the safetensors header but received ${length}`,
    );
  }
  const bytes = new Uint8Array(HEADER_LENGTH_BYTES + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, HEADER_LENGTH_BYTES);
  return bytes;
}
