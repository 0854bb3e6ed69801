import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { attempt, badFile, ioError } from "../../io/file-error.js";
import { readTextFile } from "../../io/read.js";
import { arrayDataset, type ImageDataset } from "../dataset.js";
import { readIdx } from "../idx-file.js";
import { type DatasetSplit, defineLoader } from "../loader.js";

const kPrefix: Readonly<Record<DatasetSplit, string>> = { train: "train", test: "t10k" };
const kClassFile = "classes.txt";
// Labels are bytes, so 256 names are the most that can be used.
const kMaxClassFileBytes = 64 * 1024;

/** The folder's file of this stem, plain before gzipped; undefined where there is neither. */
function pick(present: ReadonlySet<string>, folder: string, stem: string): string | undefined {
  const file = [stem, `${stem}.gz`].find((name) => present.has(name));
  return file === undefined ? undefined : join(folder, file);
}

function pickOrFail(present: ReadonlySet<string>, folder: string, stem: string): string {
  const path = pick(present, folder, stem);
  if (path === undefined) {
    throw ioError("find IDX data in", folder, new Error(`neither ${stem} nor ${stem}.gz is there`));
  }
  return path;
}

/** Names from `classes.txt`, one a line; without it numbers, as many as the labels of both splits ask for. */
async function readClasses(
  present: ReadonlySet<string>,
  folder: string,
  labelPaths: readonly string[],
): Promise<readonly string[]> {
  if (present.has(kClassFile)) {
    const text = await readTextFile(join(folder, kClassFile), kMaxClassFileBytes);
    return text.split(/\r?\n/).filter((line) => line !== "");
  }
  let count = 0;
  for (const path of labelPaths) {
    const { data } = await readIdx(path, 1);
    count = data.reduce((most, label) => Math.max(most, label + 1), count);
  }
  return Array.from({ length: count }, (_, label) => String(label));
}

function checkLabels(path: string, labels: Uint8Array, classes: readonly string[]): void {
  const wrong = labels.findIndex((label) => label >= classes.length);
  if (wrong >= 0) {
    const expected = `a label from 0 to ${classes.length - 1}`;
    throw badFile(path, `record ${wrong}`, expected, `${labels[wrong]}`);
  }
}

async function load(folder: string, split: DatasetSplit, limit?: number): Promise<ImageDataset> {
  const present = new Set(await attempt("open the folder", folder, readdir(folder)));
  const imagePath = pickOrFail(present, folder, `${kPrefix[split]}-images-idx3-ubyte`);
  const labelPath = pickOrFail(present, folder, `${kPrefix[split]}-labels-idx1-ubyte`);
  const allLabels = (await readIdx(labelPath, 1)).data;
  const other = pick(
    present,
    folder,
    `${kPrefix[split === "train" ? "test" : "train"]}-labels-idx1-ubyte`,
  );
  const labelPaths = other === undefined ? [labelPath] : [labelPath, other];
  const classes = await readClasses(present, folder, labelPaths);
  checkLabels(labelPath, allLabels, classes);
  const { total, itemSizes, data: images } = await readIdx(imagePath, 3, limit);
  if (total !== allLabels.length) {
    const expected = `${allLabels.length} (the labels of ${labelPath})`;
    throw badFile(imagePath, "the number of images", expected, `${total}`);
  }
  const labels = Int32Array.from(allLabels.subarray(0, limit));
  const [height = 0, width = 0] = itemSizes;
  return arrayDataset({ name: "idx", classes, shape: [height, width, 1], images, labels });
}

/**
 * The MNIST family: `train-` and `t10k-` files `images-idx3-ubyte` and `labels-idx1-ubyte`, plain or with `.gz` (plain is
 * taken where both are there). One channel. Class names come from a `classes.txt` beside them, else they are "0", "1", …
 *
 * Source: http://yann.lecun.com/exdb/mnist/
 */
export const loader = defineLoader({
  name: "idx",
  summary: "MNIST's IDX files, plain or gzipped: grey images",
  options: {
    path: "folder with train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz] and t10k-...",
    split: "train (train-...) or test (t10k-...)",
    limit: "the first samples only, in file order",
  },
  load: async ({ path, split, limit }) => load(path, split, limit),
});
