import { statSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { attempt, badFile, ioError } from "../../io/file-error.js";
import { parseStrictJson, type StrictJson, StrictJsonError } from "../../io/strict-json.js";
import { arrayDataset, type ImageDataset } from "../dataset.js";
import { compareCodePoints } from "../images/code-points.js";
import { decodeImages, type EncodedImage } from "../images/decode-all.js";
import type { ParquetColumn } from "../images/parquet-child.js";
import { ParquetFile } from "../images/parquet-file.js";
import { type DatasetSplit, defineLoader, type LoadOptions } from "../loader.js";

const kImageColumns = ["image", "img"] as const;
const kLabelColumns = ["label", "labels", "fine_label"] as const;
const kSplits: readonly DatasetSplit[] = ["train", "test"];
const kMaxJsonDepth = 64;
// Without names a class is a number up to here; more is a damaged file.
const kMostClasses = 65_536;

const isFile = (path: string): boolean =>
  statSync(path, { throwIfNoEntry: false })?.isFile() === true;

/** `train-00000-of-00002.parquet`, `train.parquet`. */
const isShard = (name: string, split: DatasetSplit): boolean =>
  (name.startsWith(`${split}-`) || name.startsWith(`${split}.`)) && name.endsWith(".parquet");

/** The split's files in code point order; none where there are none. */
async function shardsOf(path: string, split: DatasetSplit): Promise<string[]> {
  const found = await attempt("open", path, stat(path));
  if (!found.isDirectory()) return split === "train" ? [path] : [];
  const names = await attempt("open the folder", path, readdir(path));
  const shards = names.filter((name) => isShard(name, split)).sort(compareCodePoints);
  return shards.map((name) => join(path, name));
}

function columnOf(
  file: ParquetFile,
  names: readonly string[],
  kind: ParquetColumn["kind"],
): string {
  const found = names.find((name) =>
    file.columns.some((each) => each.name === name && each.kind === kind),
  );
  if (found !== undefined) return found;
  const what =
    kind === "bytes" ? "encoded images (bytes, or a struct with bytes)" : "whole numbers";
  const received = file.columns.map(({ name }) => name).join(", ") || "none";
  throw badFile(file.path, "the columns", `a column ${names.join(", ")} of ${what}`, received);
}

function at(json: StrictJson | undefined, ...keys: readonly string[]): StrictJson | undefined {
  return keys.reduce(
    (found: StrictJson | undefined, key) => (found instanceof Map ? found.get(key) : undefined),
    json,
  );
}

/** The names that the library `datasets` keeps of a `ClassLabel` column; undefined where there are none. */
function classNames(file: ParquetFile, column: string): readonly string[] | undefined {
  if (file.huggingface === null) return undefined;
  try {
    const features = at(
      parseStrictJson(file.huggingface, kMaxJsonDepth),
      "info",
      "features",
      column,
    );
    const names = at(features, "names");
    if (names === undefined) return undefined;
    const isNames = Array.isArray(names) && names.every((name) => typeof name === "string");
    if (isNames && names.length > 0) return names as readonly string[];
  } catch (cause) {
    if (!(cause instanceof StrictJsonError)) throw cause;
    throw badFile(file.path, 'the key "huggingface"', "JSON", cause.message, cause);
  }
  throw badFile(
    file.path,
    'the key "huggingface"',
    `a list of class names for "${column}"`,
    "another value",
  );
}

interface Shard {
  readonly path: string;
  readonly imageColumn: string;
  readonly labels: readonly Int32Array[];
  readonly names: readonly string[] | undefined;
}

function checkedLabels(
  file: ParquetFile,
  column: string,
  firstRow: number,
  values: Float64Array,
  most: number,
): Int32Array {
  const wrong = values.findIndex((value) => !(value >= 0 && value < most));
  if (wrong >= 0) {
    const value = values[wrong] as number;
    const where = `column "${column}", row ${firstRow + wrong}`;
    const received = Number.isNaN(value) ? "no whole number" : String(value);
    throw badFile(file.path, where, `a label from 0 to ${most - 1}`, received);
  }
  return Int32Array.from(values);
}

/** A file's labels, row group by row group, until there are enough. */
async function readShard(path: string, enough: number): Promise<Shard> {
  await using file = await ParquetFile.open(path);
  const imageColumn = columnOf(file, kImageColumns, "bytes");
  const column = columnOf(file, kLabelColumns, "integers");
  const names = classNames(file, column);
  const labels: Int32Array[] = [];
  let rows = 0;
  for (let group = 0; group < file.groups.length && rows < enough; group += 1) {
    const values = await file.integers(column, group);
    labels.push(checkedLabels(file, column, rows, values, names?.length ?? kMostClasses));
    rows += values.length;
  }
  return { path, imageColumn, labels, names };
}

/** The shards that hold the first so many rows. */
async function readShards(paths: readonly string[], limit: number): Promise<Shard[]> {
  const shards: Shard[] = [];
  let rows = 0;
  for (const path of paths) {
    if (rows >= limit) break;
    const shard = await readShard(path, limit - rows);
    const [first] = shards;
    if (first !== undefined && JSON.stringify(first.names) !== JSON.stringify(shard.names)) {
      throw badFile(path, "the class names", `those of ${first.path}`, "others");
    }
    shards.push(shard);
    rows += shard.labels.reduce((sum, { length }) => sum + length, 0);
  }
  return shards;
}

/** The pictures of these shards, one row group in memory at a time. */
async function* encodedImages(
  shards: readonly Shard[],
  limit: number,
): AsyncGenerator<EncodedImage> {
  let left = limit;
  for (const { path, imageColumn, labels } of shards) {
    await using file = await ParquetFile.open(path);
    let row = 0;
    for (const [group, { length }] of labels.entries()) {
      if (left <= 0) return;
      const images = await file.bytes(imageColumn, group);
      if (images.length !== length) {
        const where = `row group ${group} of column "${imageColumn}"`;
        throw badFile(path, where, `${length} rows, as its labels have`, `${images.length}`);
      }
      for (const bytes of images.slice(0, left)) {
        const where = `column "${imageColumn}", row ${row}`;
        const read = async (): Promise<Uint8Array> => {
          if (bytes !== null) return bytes;
          throw badFile(path, where, "an encoded image", "none");
        };
        yield { path, where, read };
        row += 1;
      }
      left -= length;
    }
  }
}

const largest = (shards: readonly Shard[]): number =>
  shards
    .flatMap(({ labels }) => labels)
    .reduce((most, labels) => labels.reduce((a, b) => Math.max(a, b), most), -1);

/** The names that the file gives; else numbers, as many as the labels of both splits ask for. */
async function classesOf(
  path: string,
  split: DatasetSplit,
  shards: readonly Shard[],
  wasLimited: boolean,
): Promise<readonly string[]> {
  const names = shards[0]?.names;
  if (names !== undefined) return names;
  const every = Number.POSITIVE_INFINITY;
  const own = wasLimited ? await readShards(await shardsOf(path, split), every) : shards;
  const other = kSplits.filter((each) => each !== split);
  const others = await Promise.all(other.map((each) => shardsOf(path, each)));
  const count = Math.max(largest(own), largest(await readShards(others.flat(), every))) + 1;
  return Array.from({ length: count }, (_, label) => String(label));
}

async function load({ path, split, limit, imageSize }: LoadOptions): Promise<ImageDataset> {
  const most = limit ?? Number.POSITIVE_INFINITY;
  const paths = await shardsOf(path, split);
  if (paths.length === 0) {
    throw ioError("find Parquet data in", path, new Error(`no ${split}-*.parquet is there`));
  }
  const shards = await readShards(paths, most);
  const read = shards.flatMap(({ labels }) => labels.flatMap((each) => [...each]));
  if (read.length === 0) throw badFile(paths[0] as string, "the rows", "at least one", "none");
  const labels = Int32Array.from(read.slice(0, limit));
  const classes = await classesOf(path, split, shards, limit !== undefined);
  const decoded = await decodeImages(encodedImages(shards, most), labels.length, imageSize);
  return arrayDataset({ name: "parquet", classes, labels, ...decoded });
}

/**
 * Encoded images and their labels in Parquet, as the library `datasets` writes them: a file, or a folder of `train-*.parquet`
 * and `test-*.parquet`. The images are in a column `image` or `img` of bytes or of structs with a field `bytes`; the labels in
 * `label`, `labels` or `fine_label`, whole numbers from 0. Class names are those of the key `huggingface`, else "0", "1", ….
 * A split whose images are all grey has one channel, else all are RGB. Needs the package `sharp`.
 *
 * Source: https://huggingface.co/docs/datasets/image_dataset, https://parquet.apache.org/docs/file-format/
 */
export const loader = defineLoader({
  name: "parquet",
  summary: "images in Parquet files, as Hugging Face data sets have them",
  // A single file is one split, as a text file is.
  splits: (path) => (isFile(path) ? ["train"] : kSplits),
  options: {
    path: "the file, or the folder of train-*.parquet and test-*.parquet",
    split: "train or test; a single file is train",
    limit: "the first rows only, in file order",
    imageSize:
      "height and width: each image is scaled until it just covers them, and its centre is cut out",
  },
  load,
});
