import { badFile } from "../../io/file-error.js";
import { FishermaskError } from "../../native/errors.js";
import type { ImageDataset } from "../dataset.js";
import type { ImagePlace, Pixels } from "./decode.js";
import { resizeAndCrop } from "./resize.js";

function allocate(count: number, [height, width, channels]: ImageDataset["shape"]): Uint8Array {
  try {
    return new Uint8Array(count * height * width * channels);
  } catch (cause) {
    const what = `${count} images of ${height} x ${width} x ${channels}`;
    throw new FishermaskError(
      "ERR_FM_OUT_OF_MEMORY",
      `Expected memory for ${what} bytes but received none: give an image size or a limit`,
      { cause },
    );
  }
}

/** Grey to RGB: each byte three times. */
function widen(grey: Uint8Array, target: Uint8Array): void {
  for (let i = 0; i < grey.length; i += 1) target.fill(grey[i] as number, 3 * i, 3 * i + 3);
}

/**
 * Images one after the other in one array, which is taken when the first one is there. Grey ones stay at one channel until one
 * of another kind comes: from then on all are RGB.
 */
export class ImageStack {
  readonly #count: number;
  readonly #imageSize: readonly [number, number] | undefined;
  #shape: ImageDataset["shape"] | undefined;
  #images: Uint8Array = new Uint8Array(0);
  #filled = 0;

  /**
   * @param count images that will be added
   * @param imageSize height and width that each is brought to; without it all must be of one size
   */
  constructor(count: number, imageSize: readonly [number, number] | undefined) {
    this.#count = count;
    this.#imageSize = imageSize;
  }

  /** @throws {@link FishermaskError} `ERR_FM_BAD_FILE` for another size, `ERR_FM_OUT_OF_MEMORY` */
  add(image: Pixels, place: ImagePlace): void {
    const fitted = this.#imageSize === undefined ? image : resizeAndCrop(image, this.#imageSize);
    const [height, width, channels] = this.#shapeFor(fitted, place);
    const size = height * width * channels;
    const target = this.#images.subarray(this.#filled * size, (this.#filled + 1) * size);
    if (fitted.channels === channels) target.set(fitted.data);
    else widen(fitted.data, target);
    this.#filled += 1;
  }

  /** (N, H, W, C) and its H, W, C. */
  finish(): { readonly images: Uint8Array; readonly shape: ImageDataset["shape"] } {
    return { images: this.#images, shape: this.#shape ?? [0, 0, 0] };
  }

  #shapeFor({ height, width, channels }: Pixels, place: ImagePlace): ImageDataset["shape"] {
    const shape = this.#shape;
    if (shape === undefined) {
      this.#images = allocate(this.#count, [height, width, channels]);
      this.#shape = [height, width, channels];
      return this.#shape;
    }
    if (height !== shape[0] || width !== shape[1]) {
      const expected = `${shape[0]} x ${shape[1]} pixels, as the first image has (an image size brings all to one)`;
      throw badFile(place.path, place.where, expected, `${height} x ${width}`);
    }
    if (channels <= shape[2]) return shape;
    const grey = this.#images.subarray(0, this.#filled * height * width);
    this.#images = allocate(this.#count, [height, width, 3]);
    widen(grey, this.#images);
    this.#shape = [height, width, 3];
    return this.#shape;
  }
}
