/** What the child is told first. */
export interface ParquetStart {
  readonly kind: "start";
  /** Bytes of the file, which the child finds open as {@link kParquetFd}: its path may lead elsewhere by now. */
  readonly size: number;
  /** Where the packages lie, as URLs. */
  readonly hyparquet: string;
  readonly compressors: string;
  readonly maxPageBytes: number;
}

export const kParquetFd = 4;

export interface ParquetColumn {
  readonly name: string;
  /** `bytes`: of bytes, or a struct with a field `bytes` of them. */
  readonly kind: "bytes" | "integers" | "other";
}

export interface ParquetSummary {
  /** Rows of each row group, as the file has it. */
  readonly groups: readonly number[];
  readonly columns: readonly ParquetColumn[];
  /** The text of the key `huggingface`. */
  readonly huggingface: string | null;
}

export type ParquetRequest =
  | ParquetStart
  | { readonly kind: "bytes" | "integers"; readonly column: string; readonly group: number };

export type ParquetReply =
  | { readonly summary: ParquetSummary }
  /** A part of the rows; the last one says so. */
  | { readonly bytes: readonly (Uint8Array | null)[]; readonly isLast: boolean }
  | { readonly integers: Float64Array }
  | { readonly refusal: string };

/**
 * A child process's program: reads Parquet with hyparquet. It is a process, since hyparquet trusts the lengths of runs that a
 * page holds, so that a file of a few bytes may keep it busy for ever or fill its heap, and a thread that fills its heap takes
 * the whole process along, whatever its limit. It is text, since a file of its own would have to lie both beside the source and
 * beside what is compiled from it.
 */
export const kParquetChild = `
"use strict";
const { readSync } = require("node:fs");
const kPartBytes = 4 * 1024 * 1024;
let size = 0;
let found = null;

function slice(start, end = size) {
  if (!(start >= 0 && start <= end && end <= size)) {
    throw new Error("bytes " + start + " to " + end + ", of " + size);
  }
  const bytes = new Uint8Array(end - start);
  for (let at = 0; at < bytes.length; ) {
    const count = readSync(${kParquetFd}, bytes, at, bytes.length - at, start + at);
    if (count === 0) throw new Error("a file that became shorter");
    at += count;
  }
  return bytes.buffer;
}

async function start(given) {
  size = given.size;
  const file = { byteLength: size, slice: async (begin, end) => slice(begin, end) };
  const parquet = await import(given.hyparquet);
  const { compressors, decompressZstd } = await import(given.compressors);
  const checked = Object.entries(compressors).map(([codec, unpack]) => [
    codec,
    (input, length) => {
      if (!(length >= 0 && length <= given.maxPageBytes)) {
        throw new Error("a page of " + length + " bytes, of at most " + given.maxPageBytes);
      }
      // Without a place to unpack to, it believes the length that the stream itself claims.
      return codec === "ZSTD" ? decompressZstd(input, new Uint8Array(length)) : unpack(input, length);
    },
  ]);
  const options = { file, compressors: Object.fromEntries(checked), utf8: false, geoparquet: false };
  const metadata = await parquet.parquetMetadataAsync(file, { geoparquet: false });
  found = { parquet, options, metadata };
  return summary();
}

function kindOf({ element, children }) {
  if (element.repetition_type === "REPEATED") return "other";
  const holder = children.find((child) => child.element.name === "bytes") ?? { element, children };
  if (holder.children.length > 0 || holder.element.repetition_type === "REPEATED") return "other";
  const { type, logical_type: logical, converted_type: converted } = holder.element;
  if (type === "BYTE_ARRAY") return logical === undefined && converted === undefined ? "bytes" : "other";
  const plain = logical === undefined ? converted === undefined || /^U?INT_/.test(converted) : logical.type === "INTEGER";
  return children.length === 0 && (type === "INT32" || type === "INT64") && plain ? "integers" : "other";
}

function summary() {
  const { parquet, metadata } = found;
  const { children } = parquet.parquetSchema(metadata);
  const pair = (metadata.key_value_metadata ?? []).find(({ key }) => key === "huggingface");
  return {
    groups: metadata.row_groups.map((group) => Number(group.num_rows)),
    columns: children.map((child) => ({ name: child.element.name, kind: kindOf(child) })),
    huggingface: pair?.value ?? null,
  };
}

async function valuesOf({ column, group }) {
  const { parquet, options, metadata } = found;
  const only = { ...metadata, row_groups: [metadata.row_groups[group]] };
  const rows = await parquet.parquetReadObjects({ ...options, metadata: only, columns: [column] });
  return rows.map((row) => row[column]);
}

function bytesOf(value) {
  const bytes = value instanceof Uint8Array ? value : value?.bytes;
  return bytes instanceof Uint8Array ? bytes : null;
}

const isWhole = (value) => typeof value === "bigint" || Number.isInteger(value);

const send = (reply) =>
  new Promise((settle, reject) => process.send(reply, (error) => (error ? reject(error) : settle())));

/** In parts: a message is a copy. */
async function sendBytes(values) {
  let part = [];
  let partBytes = 0;
  for (const value of values) {
    const bytes = bytesOf(value);
    part.push(bytes);
    partBytes += bytes === null ? 0 : bytes.length;
    if (partBytes < kPartBytes) continue;
    await send({ bytes: part, isLast: false });
    part = [];
    partBytes = 0;
  }
  await send({ bytes: part, isLast: true });
}

async function answer(request) {
  if (request.kind === "start") return send({ summary: await start(request) });
  const values = await valuesOf(request);
  if (request.kind === "bytes") return sendBytes(values);
  return send({ integers: Float64Array.from(values, (value) => (isWhole(value) ? Number(value) : Number.NaN)) });
}

process.on("message", (request) => {
  answer(request).catch((error) => send({ refusal: String(error?.message ?? error) }));
});
`;
