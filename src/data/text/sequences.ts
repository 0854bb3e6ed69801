import { argumentError } from "../check.js";
import { type TokenDataset, tokenDataset } from "../dataset.js";
import type { Tokenizer } from "./tokenizer.js";

/** A text to be predicted, after one that is only read. */
export interface TextRow {
  /** Read, but not counted in the loss; null: the whole text counts. */
  readonly prompt: string | null;
  readonly text: string;
}

/** One sample's ids; from place `firstCounted` on they are predicted. */
interface Sequence {
  readonly ids: readonly number[];
  readonly firstCounted: number;
}

export interface SequenceOptions {
  readonly name: string;
  readonly tokenizer: Tokenizer;
  /** Tokens a sequence at most; left out, those of the longest row. */
  readonly length?: number | undefined;
}

/** Whether the tokenizer puts a space before a text by itself, as SentencePiece does. */
function addsSpace(tokenizer: Tokenizer): boolean {
  const first = tokenizer.encode("a")[0];
  return first !== undefined && tokenizer.decode(first)[0] === 0x20;
}

function sequenceOf({ prompt, text }: TextRow, tokenizer: Tokenizer, space: string): Sequence {
  const { bosId, eosId } = tokenizer;
  const begin = bosId === null ? [] : [bosId];
  const end = eosId === null ? [] : [eosId];
  if (prompt === null) {
    // The first token cannot be predicted: nothing stands before it.
    return { ids: [...begin, ...tokenizer.encode(text), ...end], firstCounted: 1 };
  }
  const read = [...begin, ...tokenizer.encode(prompt)];
  const ids = [...read, ...tokenizer.encode(`${space}${text}`), ...end];
  return { ids, firstCounted: Math.max(1, read.length) };
}

/** Input ids and the targets one place ahead, cut to `length`. @returns whether any target counts */
function fill({ ids, firstCounted }: Sequence, tokens: Int32Array, targets: Int32Array): boolean {
  const places = Math.min(tokens.length, ids.length - 1);
  for (let place = 0; place < places; place++) {
    tokens[place] = ids[place] as number;
    if (place + 1 >= firstCounted) targets[place] = ids[place + 1] as number;
  }
  return targets.some((target) => target >= 0);
}

/**
 * Rows as sequences of one length, padded at the end. Each begins with the tokenizer's beginning-of-sequence token and ends with
 * its end-of-sequence token, where it has them; that end counts. A prompt and what follows it are encoded apart.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` naming the row of which nothing counts
 */
export function sequencesOf(rows: readonly TextRow[], options: SequenceOptions): TokenDataset {
  const { name, tokenizer } = options;
  const space = addsSpace(tokenizer) ? "" : " ";
  const sequences = rows.map((row) => sequenceOf(row, tokenizer, space));
  let longest = 1;
  for (const { ids } of sequences) longest = Math.max(longest, ids.length - 1);
  const length = Math.min(options.length ?? longest, longest);
  const tokens = new Int32Array(rows.length * length).fill(-1);
  const targets = new Int32Array(rows.length * length).fill(-1);
  for (const [row, sequence] of sequences.entries()) {
    const begin = row * length;
    const end = begin + length;
    if (!fill(sequence, tokens.subarray(begin, end), targets.subarray(begin, end))) {
      const received = `${sequence.ids.length} tokens, cut to ${length}`;
      throw argumentError("at least one token that counts", `row ${row} of ${name}`, received);
    }
  }
  const texts = rows.map(({ prompt, text }) =>
    prompt === null ? text : `${prompt}${space}${text}`,
  );
  const truncated = sequences.filter(({ ids }) => ids.length - 1 > length).length;
  return { ...tokenDataset({ name, length, tokens, targets }), texts, truncated };
}

/**
 * One long text as sequences of `length` tokens, one after the other; the last may be shorter. The first begins with the
 * beginning-of-sequence token, where there is one; every token of the text is predicted once.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for an empty text
 */
export function windowsOf(
  text: string,
  { name, tokenizer, length }: SequenceOptions & { readonly length: number },
): TokenDataset {
  const { bosId } = tokenizer;
  const all = tokenizer.encode(text);
  const stream = bosId === null ? all : Int32Array.from([bosId, ...all]);
  const size = Math.ceil(Math.max(0, stream.length - 1) / length);
  if (size === 0) throw argumentError("a text of at least one token", name, "an empty one");
  const tokens = new Int32Array(size * length).fill(-1);
  const targets = new Int32Array(size * length).fill(-1);
  tokens.set(stream.subarray(0, -1));
  targets.set(stream.subarray(1));
  const texts = Array.from({ length: size }, (_, window) => {
    const ids = targets.subarray(window * length, (window + 1) * length).filter((id) => id >= 0);
    return Buffer.concat(Array.from(ids, (id) => tokenizer.decode(id))).toString("utf8");
  });
  return { ...tokenDataset({ name, length, tokens, targets }), texts };
}
