import type { Pixels } from "./decode.js";

// Pillow's fixed point for 8-bit channels: weights are whole multiples of 2^-22.
const kPrecisionBits = 22;
const kHalf = 1 << (kPrecisionBits - 1);

/** For each output pixel the input pixels that it is made of, and how much of each. */
interface Taps {
  readonly first: Int32Array;
  /** (outputs, most): weights in fixed point, 0 beyond those that count. */
  readonly weights: Int32Array;
  readonly most: number;
}

/** Triangles as wide as an output pixel is, at least as wide as an input pixel (which is what makes it antialiased). */
function tapsOf(inputs: number, outputs: number, from: number, count: number): Taps {
  const scale = inputs / outputs;
  const support = Math.max(scale, 1);
  const perSupport = 1 / support;
  const most = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(count);
  const weights = new Int32Array(count * most);
  for (let i = 0; i < count; i += 1) {
    const center = (from + i + 0.5) * scale;
    const begin = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(inputs, Math.trunc(center + support + 0.5));
    const heights = Array.from({ length: end - begin }, (_, k) =>
      Math.max(0, 1 - Math.abs((k + begin - center + 0.5) * perSupport)),
    );
    const sum = heights.reduce((total, height) => total + height, 0);
    first[i] = begin;
    for (const [k, height] of heights.entries()) {
      weights[i * most + k] = Math.trunc(0.5 + (height / sum) * (1 << kPrecisionBits));
    }
  }
  return { first, weights, most };
}

/** Lines along one axis of an image: how many numbers lie between two pixels of a line, and between two lines. */
interface Axis {
  readonly step: number;
  readonly outStep: number;
}

function alongLine(
  input: Uint8Array,
  begin: number,
  output: Uint8Array,
  outBegin: number,
  taps: Taps,
  { step, outStep }: Axis,
): void {
  const { first, weights, most } = taps;
  for (let i = 0; i < first.length; i += 1) {
    let sum = kHalf;
    let at = begin + (first[i] as number) * step;
    for (let k = i * most; k < (i + 1) * most; k += 1) {
      const weight = weights[k] as number;
      if (weight === 0) continue;
      sum += weight * (input[at + (k - i * most) * step] as number);
    }
    at = sum >> kPrecisionBits;
    output[outBegin + i * outStep] = at > 255 ? 255 : at;
  }
}

/** A run of pixels out of a longer axis. */
interface Window {
  readonly size: number;
  readonly from: number;
  readonly count: number;
}

function resizeColumns(image: Pixels, { size, from, count }: Window): Pixels {
  const { height, width, channels } = image;
  if (size === width && count === width) return image;
  const taps = tapsOf(width, size, from, count);
  const data = new Uint8Array(height * count * channels);
  const axis = { step: channels, outStep: channels };
  for (let row = 0; row < height; row += 1) {
    for (let channel = 0; channel < channels; channel += 1) {
      const begin = row * width * channels + channel;
      alongLine(image.data, begin, data, row * count * channels + channel, taps, axis);
    }
  }
  return { height, width: count, channels, data };
}

function resizeRows(image: Pixels, { size, from, count }: Window): Pixels {
  const { height, width, channels } = image;
  if (size === height && count === height) return image;
  const taps = tapsOf(height, size, from, count);
  const line = width * channels;
  const data = new Uint8Array(count * line);
  for (let at = 0; at < line; at += 1) {
    alongLine(image.data, at, data, at, taps, { step: line, outStep: line });
  }
  return { height: count, width, channels, data };
}

/** As Python's `round`: halves to the even neighbour. */
function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

const centred = (size: number, count: number): Window => ({
  size,
  from: roundHalfEven((size - count) / 2),
  count,
});

/**
 * Scales an image until it just covers height x width, and crops the centre. The side that is the shorter one relative to
 * what is asked for gets exactly that size, the other the whole part of what keeps the proportions. Scaling is bilinear with
 * antialiasing, columns first, then rows, rounded to bytes in between; the crop begins at half of what is too much, halves
 * rounded to even. For height = width this is torchvision's `Resize(height)` and `CenterCrop(height)` on Pillow images, byte
 * for byte.
 *
 * Source: Pillow's `ImagingResample`, torchvision.transforms.v2
 */
export function resizeAndCrop(image: Pixels, [height, width]: readonly [number, number]): Pixels {
  const heightBinds = image.height * width <= image.width * height;
  const tall = heightBinds ? height : Math.floor((width * image.height) / image.width);
  const wide = heightBinds ? Math.floor((height * image.width) / image.height) : width;
  return resizeRows(resizeColumns(image, centred(wide, width)), centred(tall, height));
}
