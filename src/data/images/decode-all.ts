import type { ImageDataset } from "../dataset.js";
import { decodeImage, type ImagePlace } from "./decode.js";
import { loadSharp } from "./sharp.js";
import { ImageStack } from "./stack.js";

/** An image that has yet to be read and decoded. */
export interface EncodedImage extends ImagePlace {
  readonly read: () => Promise<Uint8Array>;
}

// What each holds in memory is bounded, and a decoder takes one core.
const kAtOnce = 4;

/**
 * Decodes images into one array, a few at once, in the order given: the first one that is at fault is the one reported.
 *
 * @param count how many there are
 * @param imageSize height and width that each is brought to
 * @returns images (N, H, W, C) and their shape
 * @throws {@link FishermaskError} as {@link decodeImage} and {@link ImageStack.add}; `ERR_FM_UNSUPPORTED` without `sharp`
 */
export async function decodeImages(
  encoded: Iterable<EncodedImage> | AsyncIterable<EncodedImage>,
  count: number,
  imageSize: readonly [number, number] | undefined,
): Promise<{ readonly images: Uint8Array; readonly shape: ImageDataset["shape"] }> {
  const sharp = await loadSharp();
  const stack = new ImageStack(count, imageSize);
  const waiting: (() => Promise<void>)[] = [];
  for await (const image of encoded) {
    const decoded = image.read().then((bytes) => decodeImage(sharp, bytes, image));
    // Awaited later, or never where an earlier one fails.
    decoded.catch(() => undefined);
    waiting.push(async () => stack.add(await decoded, image));
    if (waiting.length >= kAtOnce) await waiting.shift()?.();
  }
  for (const add of waiting) await add();
  return stack.finish();
}
