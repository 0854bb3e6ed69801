import { throwIfAborted } from "../native/errors.js";
import { type AugmentOptions, augmentInto, checkCrop } from "./augment.js";
import { checkInteger } from "./check.js";
import {
  type DatasetView,
  type ImageDataset,
  imagesOf,
  isTokens,
  sampleBytes,
  type TokenDataset,
} from "./dataset.js";
import { randomStream } from "./random-stream.js";
import { shuffled } from "./shuffle.js";

/** Up to `batchSize` samples, in arrays that belong to this batch alone. */
export interface Batch {
  /** (count, H, W, C), 0..255; or token ids, (count, T), −1 for padding. */
  readonly data: Uint8Array | Int32Array;
  /** (count,); of sequences (count, T), −1 where nothing counts. */
  readonly labels: Int32Array;
  /** (count,): each sample's index in the data set. */
  readonly indices: Int32Array;
  readonly count: number;
}

export interface BatchOptions {
  /** Samples a batch; the last one may hold fewer. */
  readonly batchSize: number;
  /** Another order each epoch; without it the view's own. The order does not depend on the batch size. */
  readonly shuffle?: { readonly seed: number; readonly epoch: number } | undefined;
  readonly augment?: AugmentOptions | undefined;
  /** Asked before each batch. */
  readonly signal?: AbortSignal | undefined;
}

function rowsOf(rows: Int32Array, width: number, indices: Int32Array): Int32Array {
  const out = new Int32Array(indices.length * width);
  for (const [place, index] of indices.entries()) {
    out.set(rows.subarray(index * width, (index + 1) * width), place * width);
  }
  return out;
}

function gatherTokens({ tokens, targets, length }: TokenDataset, indices: Int32Array): Batch {
  return {
    data: rowsOf(tokens, length, indices),
    labels: rowsOf(targets, length, indices),
    indices,
    count: indices.length,
  };
}

function gatherImages(
  { images, labels, shape }: ImageDataset,
  indices: Int32Array,
  augment: AugmentOptions | undefined,
): Batch {
  const bytes = sampleBytes(shape);
  const batchImages = new Uint8Array(indices.length * bytes);
  const key = augment && randomStream("augment", augment.seed, augment.epoch);
  for (const [place, index] of indices.entries()) {
    const image = images.subarray(index * bytes, (index + 1) * bytes);
    if (augment === undefined || key === undefined) {
      batchImages.set(image, place * bytes);
    } else {
      const target = batchImages.subarray(place * bytes, (place + 1) * bytes);
      augmentInto(image, target, shape, augment, key, index);
    }
  }
  const batchLabels = indices.map((index) => labels[index] as number);
  return { data: batchImages, labels: batchLabels, indices, count: indices.length };
}

function* generate(view: DatasetView, options: BatchOptions): Generator<Batch, void, undefined> {
  const { batchSize, shuffle, augment, signal } = options;
  const order = shuffle
    ? shuffled(view.indices, randomStream("shuffle", shuffle.seed, shuffle.epoch))
    : view.indices;
  for (let begin = 0; begin < order.length; begin += batchSize) {
    throwIfAborted(signal);
    const indices = order.slice(begin, begin + batchSize);
    const { dataset } = view;
    yield isTokens(dataset)
      ? gatherTokens(dataset, indices)
      : gatherImages(dataset, indices, augment);
  }
}

/**
 * A view's samples, batch by batch; every sample of the view comes exactly once.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` at once for a bad option; `ERR_FM_ABORTED` before the next batch
 * once the signal has fired
 */
export function batches(
  view: DatasetView,
  options: BatchOptions,
): Generator<Batch, void, undefined> {
  const { batchSize, shuffle, augment } = options;
  checkInteger("batchSize", batchSize, 1, 2 ** 31 - 1);
  if (shuffle !== undefined) {
    randomStream("shuffle", shuffle.seed, shuffle.epoch);
  }
  if (augment !== undefined) {
    checkCrop(augment.crop, imagesOf(view.dataset, "crops and flips").shape);
    randomStream("augment", augment.seed, augment.epoch);
  }
  return generate(view, options);
}
