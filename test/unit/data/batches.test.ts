import { describe, expect, it } from "vitest";
import { type Batch, type BatchOptions, batches } from "../../../src/data/batches.js";
import { type DatasetView, subset, wholeView } from "../../../src/data/dataset.js";
import { expectError } from "../io/support.js";
import { numberedDataset } from "./support.js";

const kShape = [4, 5, 3] as const;
const kBytes = 60;
const kDataset = numberedDataset(23, kShape);
const kView = wholeView(kDataset);

function all(view: DatasetView, options: BatchOptions): Batch[] {
  return [...batches(view, options)];
}

function order(parts: readonly Batch[]): number[] {
  return parts.flatMap((batch) => [...batch.indices]);
}

/** Each sample's pixels by its index. */
function imagesByIndex(parts: readonly Batch[]): Map<number, number[]> {
  const images = new Map<number, number[]>();
  for (const batch of parts) {
    for (const [i, index] of batch.indices.entries()) {
      images.set(index, [...batch.data.subarray(i * kBytes, (i + 1) * kBytes)]);
    }
  }
  return images;
}

function pixelsOf(index: number): number[] {
  return [...kDataset.images.subarray(index * kBytes, (index + 1) * kBytes)];
}

describe("batches", () => {
  it("gives every sample once, in the view's order, with its pixels and label", () => {
    const view = subset(kDataset, new Int32Array([9, 2, 22, 0, 5]));
    const parts = all(view, { batchSize: 2 });
    expect(parts.map((batch) => batch.count)).toEqual([2, 2, 1]);
    expect(order(parts)).toEqual([9, 2, 22, 0, 5]);
    expect(parts.flatMap((batch) => [...batch.labels])).toEqual([0, 2, 1, 0, 2]);
    for (const [index, pixels] of imagesByIndex(parts)) {
      expect(pixels).toEqual(pixelsOf(index));
    }
  });

  it("gives nothing for an empty view, and arrays of its own", () => {
    expect(all(subset(kDataset, new Int32Array(0)), { batchSize: 4 })).toEqual([]);
    const [batch] = all(kView, { batchSize: 4 });
    batch!.data.fill(0);
    batch!.indices.fill(9);
    expect(kDataset.images[1]).toBe(7);
    expect(kView.indices[0]).toBe(0);
  });

  it("shuffles: another order each epoch and seed, the same for every batch size", () => {
    const shuffle = { seed: 3, epoch: 0 };
    const one = order(all(kView, { batchSize: 1, shuffle }));
    expect([...one].sort((a, b) => a - b)).toEqual([...kView.indices]);
    expect(one).not.toEqual([...kView.indices]);
    for (const batchSize of [2, 7, 100]) {
      expect(order(all(kView, { batchSize, shuffle }))).toEqual(one);
    }
    expect(order(all(kView, { batchSize: 7, shuffle: { seed: 3, epoch: 1 } }))).not.toEqual(one);
    expect(order(all(kView, { batchSize: 7, shuffle: { seed: 4, epoch: 0 } }))).not.toEqual(one);
  });

  it("puts each of three samples in each place about equally often", () => {
    const view = subset(kDataset, new Int32Array([0, 1, 2]));
    const counts = new Map<string, number>();
    for (let epoch = 0; epoch < 6000; epoch += 1) {
      const key = order(all(view, { batchSize: 3, shuffle: { seed: 1, epoch } })).join("");
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    // Six orders, 1000 each, standard deviation 29: six of them.
    expect(counts.size).toBe(6);
    for (const count of counts.values()) {
      expect(Math.abs(count - 1000)).toBeLessThan(174);
    }
  });

  it("augments a sample the same for every batch size, order and view", () => {
    const augment = { crop: 2, flip: true, seed: 5, epoch: 1 };
    const images = imagesByIndex(all(kView, { batchSize: 23, augment }));
    const shuffle = { seed: 9, epoch: 1 };
    expect(imagesByIndex(all(kView, { batchSize: 4, augment, shuffle }))).toEqual(
      new Map(order(all(kView, { batchSize: 4, shuffle })).map((i) => [i, images.get(i)])),
    );
    const alone = all(subset(kDataset, new Int32Array([17])), { batchSize: 1, augment });
    expect(imagesByIndex(alone).get(17)).toEqual(images.get(17));
    const other = imagesByIndex(all(kView, { batchSize: 23, augment: { ...augment, epoch: 2 } }));
    expect(other).not.toEqual(images);
  });

  it("crops and mirrors to one of the images that it may, and to each of them", () => {
    const crop = 1;
    const seen = new Set<string>();
    const possible = new Map<string, string>();
    for (let down = -crop; down <= crop; down += 1) {
      for (let right = -crop; right <= crop; right += 1) {
        for (const mirrored of [false, true]) {
          const image = padCropFlip(pixelsOf(8), crop, down + crop, right + crop, mirrored);
          possible.set(image.join(), `${down} ${right} ${mirrored}`);
        }
      }
    }
    expect(possible.size).toBe(18);
    const view = subset(kDataset, new Int32Array([8]));
    for (let epoch = 0; epoch < 400; epoch += 1) {
      const augment = { crop, flip: true, seed: 0, epoch };
      const [batch] = all(view, { batchSize: 1, augment });
      const placement = possible.get([...batch!.data].join());
      expect(placement).toBeDefined();
      seen.add(placement!);
    }
    expect(seen.size).toBe(18);
  });

  it("changes nothing with no crop and no flip", () => {
    const augment = { crop: 0, flip: false, seed: 1, epoch: 1 };
    const plain = all(kView, { batchSize: 5 });
    expect(all(kView, { batchSize: 5, augment })).toEqual(plain);
  });

  it("stops before the next batch once the signal has fired", async () => {
    const controller = new AbortController();
    const parts = batches(kView, { batchSize: 5, signal: controller.signal });
    expect(parts.next().done).toBe(false);
    controller.abort();
    await expectError(() => parts.next(), "ERR_FM_ABORTED");
  });

  const augment = { crop: 0, flip: true, seed: 0, epoch: 0 };
  it.each<[string, BatchOptions, string]>([
    ["batchSize", { batchSize: 0 }, "0"],
    ["batchSize", { batchSize: 1.5 }, "1.5"],
    ["seed", { batchSize: 1, shuffle: { seed: -1, epoch: 0 } }, "-1"],
    ["epoch", { batchSize: 1, augment: { ...augment, epoch: 0.5 } }, "0.5"],
    ["crop", { batchSize: 1, augment: { ...augment, crop: 4 } }, "4"],
  ])("refuses a bad %s at once", async (name, options, received) => {
    await expectError(() => batches(kView, options), "ERR_FM_ARGUMENT", name, received);
  });
});

/** The plain way: pad with zeros, cut out, mirror. */
function padCropFlip(
  image: number[],
  crop: number,
  top: number,
  left: number,
  mirrored: boolean,
): number[] {
  const [height, width, channels] = kShape;
  const at = (row: number, column: number, channel: number): number =>
    row < 0 || row >= height || column < 0 || column >= width
      ? 0
      : image[(row * width + column) * channels + channel]!;
  const result: number[] = [];
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      const source = mirrored ? width - 1 - column : column;
      for (let channel = 0; channel < channels; channel += 1) {
        result.push(at(row + top - crop, source + left - crop, channel));
      }
    }
  }
  return result;
}
