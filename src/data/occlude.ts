import { argumentError } from "./check.js";
import {
  arrayDataset,
  type DatasetView,
  type ImageDataset,
  imagesOf,
  sampleBytes,
} from "./dataset.js";
import { type PhiloxKey, philox, scaleWord } from "./philox.js";
import { randomStream } from "./random-stream.js";

export interface OccludeOptions {
  /** Side of the square as a share of the image's shorter side, 0 .. below 1. 0: nothing is hidden; else at least a pixel. */
  readonly side: number;
  readonly seed: number;
  /** (C,): the pixel, 0..255, that the square takes; see `meanPixel`. */
  readonly fill: Uint8Array;
}

interface Square {
  readonly top: number;
  readonly left: number;
  readonly side: number;
}

/** The pixel nearest to what the normalisation maps to 0, by channel: (C,). */
export function meanPixel(normalization: {
  /** (C,), in the units after the division. */
  readonly mean: readonly number[];
  readonly divisor: number;
}): Uint8Array {
  const { mean, divisor } = normalization;
  return Uint8Array.from(mean, (value) => Math.min(255, Math.max(0, Math.round(value * divisor))));
}

function check({ side, fill }: OccludeOptions, shape: ImageDataset["shape"]): void {
  if (!(side >= 0 && side < 1)) {
    throw argumentError("a number from 0 to below 1", "the occlusion's side", side);
  }
  if (fill.length !== shape[2]) {
    throw argumentError(
      `one pixel for each channel of the data (${shape[2]})`,
      "fill",
      fill.length,
    );
  }
}

/** Side of the square in pixels, rounded down. */
function sideInPixels(share: number, [height, width]: ImageDataset["shape"]): number {
  return share === 0 ? 0 : Math.max(1, Math.floor(share * Math.min(height, width)));
}

// One block per sample, addressed by its index: independent of which other samples there are.
function squareOf(
  side: number,
  [height, width]: ImageDataset["shape"],
  key: PhiloxKey,
  index: number,
): Square {
  const [down, right] = philox(key, index);
  return {
    top: scaleWord(down, height - side + 1),
    left: scaleWord(right, width - side + 1),
    side,
  };
}

/** @param image (H, W, C), changed in place */
function fillSquare(
  image: Uint8Array,
  [, width, channels]: ImageDataset["shape"],
  { top, left, side }: Square,
  fill: Uint8Array,
): void {
  for (let row = top; row < top + side; row += 1) {
    for (let column = left; column < left + side; column += 1) {
      image.set(fill, (row * width + column) * channels);
    }
  }
}

/**
 * Copies of a view's samples with a square at a random place hidden, as a data set of their own (sample i is the view's
 * i-th). A network's accuracy on them stands in for that on unseen images: it has learnt the training images by heart,
 * and of those alone it shows no damage.
 *
 * Source: DeVries, Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", arXiv:1708.04552;
 * there it is used in training, here in judging.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for a side or fill that does not fit
 */
export function occludedCopy(view: DatasetView, options: OccludeOptions): DatasetView {
  const { indices } = view;
  const dataset = imagesOf(view.dataset, "occluded copies");
  const { shape, classes, name } = dataset;
  check(options, shape);
  const bytes = sampleBytes(shape);
  const side = sideInPixels(options.side, shape);
  const key = randomStream("occlude", options.seed, 0);
  const images = new Uint8Array(indices.length * bytes);
  for (const [place, index] of indices.entries()) {
    const image = images.subarray(place * bytes, (place + 1) * bytes);
    image.set(dataset.images.subarray(index * bytes, (index + 1) * bytes));
    if (side > 0) fillSquare(image, shape, squareOf(side, shape, key, index), options.fill);
  }
  const labels = indices.map((index) => dataset.labels[index] as number);
  const copy = arrayDataset({ name: `${name}, occluded`, classes, shape, images, labels });
  return { dataset: copy, indices: Int32Array.from(indices.keys()) };
}
