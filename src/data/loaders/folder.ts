import { statSync } from "node:fs";
import { join } from "node:path";
import { badFile } from "../../io/file-error.js";
import { openRegularFile, readExactly } from "../../io/read.js";
import { arrayDataset, type ImageDataset } from "../dataset.js";
import {
  type ClassFolder,
  classFolders,
  imagesOfClass,
  openRoot,
  type Root,
} from "../images/class-folders.js";
import { decodeImages, type EncodedImage } from "../images/decode-all.js";
import { type DatasetSplit, defineLoader, type LoadOptions } from "../loader.js";

const kSplits: readonly DatasetSplit[] = ["train", "test"];
// An image of the most pixels that are decoded, in 16 bits and packed badly, is smaller.
const kMaxBytes = 256 * 1024 * 1024;

const isFolder = (path: string): boolean =>
  statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

/** `train` and `test` where there are folders of these names; without either the folder itself is the training split. */
function splitsOf(folder: string): readonly DatasetSplit[] {
  // Whether there is such a folder at all is for `load` to say.
  if (!isFolder(folder)) return kSplits;
  const found = kSplits.filter((split) => isFolder(join(folder, split)));
  return found.length === 0 ? ["train"] : found;
}

function folderOf(folder: string, split: DatasetSplit): string {
  const path = join(folder, split);
  return isFolder(path) ? path : folder;
}

async function readImage(path: string): Promise<Uint8Array> {
  const file = await openRegularFile(path);
  try {
    if (file.size > kMaxBytes) {
      throw badFile(path, "the length", `at most ${kMaxBytes} bytes`, `${file.size} bytes`);
    }
    const bytes = new Uint8Array(file.size);
    await readExactly(file, 0, bytes);
    return bytes;
  } finally {
    await file.handle.close();
  }
}

/** The classes of a split. Those of the test split are counted as in the training split, so that labels mean the same. */
async function classesOf(
  root: Root,
  split: DatasetSplit,
): Promise<{ readonly names: readonly string[]; readonly folders: readonly ClassFolder[] }> {
  const folder = folderOf(root.path, split);
  const folders = await classFolders(root, folder);
  if (folders.length === 0) throw badFile(folder, "the folder", "a folder for each class", "none");
  if (split === "train" || !splitsOf(root.path).includes("train")) {
    return { names: folders.map(({ name }) => name), folders };
  }
  const trained = await classFolders(root, folderOf(root.path, "train"));
  const names = trained.map(({ name }) => name);
  const unknown = folders.find(({ name }) => !names.includes(name));
  if (unknown !== undefined) {
    const expected = `a class of ${folderOf(root.path, "train")}`;
    throw badFile(unknown.path, "the class folder", expected, `"${unknown.name}"`);
  }
  return { names, folders };
}

async function load({ path, split, limit, imageSize }: LoadOptions): Promise<ImageDataset> {
  const root = await openRoot(path);
  const { names, folders } = await classesOf(root, split);
  const encoded: EncodedImage[] = [];
  const labels: number[] = [];
  for (const folder of folders) {
    for (const image of await imagesOfClass(root, folder)) {
      encoded.push({ path: image, where: "the image", read: () => readImage(image) });
      labels.push(names.indexOf(folder.name));
    }
  }
  const taken = encoded.slice(0, limit);
  const decoded = await decodeImages(taken, taken.length, imageSize);
  const kept = Int32Array.from(labels.slice(0, limit));
  return arrayDataset({ name: "folder", classes: names, labels: kept, ...decoded });
}

/**
 * Images in class folders: `DIR/train/CLASS/*` and `DIR/test/CLASS/*`, or `DIR/CLASS/*` as the one split `train`. Classes are
 * the folders' names in code point order; samples go class by class, in code point order of their paths. A split whose images
 * are all grey has one channel, else all are RGB; what is transparent is laid over black. Needs the package `sharp`.
 *
 * Source: the layout of torchvision's `ImageFolder`
 */
export const loader = defineLoader({
  name: "folder",
  summary: "PNG, JPEG and WebP images in class folders",
  splits: splitsOf,
  options: {
    path: "folder with train/CLASS/IMAGE and test/CLASS/IMAGE, or CLASS/IMAGE",
    split: "train or test; train where there are no folders of these names",
    limit: "the first samples only, class by class in the order of their paths",
    imageSize:
      "height and width: each image is scaled until it just covers them, and its centre is cut out",
  },
  load,
});
