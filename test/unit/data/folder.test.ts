import { mkdir, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { beforeAll, describe, expect, it } from "vitest";
import { imageSize } from "../../../src/cli/options.js";
import { imagesOf } from "../../../src/data/dataset.js";
import { hasSplit, loadDataset } from "../../../src/data/source.js";
import { expectError, temporaryFolder } from "../io/support.js";

const at = temporaryFolder();
let folderNumber = 0;

const rgbOf = (value: number, height = 2, width = 3): Promise<Buffer> =>
  sharp({ create: { height, width, channels: 3, background: { r: value, g: 0, b: 255 } } })
    .png()
    .toBuffer();

const greyOf = (value: number): Promise<Buffer> =>
  sharp(Buffer.alloc(6, value), { raw: { height: 2, width: 3, channels: 1 } })
    .toColourspace("b-w")
    .png()
    .toBuffer();

async function folderOf(files: Readonly<Record<string, Uint8Array | string>>): Promise<string> {
  folderNumber += 1;
  const folder = at(`images-${folderNumber}`);
  await mkdir(folder);
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), content);
  }
  return folder;
}

const load = async (folder: string, options: Partial<Parameters<typeof loadDataset>[1]> = {}) =>
  imagesOf(await loadDataset(`folder:${folder}`, { split: "train", ...options }), "a test");

describe("folder", () => {
  let image = Buffer.alloc(0);
  beforeAll(async () => {
    image = await rgbOf(9);
  });

  it("reads class folders of both splits; classes and samples in code point order", async () => {
    // U+FFFD sorts before U+1F600 by code points, after it by UTF-16 units.
    const folder = await folderOf({
      "train/b/2.png": await rgbOf(3),
      "train/b/10.PNG": await rgbOf(2),
      "train/b/1/x.png": await rgbOf(1),
      "train/a b/x.png": await rgbOf(7),
      "train/a/x.png": await rgbOf(8),
      "train/\u{fffd}/x.png": await rgbOf(4),
      "train/\u{1f600}/x.webp": await sharp(await rgbOf(5))
        .webp({ lossless: true })
        .toBuffer(),
      "train/README.md": "beside the classes",
      "train/b/.DS_Store": "x",
      "train/b/Thumbs.db": "x",
      "test/b/y.png": await rgbOf(6),
    });
    const train = await load(folder);
    expect(train.classes).toEqual(["a", "a b", "b", "\u{fffd}", "\u{1f600}"]);
    expect([...train.labels]).toEqual([0, 1, 2, 2, 2, 3, 4]);
    expect(train).toMatchObject({ name: "folder", size: 7, shape: [2, 3, 3] });
    const first = Array.from({ length: 7 }, (_, n) => train.images[n * 18]);
    expect(first).toEqual([8, 7, 1, 2, 3, 4, 5]);
    expect([...train.images.subarray(0, 6)]).toEqual([8, 0, 255, 8, 0, 255]);
    const test = await load(folder, { split: "test" });
    expect(test.classes).toEqual(train.classes);
    expect([[...test.labels], test.images[0]]).toEqual([[2], 6]);
  });

  it("takes the folder itself where there are neither train nor test", async () => {
    const folder = await folderOf({ "cat/1.png": image, "dog/1.png": image });
    const dataset = await load(folder);
    expect([dataset.classes, [...dataset.labels]]).toEqual([
      ["cat", "dog"],
      [0, 1],
    ]);
    expect(hasSplit(`folder:${folder}`, "train")).toBe(true);
    expect(hasSplit(`folder:${folder}`, "test")).toBe(false);
    const words = ["the split train of folder data", '"test"'];
    await expectError(() => load(folder, { split: "test" }), "ERR_FM_ARGUMENT", ...words);
    const only = await folderOf({ "test/cat/1.png": image });
    expect(hasSplit(`folder:${only}`, "train")).toBe(false);
    expect((await load(only, { split: "test" })).classes).toEqual(["cat"]);
  });

  it.each([
    [1, [0]],
    [3, [0, 0, 1]],
    [9, [0, 0, 1, 1]],
  ])("gives the first samples: limit %d", async (limit, labels) => {
    const folder = await folderOf({
      "a/1.png": image,
      "a/2.png": image,
      "b/1.png": image,
      "b/2.png": image,
    });
    const dataset = await load(folder, { limit });
    expect([...dataset.labels]).toEqual(labels);
    expect(dataset.images.length).toBe(labels.length * 18);
    expect(dataset.classes).toEqual(["a", "b"]);
  });

  it("has one channel where all are grey, three where one is not", async () => {
    const files = { "a/1.png": await greyOf(5), "a/2.png": await greyOf(6) };
    const grey = await load(await folderOf(files));
    expect([grey.shape, grey.images[6]]).toEqual([[2, 3, 1], 6]);
    const mixed = await load(await folderOf({ ...files, "a/3.png": image }));
    expect(mixed.shape).toEqual([2, 3, 3]);
    expect([...mixed.images.subarray(18, 24)]).toEqual([6, 6, 6, 6, 6, 6]);
    expect([...mixed.images.subarray(36, 39)]).toEqual([9, 0, 255]);
  });

  it("asks for one size, or is given one", async () => {
    const other = await rgbOf(7, 5, 4);
    const folder = await folderOf({ "a/1.png": image, "a/2.png": other });
    const words = [join(folder, "a/2.png"), "2 x 3 pixels", "received 5 x 4"];
    await expectError(() => load(folder), "ERR_FM_BAD_FILE", ...words);
    const dataset = await load(folder, { imageSize: [4, 3] });
    expect([dataset.shape, dataset.images.length]).toEqual([[4, 3, 3], 72]);
    expect([dataset.images[0], dataset.images[36]]).toEqual([9, 7]);
  });

  it("checks the image size, also for data that have one of their own", async () => {
    const folder = await folderOf({ "a/1.png": image });
    for (const size of [
      [0, 3],
      [2.5, 3],
      [16_385, 1],
    ] as const) {
      await expectError(() => load(folder, { imageSize: size }), "ERR_FM_ARGUMENT", "imageSize");
    }
    const options = { split: "train", imageSize: [4, 4] } as const;
    await expectError(
      () => loadDataset("cifar10:x", options),
      "ERR_FM_ARGUMENT",
      "imageSize",
      "cifar10",
    );
  });

  it("refuses links that lead out, follows those that do not", async () => {
    const folder = await folderOf({ "train/a/1.png": image, "train/b/1.png": image });
    await symlink("1.png", join(folder, "train/a/2.png"));
    expect((await load(folder)).size).toBe(3);
    const outside = await folderOf({ "c/secret.png": image });
    await symlink(join(outside, "c/secret.png"), join(folder, "train/a/3.png"));
    await expectError(
      () => load(folder),
      "ERR_FM_BAD_FILE",
      join(folder, "train/a/3.png"),
      "outside",
    );
    const linked = await folderOf({ "a/1.png": image });
    await symlink(join(outside, "c"), join(linked, "b"));
    await expectError(() => load(linked), "ERR_FM_BAD_FILE", join(linked, "b"), "outside");
    const split = await folderOf({ "test/c/1.png": image });
    await symlink(outside, join(split, "train"));
    await expectError(() => load(split), "ERR_FM_BAD_FILE", join(split, "train"), "outside");
  });

  it("ends where links go in a ring", async () => {
    const folder = await folderOf({ "a/1.png": image });
    await symlink("..", join(folder, "a/up"));
    await expectError(() => load(folder), "ERR_FM_BAD_FILE", "folders in each other");
  });

  it.each([
    ["a file of another ending", { "a/1.png": "", "a/2.bmp": "BM" }, ["a/2.bmp", ".bmp"]],
    ["a file that is no image", { "a/1.png": "hello" }, ["a/1.png", "another kind"]],
    ["an empty file", { "a/1.jpg": "" }, ["a/1.jpg", "another kind"]],
    ["no class folder", { "README.md": "" }, ["a folder for each class", "none"]],
  ])("refuses %s", async (_what, files, words) => {
    await expectError(async () => load(await folderOf(files)), "ERR_FM_BAD_FILE", ...words);
  });

  it("refuses an empty class folder, and a test class that was not trained", async () => {
    const folder = await folderOf({
      "train/a/1.png": image,
      "test/a/1.png": image,
      "test/b/1.png": image,
    });
    const words = [join(folder, "test/b"), join(folder, "train")];
    await expectError(() => load(folder, { split: "test" }), "ERR_FM_BAD_FILE", ...words);
    await mkdir(join(folder, "train/c"));
    await expectError(
      () => load(folder),
      "ERR_FM_BAD_FILE",
      join(folder, "train/c"),
      "at least one image",
    );
  });
});

describe("--image-size", () => {
  it("takes height and width", () => {
    expect(imageSize("32,48")).toEqual([32, 48]);
    for (const text of ["", "32", "32,", "32,0", "32,a", "1,2,3", "1x2"]) {
      expect(() => imageSize(text), text).toThrow("Expected");
    }
  });
});
