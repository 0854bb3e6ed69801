import { entryBytes } from "./dtypes.js";
import type { TypedField, TypedPiece } from "./storage.js";
import { decodeVarint, type Varint } from "./wire.js";

/** What {@link walkEntries} tells of an entry: where its value stands in the piece's bytes, and a varint's value. */
export type VisitEntry = (begin: number, end: number, value: Varint) => void;

/**
 * Visits the entries of a piece in order, at most `most` of them.
 *
 * @param bytes the piece's bytes, whole
 * @returns how many there are, or −1 − offset of the byte at which they are malformed
 */
export function walkEntries(
  bytes: Uint8Array,
  piece: TypedPiece,
  field: TypedField,
  most: number,
  visit: VisitEntry,
): number {
  const width = entryBytes(field);
  const value: Varint = { low: 0, high: 0 };
  const end = bytes.byteLength;
  let count = 0;
  for (let at = 0; at < end; count += 1) {
    // The tags of single entries were checked when the file was opened.
    const begin = piece.packed ? at : decodeVarint(bytes, at, end, value);
    const next =
      width === null ? decodeVarint(bytes, begin, end, value) : begin < 0 ? -1 : begin + width;
    if (begin < 0 || next < 0 || next > end || count === most) {
      return -1 - at;
    }
    visit(begin, next, value);
    at = next;
  }
  return count;
}
