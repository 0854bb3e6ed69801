import { checkInteger } from "./check.js";
import type { ImageDataset } from "./dataset.js";
import { type PhiloxKey, philox, scaleWord } from "./philox.js";

/** What happens to training images at random. */
export interface AugmentOptions {
  /** Pixels of padding on each side before a crop back to the image's size; 0 for none. Padding is black (0). */
  readonly crop: number;
  /** Mirror left to right, half of the time. */
  readonly flip: boolean;
  readonly seed: number;
  readonly epoch: number;
}

interface Placement {
  /** The crop's origin relative to the image's, in pixels: −crop .. crop. */
  readonly down: number;
  readonly right: number;
  readonly mirrored: boolean;
}

/**
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for a crop that could leave nothing of the image
 */
export function checkCrop(crop: number, shape: ImageDataset["shape"]): void {
  checkInteger("crop", crop, 0, Math.min(shape[0], shape[1]) - 1);
}

// One block per sample, addressed by its index: independent of batch size, order and which other samples there are.
function placementOf(options: AugmentOptions, key: PhiloxKey, index: number): Placement {
  const { crop, flip } = options;
  const [down, right, mirror] = philox(key, index);
  return {
    down: scaleWord(down, 2 * crop + 1) - crop,
    right: scaleWord(right, 2 * crop + 1) - crop,
    mirrored: flip && mirror >= 2 ** 31,
  };
}

/**
 * Writes one image, cropped and mirrored at random, over `target`. Padding is 0 in the pixels' own domain, so black
 * before normalisation (as torchvision's RandomCrop pads before ToTensor), not the mean colour.
 *
 * @param image (H, W, C)
 * @param target (H, W, C), all zeros
 * @param key the stream of the augmentation's seed and epoch
 * @param index the sample's index in its data set
 */
export function augmentInto(
  image: Uint8Array,
  target: Uint8Array,
  shape: ImageDataset["shape"],
  options: AugmentOptions,
  key: PhiloxKey,
  index: number,
): void {
  const [height, width, channels] = shape;
  const { down, right, mirrored } = placementOf(options, key, index);
  const firstRow = Math.max(0, -down);
  const lastRow = Math.min(height, height - down);
  const firstColumn = Math.max(0, -right);
  const lastColumn = Math.min(width, width - right);
  for (let row = firstRow; row < lastRow; row += 1) {
    for (let column = firstColumn; column < lastColumn; column += 1) {
      const from = ((row + down) * width + column + right) * channels;
      const to = (row * width + (mirrored ? width - 1 - column : column)) * channels;
      for (let channel = 0; channel < channels; channel += 1) {
        target[to + channel] = image[from + channel] as number;
      }
    }
  }
}
