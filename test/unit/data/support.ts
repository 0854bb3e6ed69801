import { gzipSync } from "node:zlib";
import { arrayDataset, type ImageDataset } from "../../../src/data/dataset.js";

/** `size` images of the shape, each pixel another value as far as bytes go, labels in turn. */
export function numberedDataset(
  size: number,
  shape: ImageDataset["shape"] = [4, 5, 3],
  classes: readonly string[] = ["ant", "bee", "cat"],
): ImageDataset {
  const pixels = shape[0] * shape[1] * shape[2];
  return arrayDataset({
    classes,
    shape,
    images: Uint8Array.from({ length: size * pixels }, (_, i) => (i * 7) % 256),
    labels: Int32Array.from({ length: size }, (_, i) => i % classes.length),
  });
}

/** An IDX file of unsigned bytes. */
export function idxBytes(
  sizes: readonly number[],
  items: Uint8Array,
  magic = 0x800 + sizes.length,
): Buffer {
  const header = Buffer.alloc(4 + 4 * sizes.length);
  header.writeUInt32BE(magic);
  for (const [i, size] of sizes.entries()) {
    header.writeUInt32BE(size, 4 + 4 * i);
  }
  return Buffer.concat([header, items]);
}

export function gzipped(bytes: Uint8Array): Buffer {
  return gzipSync(bytes);
}

/** How often each label occurs. */
export function labelCounts(dataset: ImageDataset): number[] {
  const counts = new Array<number>(dataset.classes.length).fill(0);
  for (const label of dataset.labels) {
    counts[label]! += 1;
  }
  return counts;
}
