import { createHash } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import { argumentError, checkInteger } from "./check.js";

/** Labelled images in memory, all of one shape. A sample is one image; its index is its place in file order. */
export interface ImageDataset {
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

/** Some samples of a data set, by index; nothing is copied. An index may appear once or more, in any order. */
export interface DatasetView {
  readonly dataset: ImageDataset;
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

/** A view of every sample, in file order. */
export function wholeView(dataset: ImageDataset): DatasetView {
  return { dataset, indices: Int32Array.from({ length: dataset.size }, (_, index) => index) };
}

/**
 * A view of chosen samples, in the order given. The indices are copied.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` naming the first index that is out of range
 */
export function subset(dataset: ImageDataset, indices: Int32Array): DatasetView {
  const wrong = indices.findIndex((index) => index < 0 || index >= dataset.size);
  if (wrong >= 0) {
    const expected = `an index from 0 to ${dataset.size - 1}`;
    throw argumentError(expected, `entry ${wrong} of the subset`, indices[wrong]);
  }
  return { dataset, indices: indices.slice() };
}

/**
 * SHA-256 of shape, images and labels, as 64 hexadecimal digits: the same for the same samples in the same order,
 * whatever the name, the class names or the file format.
 */
export async function datasetDigest(dataset: ImageDataset): Promise<string> {
  const { shape, size, images, labels } = dataset;
  const hash = createHash("sha256");
  // The sizes go first, so that no other split of the same bytes into shape, images and labels has this digest.
  hash.update(`fishermask dataset 1: ${size} x ${shape.join(" x ")}\n`);
  const labelBytes = new Uint8Array(labels.buffer, labels.byteOffset, labels.byteLength);
  for (const bytes of [images, labelBytes]) {
    for (let begin = 0; begin < bytes.length; begin += kDigestChunkBytes) {
      hash.update(bytes.subarray(begin, begin + kDigestChunkBytes));
      await nextTurn();
    }
  }
  return hash.digest("hex");
}
