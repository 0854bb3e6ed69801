import { describe, expect, it } from "vitest";
import { arrayDataset, datasetDigest, subset, wholeView } from "../../../src/data/dataset.js";
import { sha256Bytes } from "../../../src/io/digest.js";
import { expectError } from "../io/support.js";
import { numberedDataset } from "./support.js";

const kParts = {
  classes: ["a", "b"],
  shape: [1, 2, 1] as const,
  images: new Uint8Array([1, 2, 3, 4]),
  labels: new Int32Array([0, 1]),
};

describe("arrayDataset", () => {
  it("takes arrays that fit", () => {
    expect(arrayDataset(kParts)).toMatchObject({ name: "array", size: 2, shape: [1, 2, 1] });
  });

  it("refuses arrays that do not", async () => {
    const images = new Uint8Array(3);
    await expectError(() => arrayDataset({ ...kParts, images }), "ERR_FM_ARGUMENT", "4 bytes", "3");
    for (const label of [2, -1]) {
      const labels = new Int32Array([0, label]);
      const words = ["sample 1", "0 to 1", `${label}`];
      await expectError(() => arrayDataset({ ...kParts, labels }), "ERR_FM_ARGUMENT", ...words);
    }
    const shape = [0, 2, 1] as const;
    await expectError(() => arrayDataset({ ...kParts, shape }), "ERR_FM_ARGUMENT", "shape", "0");
    const flat = [2, 1] as unknown as readonly [number, number, number];
    await expectError(
      () => arrayDataset({ ...kParts, shape: flat }),
      "ERR_FM_ARGUMENT",
      "channels",
    );
  });
});

describe("views", () => {
  it("keep the order given and copy the indices", () => {
    const dataset = numberedDataset(6);
    const indices = new Int32Array([4, 0, 4]);
    const view = subset(dataset, indices);
    indices[0] = 1;
    expect([...view.indices]).toEqual([4, 0, 4]);
    expect(view.dataset).toBe(dataset);
    expect([...wholeView(dataset).indices]).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it.each([-1, 6])("refuse the index %d", async (index) => {
    const indices = new Int32Array([0, index]);
    const words = ["0 to 5", "entry 1", `${index}`];
    await expectError(() => subset(numberedDataset(6), indices), "ERR_FM_ARGUMENT", ...words);
  });
});

describe("datasetDigest", () => {
  it("is the SHA-256 of sizes, images and labels", async () => {
    const head = new TextEncoder().encode("fishermask dataset 1: 2 x 1 x 2 x 1\n");
    const bytes = Buffer.concat([head, kParts.images, new Uint8Array(kParts.labels.buffer)]);
    expect(await datasetDigest(arrayDataset(kParts))).toBe(sha256Bytes(bytes));
  });

  it("does not depend on names, but on every pixel, label and size", async () => {
    const digest = await datasetDigest(arrayDataset(kParts));
    const named = arrayDataset({ ...kParts, name: "other", classes: ["x", "y", "z"] });
    expect(await datasetDigest(named)).toBe(digest);
    const others = [
      { ...kParts, images: new Uint8Array([1, 2, 3, 5]) },
      { ...kParts, labels: new Int32Array([0, 0]) },
      { ...kParts, shape: [2, 1, 1] as const },
    ];
    for (const other of others) {
      expect(await datasetDigest(arrayDataset(other))).not.toBe(digest);
    }
  });
});
