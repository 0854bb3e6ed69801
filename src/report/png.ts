import { deflateSync } from "node:zlib";
import { FishermaskError } from "../native/errors.js";

const kSignature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
const kBitDepth = 8;
// Channels → PNG colour type: grey, grey + alpha, RGB, RGB + alpha.
const kColourTypes: Readonly<Record<number, number>> = { 1: 0, 2: 4, 3: 2, 4: 6 };
const kCrcPolynomial = 0xedb88320;
const kMaxSide = 16384;

// node:zlib has a crc32 of its own only from Node 20.15 and 22.2 on; a table costs ten lines.
const kCrcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) {
    value = value & 1 ? kCrcPolynomial ^ (value >>> 1) : value >>> 1;
  }
  return value >>> 0;
});

function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc = kCrcTable[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(Buffer.from(type, "latin1"), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

function header(image: PngImage, colourType: number): Uint8Array {
  const bytes = new Uint8Array(13);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, image.width);
  view.setUint32(4, image.height);
  bytes.set([kBitDepth, colourType], 8);
  return bytes;
}

// Each row is led by its filter; 0 means "as it is".
function filteredRows({ height, width, channels, pixels }: PngImage): Uint8Array {
  const rowBytes = width * channels;
  const rows = new Uint8Array(height * (rowBytes + 1));
  for (let y = 0; y < height; y++) {
    rows.set(pixels.subarray(y * rowBytes, (y + 1) * rowBytes), y * (rowBytes + 1) + 1);
  }
  return rows;
}

function isSide(value: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= kMaxSide;
}

export interface PngImage {
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** (H, W, C), 0..255. */
  readonly pixels: Uint8Array;
}

/** Whether {@link encodePng} can write the image: 1 to 4 channels, sides 1..16384, as many pixels as the shape says. */
export function isPngImage(image: PngImage): boolean {
  const { height, width, channels, pixels } = image;
  const shaped = isSide(height) && isSide(width) && kColourTypes[channels] !== undefined;
  return shaped && pixels.length === height * width * channels;
}

/**
 * Encodes an 8-bit image, (H, W, C) with C = 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA), as a PNG file.
 *
 * @throws {@link FishermaskError} ERR_FM_ARGUMENT for another shape or a wrong number of pixels
 * Source: W3C PNG specification, third edition, sections 5 and 11.2.
 */
export function encodePng(image: PngImage): Uint8Array {
  if (!isPngImage(image)) {
    const { height, width, channels, pixels } = image;
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected H × W × C bytes with C in 1..4 and sides in 1..${kMaxSide} for image but received ` +
        `${pixels.length} bytes for (${height}, ${width}, ${channels})`,
    );
  }
  return Buffer.concat([
    kSignature,
    chunk("IHDR", header(image, kColourTypes[image.channels]!)),
    chunk("IDAT", deflateSync(filteredRows(image), { level: 9 })),
    chunk("IEND", new Uint8Array(0)),
  ]);
}

/** The image as a `data:` URI. Errors as {@link encodePng}. */
export function pngDataUri(image: PngImage): string {
  return `data:image/png;base64,${Buffer.from(encodePng(image)).toString("base64")}`;
}
