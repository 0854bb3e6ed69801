import { createHash } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import { FishermaskError } from "../native/errors.js";
import { argumentError, checkInteger } from "./check.js";

/** Labelled images in memory, all of one shape. A sample is one image; its index is its place in file order. */
export interface ImageDataset {
  readonly kind?: "images";
  readonly name: string;
  /** Number of samples, N. */
  readonly size: number;
  /** Class names; a label is an index into them. */
  readonly classes: readonly string[];
  readonly shape: readonly [height: number, width: number, channels: number];
  /** (N, H, W, C), row-major: pixels 0..255 with channels last. */
  readonly images: Uint8Array;
  /** (N,), each 0 .. classes − 1. */
  readonly labels: Int32Array;
}

/** Token sequences in memory. A sample is one sequence; its index is its place in file order. */
export interface TokenDataset {
  readonly kind: "tokens";
  readonly name: string;
  /** Number of samples, N. */
  readonly size: number;
  /** None: what a sequence predicts are tokens. */
  readonly classes: readonly [];
  /** (N,), all 0: of one class, as far as drawing the same number of each class goes. */
  readonly labels: Int32Array;
  /** Tokens a sequence, T; shorter ones are padded at the end. */
  readonly length: number;
  /** (N, T): ids; −1 is padding. */
  readonly tokens: Int32Array;
  /** (N, T): the token that is to follow each place; −1 where it does not count. */
  readonly targets: Int32Array;
  /** (N,): what each sequence was made of, where that is known. */
  readonly texts?: readonly string[];
  /** Sequences that were longer than T: their ends are neither read nor predicted. */
  readonly truncated?: number;
}

export type Dataset = ImageDataset | TokenDataset;

export function isTokens(dataset: Dataset): dataset is TokenDataset {
  return dataset.kind === "tokens";
}

/**
 * The data set, where it holds images.
 *
 * @param what needs them, for the message
 * @throws {@link FishermaskError} `ERR_FM_UNSUPPORTED` for token sequences
 */
export function imagesOf(dataset: Dataset, what: string): ImageDataset {
  if (!isTokens(dataset)) return dataset;
  throw new FishermaskError(
    "ERR_FM_UNSUPPORTED",
    `Expected images for ${what} but received the token sequences of ${dataset.name}`,
  );
}

/** Predictions that a sample makes: one for an image, one a place for a sequence. */
export function positionsOf(dataset: Dataset): number {
  return isTokens(dataset) ? dataset.length : 1;
}

/** Some samples of a data set, by index; nothing is copied. An index may appear once or more, in any order. */
export interface DatasetView {
  readonly dataset: Dataset;
  readonly indices: Int32Array;
}

// Hashing gives the event loop a turn after each of these.
const kDigestChunkBytes = 8 * 1024 * 1024;

/** Bytes of one sample: H · W · C. */
export function sampleBytes(shape: ImageDataset["shape"]): number {
  return shape[0] * shape[1] * shape[2];
}

/**
 * A data set from arrays already in memory. The arrays are kept, not copied.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` when lengths disagree with the shape or a label is out of range
 */
export function arrayDataset(parts: {
  readonly name?: string;
  readonly classes: readonly string[];
  readonly shape: ImageDataset["shape"];
  readonly images: Uint8Array;
  readonly labels: Int32Array;
}): ImageDataset {
  const { name = "array", classes, shape, images, labels } = parts;
  if (shape.length !== 3) {
    throw argumentError("height, width and channels", "shape", `[${shape.join(",")}]`);
  }
  for (const size of shape) {
    checkInteger("each size of shape", size, 1, 2 ** 31 - 1);
  }
  const bytes = labels.length * sampleBytes(shape);
  if (images.length !== bytes) {
    const expected = `${bytes} bytes (${labels.length} labels of ${shape.join("x")} pixels)`;
    throw argumentError(expected, "images", `${images.length} bytes`);
  }
  const wrong = labels.findIndex((label) => label < 0 || label >= classes.length);
  if (wrong >= 0) {
    throw argumentError(
      `a label from 0 to ${classes.length - 1}`,
      `sample ${wrong}`,
      labels[wrong],
    );
  }
  return { name, size: labels.length, classes, shape, images, labels };
}

/** The first `count` samples as a data set of its own; nothing is copied. All where there are fewer. */
export function firstSamples(dataset: Dataset, count: number): Dataset {
  const size = Math.min(count, dataset.size);
  const labels = dataset.labels.subarray(0, size);
  if (!isTokens(dataset)) {
    const images = dataset.images.subarray(0, size * sampleBytes(dataset.shape));
    return { ...dataset, size, images, labels };
  }
  const { length, tokens, targets, texts } = dataset;
  return {
    ...dataset,
    size,
    labels,
    tokens: tokens.subarray(0, size * length),
    targets: targets.subarray(0, size * length),
    ...(texts === undefined ? {} : { texts: texts.slice(0, size) }),
  };
}

/** A view of every sample, in file order. */
export function wholeView(dataset: Dataset): DatasetView {
  return { dataset, indices: Int32Array.from({ length: dataset.size }, (_, index) => index) };
}

/**
 * A view of chosen samples, in the order given. The indices are copied.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` naming the first index that is out of range
 */
export function subset(dataset: Dataset, indices: Int32Array): DatasetView {
  const wrong = indices.findIndex((index) => index < 0 || index >= dataset.size);
  if (wrong >= 0) {
    const expected = `an index from 0 to ${dataset.size - 1}`;
    throw argumentError(expected, `entry ${wrong} of the subset`, indices[wrong]);
  }
  return { dataset, indices: indices.slice() };
}

/**
 * A data set from token sequences already in memory. The arrays are kept, not copied.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` when lengths disagree, an id is below −1, or no target counts
 */
export function tokenDataset(parts: {
  readonly name?: string;
  readonly length: number;
  readonly tokens: Int32Array;
  readonly targets: Int32Array;
}): TokenDataset {
  const { name = "tokens", length, tokens, targets } = parts;
  checkInteger("length", length, 1, 2 ** 31 - 1);
  if (tokens.length % length !== 0 || targets.length !== tokens.length) {
    const received = `${tokens.length} tokens and ${targets.length} targets`;
    throw argumentError(`sequences of ${length} tokens, each with its target`, "tokens", received);
  }
  for (const [what, ids] of Object.entries({ tokens, targets })) {
    const wrong = ids.findIndex((id) => id < -1);
    if (wrong >= 0) throw argumentError("an id from −1", `entry ${wrong} of ${what}`, ids[wrong]);
  }
  const size = tokens.length / length;
  const labels = new Int32Array(size);
  return { kind: "tokens", name, size, classes: [], labels, length, tokens, targets };
}

/** The arrays whose bytes make the data set, and its sizes in words. */
function contentOf(dataset: Dataset): { sizes: string; arrays: (Uint8Array | Int32Array)[] } {
  if (isTokens(dataset)) {
    const { size, length, tokens, targets } = dataset;
    return { sizes: `${size} x ${length} tokens`, arrays: [tokens, targets] };
  }
  const { size, shape, images, labels } = dataset;
  return { sizes: `${size} x ${shape.join(" x ")}`, arrays: [images, labels] };
}

/**
 * SHA-256 of shape, images and labels, or of tokens and targets, as 64 hexadecimal digits: the same for the same samples in the same order,
 * whatever the name, the class names or the file format.
 */
export async function datasetDigest(dataset: Dataset): Promise<string> {
  const { sizes, arrays } = contentOf(dataset);
  const hash = createHash("sha256");
  // The sizes go first, so that no other split of the same bytes into shape, images and labels has this digest.
  hash.update(`fishermask dataset 1: ${sizes}\n`);
  for (const array of arrays) {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    for (let begin = 0; begin < bytes.length; begin += kDigestChunkBytes) {
      hash.update(bytes.subarray(begin, begin + kDigestChunkBytes));
      await nextTurn();
    }
  }
  return hash.digest("hex");
}
