import { badFile } from "../../io/file-error.js";
import { openRegularFile, readExactly } from "../../io/read.js";
import { mergeByScore } from "./merge-by-score.js";
import type { Tokenizer } from "./tokenizer.js";

// The largest vocabularies have some 300,000 tokens of a few bytes.
const kMaxBytes = 64 * 1024 * 1024;
const kHeaderBytes = 4;
const kEntryBytes = 8;
// <unk>, <s> and </s> come first, then one token for each byte.
const kBos = 1;
const kEos = 2;
const kFirstByte = 3;
const kByteTokens = 256;
const kByteToken = /^<0x([0-9A-Fa-f]{2})>$/;

interface Vocabulary {
  readonly pieces: readonly Uint8Array[];
  readonly scores: Float32Array;
}

/** Bytes as a string of one character each, so that they can be a key. */
function keyOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

function parseVocabulary(bytes: Uint8Array, path: string): Vocabulary {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const pieces: Uint8Array[] = [];
  const scores: number[] = [];
  let position = kHeaderBytes;
  while (position < bytes.byteLength) {
    const where = `token ${pieces.length}`;
    const left = bytes.byteLength - position - kEntryBytes;
    if (left < 0) throw badFile(path, where, "a score and a length", `${left + kEntryBytes} bytes`);
    const score = view.getFloat32(position, true);
    const length = view.getInt32(position + 4, true);
    if (Number.isNaN(score)) throw badFile(path, where, "a score", "NaN");
    if (length < 0 || length > left) {
      throw badFile(path, where, `a length from 0 to ${left} bytes`, `${length}`);
    }
    position += kEntryBytes;
    pieces.push(bytes.subarray(position, position + length));
    scores.push(score);
    position += length;
  }
  return { pieces, scores: Float32Array.from(scores) };
}

/** SentencePiece's byte-pair encoding as llama2.c keeps it. */
class Llama2cTokenizer implements Tokenizer {
  readonly bosId = kBos;
  readonly eosId = kEos;
  readonly vocabularySize: number;
  readonly #pieces: readonly Uint8Array[];
  readonly #scores: Float32Array;
  readonly #ids: ReadonlyMap<string, number>;

  constructor({ pieces, scores }: Vocabulary) {
    this.vocabularySize = pieces.length;
    this.#pieces = pieces;
    this.#scores = scores;
    const ids = new Map<string, number>();
    for (const [id, piece] of pieces.entries()) {
      if (!ids.has(keyOf(piece))) ids.set(keyOf(piece), id);
    }
    this.#ids = ids;
  }

  encode(text: string): Int32Array {
    if (text === "") return new Int32Array(0);
    const keys: string[] = [];
    // SentencePiece puts a space before the first word.
    for (const character of ` ${text}`) keys.push(...this.#split(character));
    return this.#merge(keys);
  }

  decode(id: number, previous?: number): Uint8Array {
    const piece = this.#pieces[id] ?? new Uint8Array(0);
    const byte = kByteToken.exec(keyOf(piece))?.[1];
    if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
    return previous === kBos && piece[0] === 0x20 ? piece.subarray(1) : piece;
  }

  /** A character's own token, or the tokens of its bytes. */
  #split(character: string): string[] {
    const bytes = new TextEncoder().encode(character);
    const key = keyOf(bytes);
    return this.#ids.has(key) ? [key] : Array.from(bytes, (byte) => keyOf(this.#byteToken(byte)));
  }

  #byteToken(byte: number): Uint8Array {
    return this.#pieces[kFirstByte + byte] as Uint8Array;
  }

  #merge(keys: string[]): Int32Array {
    const merged = mergeByScore(keys, (key) => {
      const id = this.#ids.get(key);
      return id === undefined ? undefined : this.#scores[id];
    });
    return Int32Array.from(merged, (key) => this.#ids.get(key) as number);
  }
}

/**
 * Reads llama2.c's `tokenizer.bin`: the longest token's length (i32), then for each token its score (f32), its length in
 * bytes (i32) and its bytes. Tokens 0 to 2 are unknown, beginning and end; 3 to 258 stand for single bytes.
 *
 * Source: karpathy/llama2.c, tokenizer.py and run.c.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO`; `ERR_FM_BAD_FILE` naming the token
 */
export async function openLlama2cTokenizer(path: string): Promise<Tokenizer> {
  const file = await openRegularFile(path);
  try {
    if (file.size < kHeaderBytes || file.size > kMaxBytes) {
      throw badFile(path, "the length", `${kHeaderBytes} to ${kMaxBytes} bytes`, `${file.size}`);
    }
    const bytes = new Uint8Array(file.size);
    await readExactly(file, 0, bytes);
    const vocabulary = parseVocabulary(bytes, path);
    const least = kFirstByte + kByteTokens;
    if (vocabulary.pieces.length < least) {
      throw badFile(
        path,
        "the vocabulary",
        `at least ${least} tokens`,
        `${vocabulary.pieces.length}`,
      );
    }
    return new Llama2cTokenizer(vocabulary);
  } finally {
    await file.handle.close();
  }
}
