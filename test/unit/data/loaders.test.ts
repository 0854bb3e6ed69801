import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { ImageDataset } from "../../../src/data/dataset.js";
import { loaders } from "../../../src/data/loaders.gen.js";
import { loadDataset, parseDataSource } from "../../../src/data/source.js";
import { DATA, expectError, temporaryFolder } from "../io/support.js";
import { gzipped, idxBytes, labelCounts } from "./support.js";

const at = temporaryFolder();
let folderNumber = 0;

async function folderOf(files: Readonly<Record<string, Uint8Array | string>>): Promise<string> {
  folderNumber += 1;
  const folder = at(`data-${folderNumber}`);
  await mkdir(folder);
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(folder, name), content);
  }
  return folder;
}

/** CIFAR records: these labels, then pixels that tell record, plane and place. */
function records(labels: readonly number[][], first = 0): Uint8Array {
  const width = labels[0]!.length + 3072;
  const bytes = new Uint8Array(labels.length * width);
  for (const [i, label] of labels.entries()) {
    bytes.set(label, i * width);
    bytes.set(
      Uint8Array.from({ length: 3072 }, (_, k) => pixel(first + i, k >> 10, k & 1023)),
      i * width + label.length,
    );
  }
  return bytes;
}

function pixel(sample: number, channel: number, place: number): number {
  return (sample * 31 + channel * 101 + place * 3) % 256;
}

function expectPixels(dataset: ImageDataset): void {
  for (const [sample, place, channel] of [
    [0, 0, 0],
    [0, 1023, 2],
    [1, 33, 1],
    [dataset.size - 1, 500, 2],
  ] as const) {
    expect(dataset.images[(sample * 1024 + place) * 3 + channel]).toBe(
      pixel(sample, channel, place),
    );
  }
}

describe("every loader", () => {
  it.each(Object.entries(loaders))(
    "%s describes itself and checks its options",
    async (name, loader) => {
      expect(loader.name).toBe(name);
      expect(loader.summary.length).toBeGreaterThan(10);
      expect(Object.keys(loader.options).slice(0, 3)).toEqual(["path", "split", "limit"]);
      const path = at("none");
      const tokenizer = path;
      await expectError(
        () => loader.load({ path, split: "train", tokenizer }),
        "ERR_FM_IO",
        path,
        "ENOENT",
      );
      for (const limit of [0, -1, 1.5, Number.NaN]) {
        await expectError(
          () => loader.load({ path, split: "train", limit }),
          "ERR_FM_ARGUMENT",
          "limit",
        );
      }
      const split = "valid" as "test";
      await expectError(
        () => loader.load({ path, split }),
        "ERR_FM_ARGUMENT",
        "train or test",
        "valid",
      );
    },
  );
});

describe("parseDataSource", () => {
  it("cuts at the first colon", () => {
    expect(parseDataSource("idx:C:/data")).toEqual({
      name: "idx",
      loader: loaders.idx,
      path: "C:/data",
    });
  });

  it.each(["", "cifar10", "cifar10:", "svhn:dir", ":dir", "toString:dir"])(
    "refuses %j",
    async (text) => {
      const known = Object.keys(loaders)
        .map((name) => `${name}:PATH`)
        .join(", ");
      await expectError(() => parseDataSource(text), "ERR_FM_ARGUMENT", known, `"${text}"`);
    },
  );
});

describe("cifar10", () => {
  it("reads the batches that are there, in numeric order, into channels-last images", async () => {
    const folder = await folderOf({
      "data_batch_2.bin": records([[2], [9]], 1),
      "data_batch_1.bin": records([[7]]),
      "data_batch_6.bin": "not a batch",
      "batches.meta.txt": "",
    });
    const dataset = await loadDataset(`cifar10:${folder}`, { split: "train" });
    expect(dataset).toMatchObject({ name: "cifar10", size: 3, shape: [32, 32, 3] });
    expect([...dataset.labels]).toEqual([7, 2, 9]);
    expect(dataset.classes[3]).toBe("cat");
    expectPixels(dataset);
  });

  it.each([
    [1, 1],
    [2, 2],
    [3, 3],
    [9, 3],
  ])("gives the first samples: limit %d", async (limit, size) => {
    const folder = await folderOf({
      "data_batch_1.bin": records([[0], [1]]),
      "data_batch_3.bin": records([[2]], 2),
    });
    const dataset = await loadDataset(`cifar10:${folder}`, { split: "train", limit });
    expect(dataset.size).toBe(size);
    expect([...dataset.labels]).toEqual([0, 1, 2].slice(0, size));
    expect(dataset.images.length).toBe(size * 3072);
  });

  it("names what it looked for", async () => {
    const folder = await folderOf({ "data_batch_1.bin": records([[0]]) });
    const words = [folder, "test_batch.bin"];
    await expectError(
      () => loadDataset(`cifar10:${folder}`, { split: "test" }),
      "ERR_FM_IO",
      ...words,
    );
    const empty = await folderOf({});
    const files = [empty, "data_batch_1.bin", "data_batch_5.bin"];
    await expectError(
      () => loadDataset(`cifar10:${empty}`, { split: "train" }),
      "ERR_FM_IO",
      ...files,
    );
  });

  it.each([0, 1, 3072, 3074, 6145])(
    "refuses a file of %d bytes, even where the limit leaves it unread",
    async (length) => {
      const folder = await folderOf({
        "data_batch_1.bin": records([[0]]),
        "data_batch_2.bin": new Uint8Array(length),
      });
      const words = [join(folder, "data_batch_2.bin"), "multiple of 3073", `${length} bytes`];
      const load = (): Promise<unknown> =>
        loadDataset(`cifar10:${folder}`, { split: "train", limit: 1 });
      await expectError(load, "ERR_FM_BAD_FILE", ...words);
    },
  );

  it("names the record whose label is out of range", async () => {
    const folder = await folderOf({ "test_batch.bin": records([[0], [9], [10]]) });
    const words = [join(folder, "test_batch.bin"), "record 2", "0 to 9", "10"];
    await expectError(
      () => loadDataset(`cifar10:${folder}`, { split: "test" }),
      "ERR_FM_BAD_FILE",
      ...words,
    );
  });

  it("reads across the pieces it reads a file in", async () => {
    const labels = Array.from({ length: 2100 }, (_, i) => [i % 10]);
    const folder = await folderOf({ "test_batch.bin": records(labels) });
    const dataset = await loadDataset(`cifar10:${folder}`, { split: "test" });
    expect([...dataset.labels]).toEqual(labels.flat());
    expectPixels(dataset);
  });
});

describe("cifar100", () => {
  it("takes the fine label", async () => {
    const folder = await folderOf({
      "test.bin": records([
        [1, 99],
        [19, 0],
      ]),
    });
    const dataset = await loadDataset(`cifar100:${folder}`, { split: "test" });
    expect([...dataset.labels]).toEqual([99, 0]);
    expect(dataset.classes.length).toBe(100);
    expect(new Set(dataset.classes).size).toBe(100);
    expect([dataset.classes[0], dataset.classes[99]]).toEqual(["apple", "worm"]);
    expectPixels(dataset);
  });

  it("refuses a wrong length, a label out of range and a missing file", async () => {
    const folder = await folderOf({
      "train.bin": new Uint8Array(3073),
      "test.bin": records([[0, 100]]),
    });
    const path = `cifar100:${folder}`;
    await expectError(
      () => loadDataset(path, { split: "train" }),
      "ERR_FM_BAD_FILE",
      "3074",
      "3073 bytes",
    );
    await expectError(
      () => loadDataset(path, { split: "test" }),
      "ERR_FM_BAD_FILE",
      "record 0",
      "100",
    );
    const empty = await folderOf({});
    const words = [join(empty, "train.bin"), "ENOENT"];
    await expectError(
      () => loadDataset(`cifar100:${empty}`, { split: "train" }),
      "ERR_FM_IO",
      ...words,
    );
  });
});

const kPixels = Uint8Array.from({ length: 3 * 2 * 4 }, (_, i) => i * 5);
const kLabels = new Uint8Array([2, 0, 4]);
const kImagesName = "train-images-idx3-ubyte";
const kLabelsName = "train-labels-idx1-ubyte";
const kImages = idxBytes([3, 2, 4], kPixels);
const kLabelFile = idxBytes([3], kLabels);

describe("idx", () => {
  it.each([
    ["plain", { [kImagesName]: kImages, [kLabelsName]: kLabelFile }],
    [
      "gzipped",
      { [`${kImagesName}.gz`]: gzipped(kImages), [`${kLabelsName}.gz`]: gzipped(kLabelFile) },
    ],
    [
      "plain before gzipped",
      { [kImagesName]: kImages, [`${kImagesName}.gz`]: "x", [kLabelsName]: kLabelFile },
    ],
  ])("reads %s files", async (_what, files) => {
    const folder = await folderOf(files);
    const dataset = await loadDataset(`idx:${folder}`, { split: "train" });
    expect(dataset).toMatchObject({ name: "idx", size: 3, shape: [2, 4, 1] });
    expect([...dataset.images]).toEqual([...kPixels]);
    expect([...dataset.labels]).toEqual([2, 0, 4]);
    expect(dataset.classes).toEqual(["0", "1", "2", "3", "4"]);
    const first = await loadDataset(`idx:${folder}`, { split: "train", limit: 1 });
    expect([first.size, first.images.length, first.classes.length]).toEqual([1, 8, 5]);
    const most = await loadDataset(`idx:${folder}`, { split: "train", limit: 9 });
    expect(most).toEqual(dataset);
  });

  it("counts classes over both splits, or takes the names of classes.txt", async () => {
    const files = {
      [kImagesName]: kImages,
      [kLabelsName]: kLabelFile,
      "t10k-images-idx3-ubyte": idxBytes([1, 2, 4], new Uint8Array(8)),
      "t10k-labels-idx1-ubyte": idxBytes([1], new Uint8Array([6])),
    };
    const folder = `idx:${await folderOf(files)}`;
    for (const split of ["train", "test"] as const) {
      expect((await loadDataset(folder, { split })).classes.length).toBe(7);
    }
    const named = `idx:${await folderOf({ ...files, "classes.txt": "a\nb b\r\nc\nd\ne\n" })}`;
    const classes = ["a", "b b", "c", "d", "e"];
    expect((await loadDataset(named, { split: "train" })).classes).toEqual(classes);
    const words = ["t10k-labels", "record 0", "0 to 4", "6"];
    await expectError(() => loadDataset(named, { split: "test" }), "ERR_FM_BAD_FILE", ...words);
  });

  it("names the files that it looked for", async () => {
    const folder = await folderOf({ [kImagesName]: kImages });
    const words = [folder, kLabelsName, `${kLabelsName}.gz`];
    await expectError(
      () => loadDataset(`idx:${folder}`, { split: "train" }),
      "ERR_FM_IO",
      ...words,
    );
  });

  const huge = idxBytes([0xffffffff, 0xffff, 0xffff], kPixels);
  it.each<[string, Buffer, string[]]>([
    ["is empty", Buffer.alloc(0), ["at least 16 bytes", "0 bytes"]],
    ["ends in its header", kImages.subarray(0, 15), ["at least 16 bytes", "15 bytes"]],
    ["is truncated", kImages.subarray(0, -1), ["40", "39"]],
    ["is too long", Buffer.concat([kImages, Buffer.alloc(1)]), ["40 bytes"]],
    ["has labels' magic number", idxBytes([3, 2, 4], kPixels, 0x801), ["magic", "2051", "2049"]],
    ["has floats", idxBytes([3, 2, 4], kPixels, 0xd03), ["magic", "3331"]],
    ["has no images", idxBytes([0, 2, 4], new Uint8Array(0)), ["sizes from 1", "0 x 2 x 4"]],
    [
      "has images without pixels",
      idxBytes([3, 0, 4], new Uint8Array(0)),
      ["sizes from 1", "3 x 0 x 4"],
    ],
    ["claims more than memory holds", huge, ["at most", "4294967295 x 65535 x 65535"]],
    [
      "has fewer images than labels",
      idxBytes([2, 2, 4], new Uint8Array(16)),
      ["3 (the labels of", "2"],
    ],
  ])("refuses an image file that %s, plain and gzipped", async (_what, bytes, words) => {
    for (const [name, content] of [
      [kImagesName, bytes],
      [`${kImagesName}.gz`, gzipped(bytes)],
    ] as const) {
      const folder = await folderOf({ [name]: content, [kLabelsName]: kLabelFile });
      const load = (): Promise<unknown> =>
        loadDataset(`idx:${folder}`, { split: "train", limit: 1 });
      // A plain file is checked against its own size as well, so another message may come first.
      const expected = name.endsWith(".gz") ? words : [];
      await expectError(load, "ERR_FM_BAD_FILE", join(folder, name), ...expected);
    }
  });

  it("refuses a gzip stream that is cut, damaged or none", async () => {
    const packed = gzipped(kImages);
    const damaged = Buffer.from(packed);
    damaged[packed.length - 6]! ^= 0xff;
    for (const content of [packed.subarray(0, -9), damaged, Buffer.from("no gzip at all")]) {
      const folder = await folderOf({ [`${kImagesName}.gz`]: content, [kLabelsName]: kLabelFile });
      const words = [`${kImagesName}.gz`, "gzip"];
      await expectError(
        () => loadDataset(`idx:${folder}`, { split: "train" }),
        "ERR_FM_BAD_FILE",
        ...words,
      );
    }
  });

  it("stops unpacking a bomb at the length that its header gives", async () => {
    const bomb = gzipped(Buffer.concat([kImages, Buffer.alloc(200_000_000)]));
    const folder = await folderOf({ [`${kImagesName}.gz`]: bomb, [kLabelsName]: kLabelFile });
    const before = process.memoryUsage().arrayBuffers;
    const words = ["40 bytes", "more than that"];
    await expectError(
      () => loadDataset(`idx:${folder}`, { split: "train" }),
      "ERR_FM_BAD_FILE",
      ...words,
    );
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20_000_000);
  });
});

const kReason = `no ${DATA}: set FISHERMASK_DATA`;

describe("the real data", () => {
  it("CIFAR-10: 1,000 test images a class, 20,000 training images", async ({ skip }) => {
    skip(!existsSync(join(DATA, "cifar10")), kReason);
    const source = `cifar10:${join(DATA, "cifar10")}`;
    const test = await loadDataset(source, { split: "test" });
    expect(labelCounts(test)).toEqual(new Array(10).fill(1000));
    const train = await loadDataset(source, { split: "train" });
    expect([train.size, train.images.length]).toEqual([20_000, 20_000 * 3072]);
    // The published labels of the first ten training images: a frog, two trucks, a deer, …
    const names = [...train.labels.subarray(0, 6)].map((label) => train.classes[label]);
    expect(names).toEqual(["frog", "truck", "truck", "deer", "automobile", "automobile"]);
  });

  it("MNIST: 60,000 and 10,000 images, with the published counts a class", async ({ skip }) => {
    skip(!existsSync(join(DATA, "mnist")), kReason);
    const source = `idx:${join(DATA, "mnist")}`;
    const train = await loadDataset(source, { split: "train" });
    expect(train).toMatchObject({ size: 60_000, shape: [28, 28, 1] });
    expect(labelCounts(train)).toEqual([
      5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]);
    const test = await loadDataset(source, { split: "test" });
    expect(labelCounts(test)).toEqual([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
  });

  it("the demo's Fashion-MNIST: 600 and 200 images a class, with names", async () => {
    const source = "idx:examples/data/fashion-mnist";
    const train = await loadDataset(source, { split: "train" });
    expect(labelCounts(train)).toEqual(new Array(10).fill(600));
    expect(labelCounts(await loadDataset(source, { split: "test" }))).toEqual(
      new Array(10).fill(200),
    );
    expect(train.classes[9]).toBe("Ankle boot");
    // The first training image of Fashion-MNIST is an ankle boot.
    expect(train.labels[0]).toBe(9);
  });
});
