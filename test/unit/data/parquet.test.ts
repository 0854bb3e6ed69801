import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { imagesOf } from "../../../src/data/dataset.js";
import { ParquetFile } from "../../../src/data/images/parquet-file.js";
import { hasSplit, loadDataset } from "../../../src/data/source.js";
import { expectError, temporaryFolder } from "../io/support.js";

const at = temporaryFolder();
const FIXTURES = "test/fixtures/images";

/** As the script that made the fixtures: byte i of image n is (31 i² + 7 i + 50 n) mod 256. */
function pixels(number: number, channels: number): Buffer {
  return Buffer.from(
    Array.from({ length: 4 * 5 * channels }, (_, i) => (31 * i * i + 7 * i + 50 * number) % 256),
  );
}

const load = async (path: string, options: Partial<Parameters<typeof loadDataset>[1]> = {}) =>
  imagesOf(await loadDataset(`parquet:${path}`, { split: "train", ...options }), "a test");

async function expectImages(
  path: string,
  numbers: readonly number[],
  channels: number,
  options: Partial<Parameters<typeof loadDataset>[1]> = {},
) {
  const dataset = await load(path, options);
  expect(dataset).toMatchObject({ name: "parquet", size: numbers.length, shape: [4, 5, channels] });
  const wanted = Buffer.concat(numbers.map((number) => pixels(number, channels)));
  expect(Buffer.compare(dataset.images, wanted)).toBe(0);
  return dataset;
}

describe("parquet", () => {
  it("reads a Hugging Face folder: shards in order, row groups, the names of the classes", async () => {
    const train = await expectImages(`${FIXTURES}/shards`, [0, 1, 2, 3, 4, 5, 6, 7], 3);
    expect(train.classes).toEqual(["ant", "bee", "cat"]);
    expect([...train.labels]).toEqual([0, 1, 2, 0, 1, 2, 0, 1]);
    const test = await expectImages(`${FIXTURES}/shards`, [8, 9], 3, { split: "test" });
    expect([...test.labels]).toEqual([2, 0]);
  });

  it.each([1, 2, 3, 5, 6, 99])("gives the first rows: limit %d", async (limit) => {
    const numbers = [0, 1, 2, 3, 4, 5, 6, 7].slice(0, limit);
    await expectImages(`${FIXTURES}/shards`, numbers, 3, { limit });
  });

  it("brings the images to one size", async () => {
    const { shape, images } = await load(`${FIXTURES}/shards`, { imageSize: [2, 2] });
    expect([shape, images.length]).toEqual([[2, 2, 3], 96]);
  });

  it.each(["none", "gzip", "brotli", "zstd", "lz4"])(
    "reads a column of bytes, packed by %s; classes are numbers without names",
    async (codec) => {
      const dataset = await expectImages(`${FIXTURES}/plain-${codec}.parquet`, [0, 1, 2], 1);
      expect([dataset.classes, [...dataset.labels]]).toEqual([
        ["0", "1", "2"],
        [0, 1, 2],
      ]);
      const first = await load(`${FIXTURES}/plain-${codec}.parquet`, { limit: 1 });
      expect(first.classes).toEqual(["0", "1", "2"]);
    },
  );

  it("reads pages of version 2, a dictionary of images, and labels as differences", async () => {
    const dataset = await expectImages(
      `${FIXTURES}/version-2.parquet`,
      Array(8).fill([0, 1, 2]).flat(),
      3,
    );
    expect(dataset.classes).toEqual(["ant", "bee", "cat"]);
  });

  it("counts the classes of both splits where there are no names", async () => {
    const folder = at("both");
    await mkdir(folder);
    await copyFile(`${FIXTURES}/plain-none.parquet`, join(folder, "train.parquet"));
    await copyFile(
      `${FIXTURES}/shards/test-00000-of-00001.parquet`,
      join(folder, "test-0.parquet"),
    );
    expect((await load(folder)).classes).toEqual(["0", "1", "2"]);
  });

  it("takes a file as one split, a folder as two", async () => {
    const file = `${FIXTURES}/version-2.parquet`;
    expect(hasSplit(`parquet:${file}`, "test")).toBe(false);
    expect(hasSplit(`parquet:${FIXTURES}/shards`, "test")).toBe(true);
    await expectError(() => load(file, { split: "test" }), "ERR_FM_ARGUMENT", "the split train");
    await expectError(() => load(FIXTURES), "ERR_FM_IO", FIXTURES, "no train-*.parquet");
  });

  it.each([
    ["null-image", ['column "image", row 3', "an encoded image", "none"]],
    ["bad-label", ['column "label", row 2', "0 to 2", "received 3"]],
    ["no-image", ['column "image", row 0', "another kind"]],
  ])("names file, column and row of %s", async (name, words) => {
    const path = `${FIXTURES}/${name}.parquet`;
    await expectError(() => load(path), "ERR_FM_BAD_FILE", path, ...words);
  });

  it("names the columns that it looked for", async () => {
    const path = at("columns.parquet");
    const bytes = await readFile(`${FIXTURES}/plain-none.parquet`, "latin1");
    await writeFile(path, bytes.replaceAll("fine_label", "fine_lapel"), "latin1");
    const words = [path, "label, labels, fine_label", "img, fine_lapel"];
    await expectError(() => load(path), "ERR_FM_BAD_FILE", ...words);
    await writeFile(path, bytes.replaceAll("img", "gmi"), "latin1");
    await expectError(() => load(path), "ERR_FM_BAD_FILE", path, "image, img", "gmi, fine_label");
  });

  it("refuses metadata that are no JSON, or whose names are none", async () => {
    const path = at("metadata.parquet");
    const bytes = await readFile(`${FIXTURES}/version-2.parquet`, "latin1");
    await writeFile(path, bytes.replace('{"info"', '["info"'), "latin1");
    await expectError(() => load(path), "ERR_FM_BAD_FILE", path, '"huggingface"', "JSON");
    await writeFile(path, bytes.replace('["ant"', "[12345"), "latin1");
    await expectError(() => load(path), "ERR_FM_BAD_FILE", path, '"huggingface"', "class names");
  });
});

describe("hostile Parquet", () => {
  const source = (): Promise<Buffer> => readFile(`${FIXTURES}/shards/train-00000-of-00002.parquet`);

  it.each([
    ["an empty file", (bytes: Buffer) => bytes.subarray(0, 0)],
    ["half a file", (bytes: Buffer) => bytes.subarray(0, bytes.length >> 1)],
    ["no end", (bytes: Buffer) => bytes.subarray(0, -1)],
    ["a footer longer than the file", (bytes: Buffer) => withFooterLength(bytes, bytes.length)],
    ["a footer of 4 GiB", (bytes: Buffer) => withFooterLength(bytes, 2 ** 32 - 1)],
    ["a footer of nothing", (bytes: Buffer) => withFooterLength(bytes, 0)],
  ])("refuses %s", async (_what, change) => {
    const path = at("hostile.parquet");
    await writeFile(path, change(await source()));
    await expectError(() => load(path), "ERR_FM_BAD_FILE", path, "the footer");
  });

  /** Writes the bytes over what is found, once, and expects that it is there. */
  async function overwritten(
    name: string,
    found: readonly number[],
    bytes: readonly number[],
    skip = 0,
  ) {
    const file = await readFile(`${FIXTURES}/${name}`);
    const place = file.indexOf(Buffer.from(found));
    expect(place).toBeGreaterThan(0);
    Buffer.from(bytes).copy(file, place + skip);
    const path = at(`overwritten-${name}`);
    await writeFile(path, file);
    return path;
  }

  it("refuses a run of two milliards in a page of nine bytes, and the process lives on", async () => {
    // Three levels of 1: a length of 2, then 3 << 1 and the value. In its place 0x7fffffff << 1.
    const run = [2, 0, 0, 0, 6, 1];
    const path = await overwritten("plain-none.parquet", run, [0xfe, 0xff, 0xff, 0xff, 0x0f], 4);
    await using file = await ParquetFile.open(path, { heapMegabytes: 64 });
    const read = async (): Promise<unknown> => [
      await file.bytes("img", 0),
      await file.integers("fine_label", 0),
    ];
    await expectError(read, "ERR_FM_BAD_FILE", path, "row group 0 of column", "memory");
  });

  it("refuses a run without an end when its time is over", async () => {
    // Indices of 2 bits, 3 groups of 8, bit-packed: of 0 bits, and as many as never come to 0.
    const indices = [2, 7, 0x24, 0x49, 0x92];
    const path = await overwritten("version-2.parquet", indices, [0, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    await using file = await ParquetFile.open(path, { patienceMs: 3000 });
    const began = performance.now();
    await expectError(
      () => file.bytes("image", 0),
      "ERR_FM_BAD_FILE",
      path,
      'column "image"',
      "more than 3 s",
    );
    expect(performance.now() - began).toBeGreaterThan(2900);
  });

  it("with one byte changed, at many places, is read or refused, within its time", {
    timeout: 300_000,
  }, async () => {
    const bytes = await readFile(`${FIXTURES}/plain-none.parquet`);
    const path = at("changed.parquet");
    const endings = { read: 0, refused: 0 };
    for (let i = 0; i < bytes.length; i += 23) {
      const changed = Buffer.from(bytes);
      changed[i]! ^= 1 << (i % 8);
      await writeFile(path, changed);
      const ending = await endOf(path);
      endings[ending] += 1;
    }
    expect(endings.refused).toBeGreaterThan(3);
    expect(endings.read).toBeGreaterThan(3);
  });
});

async function endOf(path: string): Promise<"read" | "refused"> {
  try {
    await using file = await ParquetFile.open(path, { patienceMs: 20_000, heapMegabytes: 64 });
    for (const { name, kind } of file.columns) {
      for (let group = 0; group < file.groups.length; group += 1) {
        if (kind === "bytes") await file.bytes(name, group);
        if (kind === "integers") await file.integers(name, group);
      }
    }
    return "read";
  } catch (error) {
    expect(error).toMatchObject({ code: "ERR_FM_BAD_FILE" });
    return "refused";
  }
}

function withFooterLength(bytes: Buffer, length: number): Buffer {
  const changed = Buffer.from(bytes);
  changed.writeUInt32LE(length, changed.length - 8);
  return changed;
}
