import { FishermaskError } from "../../native/errors.js";
import { badFile } from "../file-error.js";
import { encodeFloatsOver, FLOAT_BYTES, type FloatDtype } from "../float-format.js";
import { entryBytes } from "./dtypes.js";
import { walkEntries } from "./entries.js";
import type { OnnxTensor } from "./model.js";
import type { TypedField, TypedPiece } from "./storage.js";

/** Fills `target` from byte `position` of the file that is patched. */
export type ReadAt = (position: number, target: Uint8Array) => Promise<void>;

/** New bytes for bytes `begin` to `end` of a file: as many as there were. */
export interface RangePatch {
  readonly begin: number;
  readonly end: number;
  content(): AsyncIterable<Uint8Array>;
}

/** New elements of a tensor. */
export interface TensorChange {
  readonly source: string;
  /** Initializer, or output of a Constant node. */
  readonly name: string;
  readonly tensor: OnnxTensor;
  readonly format: FloatDtype;
  readonly values: Float32Array;
}

const kChunkBytes = 4 * 1024 * 1024;

/** Copies bytes `begin` to `end` in pieces of 4 MiB. */
export async function* copyRange(
  readAt: ReadAt,
  begin: number,
  end: number,
): AsyncGenerator<Uint8Array> {
  for (let position = begin; position < end; position += kChunkBytes) {
    const bytes = new Uint8Array(Math.min(kChunkBytes, end - position));
    await readAt(position, bytes);
    yield bytes;
  }
}

/** A file of `size` bytes with its patches in place; they must not overlap. */
export async function* patched(
  readAt: ReadAt,
  size: number,
  patches: readonly RangePatch[],
): AsyncGenerator<Uint8Array> {
  let position = 0;
  for (const patch of patches.toSorted((a, b) => a.begin - b.begin)) {
    yield* copyRange(readAt, position, patch.begin);
    yield* patch.content();
    position = patch.end;
  }
  yield* copyRange(readAt, position, size);
}

/** Patches elements that stand back to back at their own width, in pieces of 4 MiB. */
export function patchElements(
  readAt: ReadAt,
  begin: number,
  format: FloatDtype,
  values: Float32Array,
): RangePatch {
  const width = FLOAT_BYTES[format];
  const perChunk = kChunkBytes / width;
  async function* content(): AsyncGenerator<Uint8Array> {
    for (let start = 0; start < values.length; start += perChunk) {
      const part = values.subarray(start, start + perChunk);
      const bytes = new Uint8Array(part.length * width);
      await readAt(begin + start * width, bytes);
      // Values beyond the type's range were refused before anything was written.
      encodeFloatsOver(format, part, bytes);
      yield bytes;
    }
  }
  return { begin, end: begin + values.length * width, content };
}

/** Writes a varint over one of the same length, padded where it needs fewer bytes; false where it needs more. */
function overwriteVarint(bytes: Uint8Array, begin: number, end: number, value: number): boolean {
  let rest = value;
  for (let at = begin; at < end; at += 1) {
    bytes[at] = (rest & 0x7f) | (at + 1 < end ? 0x80 : 0);
    rest >>>= 7;
  }
  return rest === 0;
}

/** Changes the entries of a piece in place, from `values[index]` on, and returns how many there are. */
function patchEntries(
  change: TensorChange,
  piece: TypedPiece,
  field: TypedField,
  bytes: Uint8Array,
  index: number,
): number {
  const { source, name, format, values } = change;
  const width = entryBytes(field);
  const element = new Uint8Array(FLOAT_BYTES[format]);
  const view = new DataView(element.buffer);
  let i = index;
  let lacksRoom = -1;
  const count = walkEntries(bytes, piece, field, values.length - index, (begin, end, varint) => {
    const value = values.subarray(i, i + 1);
    if (width !== null) {
      encodeFloatsOver(format, value, bytes.subarray(begin, end));
    } else {
      view.setUint16(0, varint.low & 0xffff, true);
      encodeFloatsOver(format, value, element);
      if (!overwriteVarint(bytes, begin, end, view.getUint16(0, true)) && lacksRoom < 0) {
        lacksRoom = i;
      }
    }
    i += 1;
  });
  if (lacksRoom >= 0) {
    throw new FishermaskError(
      "ERR_FM_UNSUPPORTED",
      `Expected a value that fits the bytes of the one it replaces for element ${lacksRoom} of tensor "${name}" of ${source} (int32_data) but received ${values[lacksRoom]}; store the tensor as raw_data`,
      { details: { path: source, tensor: name, index: lacksRoom } },
    );
  }
  if (count < 0) {
    const where = `tensor "${name}" (byte ${piece.range.begin - 1 - count})`;
    throw badFile(source, where, `${values.length} entries of ${field}`, "another number of them");
  }
  return count;
}

async function readPiece(readAt: ReadAt, piece: TypedPiece): Promise<Uint8Array> {
  const bytes = new Uint8Array(piece.range.end - piece.range.begin);
  await readAt(piece.range.begin, bytes);
  return bytes;
}

/** Patches the pieces of a typed field. Reads them all once, so that what does not fit is known before any writing. */
async function patchTyped(
  readAt: ReadAt,
  change: TensorChange,
  field: TypedField,
  pieces: readonly TypedPiece[],
): Promise<RangePatch[]> {
  const width = entryBytes(field);
  const patches: RangePatch[] = [];
  let index = 0;
  for (const piece of pieces) {
    const { begin, end } = piece.range;
    const first = index;
    if (piece.packed && width !== null) {
      index += (end - begin) / width;
      const values = change.values.subarray(first, index);
      patches.push(patchElements(readAt, begin, change.format, values));
      continue;
    }
    index += patchEntries(change, piece, field, await readPiece(readAt, piece), first);
    const content = async function* (): AsyncGenerator<Uint8Array> {
      const bytes = await readPiece(readAt, piece);
      patchEntries(change, piece, field, bytes, first);
      yield bytes;
    };
    patches.push({ begin, end, content });
  }
  if (index !== change.values.length) {
    const where = `tensor "${change.name}"`;
    throw badFile(change.source, where, `${change.values.length} entries of ${field}`, `${index}`);
  }
  return patches;
}

/** The patches that bring a change into the file that holds the tensor's data. */
export async function patchTensor(readAt: ReadAt, change: TensorChange): Promise<RangePatch[]> {
  const { tensor, format, values } = change;
  switch (tensor.storage.kind) {
    case "raw":
      return [patchElements(readAt, tensor.storage.range.begin, format, values)];
    case "external":
      return [patchElements(readAt, tensor.storage.offset, format, values)];
    case "typed":
      return await patchTyped(readAt, change, tensor.storage.field, tensor.storage.pieces);
    case "none":
      return [];
  }
}
