import { randomBytes } from "node:crypto";
import { copyFile, lstat, mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { sha256Bytes, sha256File } from "../../io/digest.js";
import { attempt, ioError } from "../../io/file-error.js";
import { rewriteSafetensors, ShardedSafetensors } from "../../io/safetensors.js";
import { FishermaskError } from "../../native/errors.js";

export const CONFIG_FILE = "config.json";
const kSingle = "model.safetensors";
const kIndex = "model.safetensors.index.json";

/**
 * Files that hold weights in some form, or what training keeps beside them. They would carry what the new weights forget,
 * so they are never copied.
 */
const kWeights: readonly RegExp[] = [
  /\.(?:safetensors|pt|pth|ckpt|h5|hdf5|msgpack|gguf|ggml|onnx|onnx_data|tflite|mlmodel|npz|npy|pkl|pickle|ot)$/i,
  // `tokenizer.bin` and its like are no weights; every other `.bin` is a pickle or worse.
  /^(?!tok).*\.bin$/i,
  /\.(?:bin|safetensors|h5|msgpack)\.index\.json$/i,
];

/** A folder's tensors and the files they came from. */
export interface OpenFolder {
  readonly weights: ShardedSafetensors;
  /** Names of the files that make up the weights: shards and, where there is one, the index. */
  readonly files: readonly string[];
}

function isWeights(name: string): boolean {
  return kWeights.some((pattern) => pattern.test(name));
}

async function filesOf(folder: string): Promise<ReadonlySet<string>> {
  return new Set(await attempt("list", folder, readdir(folder)));
}

function refuse(folder: string, code: "ERR_FM_BAD_FILE" | "ERR_FM_UNSUPPORTED", received: string) {
  return new FishermaskError(
    code,
    `Expected ${kSingle} or ${kIndex} for the weights of ${folder} but received ${received}`,
    { details: { path: folder } },
  );
}

/**
 * Opens `model.safetensors`, or the shards of `model.safetensors.index.json`.
 *
 * @throws {@link FishermaskError} `ERR_FM_UNSUPPORTED` where the weights are pickled only; `ERR_FM_BAD_FILE` where there are
 * none or both forms; as {@link ShardedSafetensors}
 */
export async function openFolder(folder: string): Promise<OpenFolder> {
  const names = await filesOf(folder);
  if (names.has(kSingle) && names.has(kIndex)) throw refuse(folder, "ERR_FM_BAD_FILE", "both");
  if (names.has(kIndex)) {
    const weights = await ShardedSafetensors.openIndex(folder, kIndex);
    return { weights, files: [kIndex, ...weights.shards.keys()] };
  }
  if (names.has(kSingle)) {
    return { weights: await ShardedSafetensors.openSingle(folder, kSingle), files: [kSingle] };
  }
  const pickled = [...names].find((name) => /^pytorch_model.*\.bin/.test(name));
  if (pickled === undefined) throw refuse(folder, "ERR_FM_BAD_FILE", "neither");
  throw refuse(folder, "ERR_FM_UNSUPPORTED", `${pickled}; pickles are never read: save it anew`);
}

/** SHA-256 over the lines `<SHA-256 of the file>  <name>` of configuration and weights, sorted by name. */
export async function folderDigest(folder: string, files: readonly string[]): Promise<string> {
  const lines: string[] = [];
  for (const name of [CONFIG_FILE, ...files].sort()) {
    lines.push(`${await sha256File(join(folder, name))}  ${name}\n`);
  }
  return sha256Bytes(new TextEncoder().encode(lines.join("")));
}

/** Copies what a folder holds beside weights, its folders included. Links to files are followed, other links left out. */
async function copyOthers(from: string, to: string): Promise<void> {
  for (const name of await filesOf(from)) {
    const source = join(from, name);
    const target = join(to, name);
    const link = await attempt("examine", source, lstat(source));
    if (link.isDirectory()) {
      // Hidden folders are caches and histories, which hold old weights.
      if (name.startsWith(".")) continue;
      await attempt("make", target, mkdir(target));
      await copyOthers(source, target);
      continue;
    }
    if (isWeights(name) || !(await attempt("examine", source, stat(source))).isFile()) continue;
    await attempt("copy", source, copyFile(source, target));
    await sync(target);
  }
}

async function sync(path: string): Promise<void> {
  const handle = await attempt("open", path, open(path, "r"));
  try {
    await attempt("sync", path, handle.sync());
  } finally {
    await handle.close();
  }
}

/** Nothing is ever overwritten: what stands there must be an empty folder. */
async function checkDestination(source: string, destination: string): Promise<void> {
  const way = relative(resolve(source), resolve(destination));
  if (way !== "" && way !== ".." && !way.startsWith(`..${sep}`)) {
    // It would be copied into itself.
    throw ioError("write", destination, new Error(`it lies within ${source}`));
  }
  const present = await lstat(destination).catch(() => undefined);
  if (present === undefined) return;
  if (present.isDirectory() && (await filesOf(destination)).size === 0) return;
  throw ioError("write", destination, new Error("it is there already and no empty folder"));
}

async function copyIndex(source: string, target: string): Promise<void> {
  const [from, to] = [join(source, kIndex), join(target, kIndex)];
  await attempt("copy", from, copyFile(from, to));
  await sync(to);
}

/**
 * Writes a Hugging Face folder anew with some tensors changed: the same shards and index, every other file that holds no
 * weights copied. Weights in other forms (pickles, ONNX, GGUF, …) and hidden folders are left out: they hold the old ones.
 *
 * A folder beside the destination is filled, then renamed: the destination is absent or whole.
 *
 * @param tensors in the files' layout, by the files' names
 * @throws {@link FishermaskError} `ERR_FM_IO` for a destination that is there already (an empty folder is taken) or cannot be
 * written; `ERR_FM_NON_FINITE` for a value that the tensor's type cannot hold; as `rewriteSafetensors`
 */
export async function writeFolder(
  source: string,
  destination: string,
  tensors: ReadonlyMap<string, Float32Array>,
): Promise<void> {
  await writeFolderWith(source, destination, async ({ shards }, target) => {
    for (const [name, file] of shards) {
      const own = new Map([...tensors].filter(([tensor]) => file.tensors.has(tensor)));
      await rewriteSafetensors(file, join(target, name), own);
    }
  });
}

/**
 * As {@link writeFolder}, with shards that `write` makes: it gets the source's shards, open, and the folder that is filled.
 *
 * @throws {@link FishermaskError} as {@link writeFolder}; what `write` throws
 */
export async function writeFolderWith(
  source: string,
  destination: string,
  write: (weights: ShardedSafetensors, target: string) => Promise<void>,
): Promise<void> {
  await checkDestination(source, destination);
  const opened = await openFolder(source);
  const parent = dirname(resolve(destination));
  const unique = `${process.pid}-${randomBytes(8).toString("hex")}`;
  const temporary = join(parent, `.fishermask-${basename(destination)}-${unique}.tmp`);
  try {
    await attempt("make a temporary folder for", destination, mkdir(temporary));
    await copyOthers(source, temporary);
    await write(opened.weights, temporary);
    if (opened.files.includes(kIndex)) await copyIndex(source, temporary);
    await sync(temporary);
    await attempt("replace", destination, rename(temporary, resolve(destination)));
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    throw error;
  } finally {
    await opened.weights.close();
  }
  await sync(parent);
}
