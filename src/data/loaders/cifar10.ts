import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { attempt, ioError } from "../../io/file-error.js";
import { arrayDataset } from "../dataset.js";
import { type DatasetSplit, defineLoader } from "../loader.js";
import { type PlanarFormat, readPlanarRecords } from "../planar-records.js";

const kFormat: PlanarFormat = { shape: [32, 32, 3], labelBytes: 1, labelAt: 0, classCount: 10 };

const kClasses = [
  "airplane",
  "automobile",
  "bird",
  "cat",
  "deer",
  "dog",
  "frog",
  "horse",
  "ship",
  "truck",
] as const;

const kFiles: Readonly<Record<DatasetSplit, readonly string[]>> = {
  train: [1, 2, 3, 4, 5].map((number) => `data_batch_${number}.bin`),
  test: ["test_batch.bin"],
};

/** The split's files that are there, in numeric order. */
async function findFiles(folder: string, split: DatasetSplit): Promise<string[]> {
  const present = new Set(await attempt("open the folder", folder, readdir(folder)));
  const found = kFiles[split].filter((file) => present.has(file));
  if (found.length === 0) {
    const lookedFor = kFiles[split].join(", ");
    throw ioError("find the CIFAR-10 data of", folder, new Error(`none of ${lookedFor} is there`));
  }
  return found.map((file) => join(folder, file));
}

/**
 * CIFAR-10, "binary version": records of a label and 1024 red, green and blue bytes.
 *
 * Source: https://www.cs.toronto.edu/~kriz/cifar.html
 */
export const loader = defineLoader({
  name: "cifar10",
  summary: "CIFAR-10, binary version: 32x32 colour images of 10 classes",
  options: {
    path: "folder with data_batch_1.bin .. data_batch_5.bin (those that are there) and test_batch.bin",
    split: "train (the data batches) or test",
    limit: "the first samples only, in file order",
  },
  load: async ({ path, split, limit }) => {
    const records = await readPlanarRecords(await findFiles(path, split), kFormat, limit);
    return arrayDataset({ name: "cifar10", classes: kClasses, shape: kFormat.shape, ...records });
  },
});
