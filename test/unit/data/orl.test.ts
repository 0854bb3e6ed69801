import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { imagesOf } from "../../../src/data/dataset.js";
import { loadDataset } from "../../../src/data/source.js";
import { DATA, expectError, temporaryFolder } from "../io/support.js";
import { idxBytes, labelCounts } from "./support.js";

const at = temporaryFolder();
let folderNumber = 0;

/** Pictures of 2 x 1 pixels: their place in the file, low byte and high byte. */
async function folderOf(labels: Uint8Array, count = labels.length): Promise<string> {
  folderNumber += 1;
  const folder = at(`orl-${folderNumber}`);
  await mkdir(folder);
  const pixels = Uint8Array.from({ length: count * 2 }, (_, i) => (i % 2 === 0 ? i >> 1 : i >> 9));
  await writeFile(join(folder, "orl-images-idx3-ubyte"), idxBytes([count, 2, 1], pixels));
  await writeFile(join(folder, "orl-labels-idx1-ubyte"), idxBytes([labels.length], labels));
  return folder;
}

const load = async (folder: string, options: Partial<Parameters<typeof loadDataset>[1]> = {}) =>
  imagesOf(await loadDataset(`orl:${folder}`, { split: "train", ...options }), "a test");

describe("orl", () => {
  it("trains on the first eight pictures of each person, tests on the last two, in file order", async () => {
    // All people in turn, ten times: picture k of person p lies at 40 k + p.
    const folder = await folderOf(Uint8Array.from({ length: 400 }, (_, i) => i % 40));
    const placesOf = (images: Uint8Array): number[] =>
      Array.from(
        { length: images.length / 2 },
        (_, n) => images[2 * n]! + 256 * images[2 * n + 1]!,
      );
    const train = await load(folder);
    expect(train).toMatchObject({ name: "orl", size: 320, shape: [2, 1, 1] });
    expect(placesOf(train.images)).toEqual(Array.from({ length: 320 }, (_, i) => i));
    const test = await load(folder, { split: "test" });
    expect(placesOf(test.images)).toEqual(Array.from({ length: 80 }, (_, i) => 320 + i));
    expect([...test.labels.subarray(0, 41)]).toEqual([...Array(40).keys(), 0]);
    expect([train.classes.length, train.classes[0], train.classes[39]]).toEqual([
      40,
      "person 1",
      "person 40",
    ]);
    expect((await load(folder, { limit: 3 })).size).toBe(3);
  });

  it("refuses labels that are not ten of each of 40 people, and another number of images", async () => {
    const labels = Uint8Array.from({ length: 400 }, (_, i) => Math.floor(i / 10));
    const short = await folderOf(labels.with(399, 0));
    await expectError(
      () => load(short),
      "ERR_FM_BAD_FILE",
      "orl-labels",
      "10 pictures a person",
      "11 of label 0",
    );
    const beyond = await folderOf(labels.with(7, 40));
    await expectError(() => load(beyond), "ERR_FM_BAD_FILE", "record 7", "received 40");
    const fewer = await folderOf(labels, 399);
    await expectError(() => load(fewer), "ERR_FM_BAD_FILE", "orl-images", "400", "399");
  });

  it("reads the real faces: 320 and 80 pictures of 112 x 92, resized where asked", async ({
    skip,
  }) => {
    const folder = join(DATA, "orl-faces");
    skip(!existsSync(folder), `no ${folder}: set FISHERMASK_DATA`);
    const train = await load(folder);
    expect(train).toMatchObject({ size: 320, shape: [112, 92, 1] });
    expect(labelCounts(train)).toEqual(new Array(40).fill(8));
    const test = await load(folder, { split: "test", imageSize: [32, 32] });
    expect(test).toMatchObject({ size: 80, shape: [32, 32, 1] });
    expect(labelCounts(test)).toEqual(new Array(40).fill(2));
    // A face is neither black nor one colour.
    expect(new Set(test.images.subarray(0, 1024)).size).toBeGreaterThan(50);
  });
});
