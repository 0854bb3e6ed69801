import { lstat, mkdir, realpath } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { FishermaskError } from "../../native/errors.js";
import { writeFileAtomic } from "../atomic-write.js";
import { attempt } from "../file-error.js";
import {
  bf16ToNumber,
  type FloatDtype,
  f16ToNumber,
  firstNonFinite,
  nonFiniteError,
  numberToBf16,
  numberToF16,
} from "../float-format.js";
import { readExactly } from "../read.js";
import { checkExternalRange } from "./external.js";
import { findTensor } from "./find-tensor.js";
import type { OnnxDType, OnnxTensor } from "./model.js";
import { OnnxFile } from "./onnx-file.js";
import { patched, patchTensor, type ReadAt, type TensorChange } from "./patch-range.js";

const kFormats: ReadonlyMap<OnnxDType, FloatDtype> = new Map([
  ["float", "F32"],
  ["double", "F64"],
  ["float16", "F16"],
  ["bfloat16", "BF16"],
]);

/** Index of the first value that its type rounds to infinity, or −1. */
function firstOverflow(format: FloatDtype, values: Float32Array): number {
  switch (format) {
    case "F16":
      return values.findIndex((value) => !Number.isFinite(f16ToNumber(numberToF16(value))));
    case "BF16":
      return values.findIndex((value) => !Number.isFinite(bf16ToNumber(numberToBf16(value))));
    default:
      return -1;
  }
}

function checkedChange(source: OnnxFile, name: string, values: Float32Array): TensorChange {
  const details = { path: source.path, tensor: name };
  const tensor = findTensor(source.model, name);
  if (tensor === undefined) {
    const message = `Expected an initializer or the output of a Constant of ${source.path} but received ${JSON.stringify(name)}`;
    throw new FishermaskError("ERR_FM_ARGUMENT", message, { details });
  }
  const format = kFormats.get(tensor.dtype);
  if (format === undefined) {
    const expected = [...kFormats.keys()].join(", ");
    const message = `Expected one of ${expected} for the dtype of tensor "${name}" of ${source.path} but received ${tensor.dtype}`;
    throw new FishermaskError("ERR_FM_DTYPE", message, { details });
  }
  if (values.length !== tensor.elements) {
    const message = `Expected ${tensor.elements} elements for tensor "${name}" of ${source.path} but received ${values.length}`;
    throw new FishermaskError("ERR_FM_SHAPE", message, { details });
  }
  const bad = firstNonFinite(values);
  if (bad >= 0) {
    throw nonFiniteError(source.path, name, bad, "a finite number", values[bad]);
  }
  const overflow = firstOverflow(format, values);
  if (overflow >= 0) {
    const expected = `a value in ${tensor.dtype}'s range`;
    throw nonFiniteError(source.path, name, overflow, expected, values[overflow]);
  }
  return { source: source.path, name, tensor, format, values };
}

interface Stretch {
  readonly tensor: OnnxTensor;
  readonly begin: number;
  readonly end: number;
}

/** The tensors in one external file, in the order of their bytes. */
function stretchesOf(source: OnnxFile, location: string): Stretch[] {
  const stretches: Stretch[] = [];
  for (const tensor of source.externals) {
    const { storage } = tensor;
    if (storage.kind === "external" && storage.location === location && storage.length > 0) {
      const { offset, length } = storage;
      stretches.push({ tensor, begin: offset, end: offset + length });
    }
  }
  return stretches.sort((a, b) => a.begin - b.begin);
}

/** A changed tensor must not share bytes with another one, which would change with it. */
function checkUnshared(source: OnnxFile, location: string, changed: ReadonlySet<OnnxTensor>): void {
  let furthest: Stretch | undefined;
  let furthestChanged: Stretch | undefined;
  for (const stretch of stretchesOf(source, location)) {
    const before = changed.has(stretch.tensor) ? furthest : furthestChanged;
    if (before !== undefined && before.end > stretch.begin) {
      const names = [before, stretch].map(({ tensor }) => JSON.stringify(tensor.name));
      throw new FishermaskError(
        "ERR_FM_UNSUPPORTED",
        `Expected external data of its own for tensor ${names[0]} of ${source.path} but received bytes shared with ${names[1]}`,
        { details: { path: source.path, tensor: before.tensor.name } },
      );
    }
    if (furthest === undefined || stretch.end > furthest.end) {
      furthest = stretch;
    }
    if (changed.has(stretch.tensor)) {
      furthestChanged = stretch;
    }
  }
}

/** Where a rewritten model goes. */
interface Destination {
  readonly path: string;
  /** The real path of its folder. */
  readonly folder: string;
  readonly isSameFolder: boolean;
  readonly isSameFile: boolean;
}

async function destinationOf(source: OnnxFile, path: string): Promise<Destination> {
  const folder = await attempt("resolve the folder of", path, realpath(dirname(path)));
  const isSameFolder = folder === source.folder;
  const isSameFile = isSameFolder && basename(path) === basename(source.path);
  return { path, folder, isSameFolder, isSameFile };
}

/** The external files to write: in the source's own folder the changed ones, elsewhere all. */
function locationsToWrite(
  source: OnnxFile,
  destination: Destination,
  changes: readonly TensorChange[],
): string[] {
  const changed = new Set<string>();
  for (const { tensor } of changes) {
    if (tensor.external !== null && tensor.elements > 0) {
      changed.add(tensor.external);
    }
  }
  if (!destination.isSameFolder) {
    const held = source.externals.filter((tensor) => tensor.elements > 0);
    return [...new Set(held.flatMap((tensor) => tensor.external ?? []))];
  }
  if (!destination.isSameFile && changed.size > 0) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected another folder, or the source itself, for the destination of ${source.path}, whose changed tensors are in an external file that both would share, but received ${destination.path}`,
      { details: { path: destination.path } },
    );
  }
  return [...changed];
}

/** The external files of the model that is to be replaced: these may be replaced with it. */
async function ownedLocations(path: string): Promise<ReadonlySet<string>> {
  try {
    await using old = await OnnxFile.open(path);
    return new Set(old.externals.flatMap((tensor) => tensor.external ?? []));
  } catch (error) {
    if (error instanceof FishermaskError) {
      return new Set();
    }
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") {
      return false;
    }
    return await attempt("examine", path, Promise.reject(cause));
  }
}

function refuseDestination(destination: Destination, path: string): never {
  throw new FishermaskError(
    "ERR_FM_ARGUMENT",
    `Expected a destination that takes no other file's place, with its external data beside it, but received ${destination.path}, which would replace ${path}`,
    { details: { path } },
  );
}

/**
 * Refuses to write over files that are not the replaced model's: a hostile model names its data files as it likes. Nor may
 * the model take the place of its own data.
 */
async function checkFree(
  source: OnnxFile,
  destination: Destination,
  locations: readonly string[],
): Promise<void> {
  const model = join(destination.folder, basename(destination.path));
  for (const { external } of source.externals) {
    const places = [source.folder, destination.folder].map((folder) =>
      join(folder, external ?? ""),
    );
    if (places.includes(model)) {
      refuseDestination(destination, model);
    }
  }
  if (destination.isSameFile || locations.length === 0) {
    return;
  }
  const owned = await ownedLocations(destination.path);
  for (const location of locations) {
    const path = join(destination.folder, location);
    if (!owned.has(location) && (await exists(path))) {
      refuseDestination(destination, path);
    }
  }
}

/** Makes the folder of an external file, and sees to it that no link leads it out of the destination's folder. */
async function makeFolder(destination: Destination, path: string): Promise<void> {
  const folder = dirname(path);
  if (folder === destination.folder) {
    return;
  }
  let made = destination.folder;
  for (const part of relative(destination.folder, folder).split(/[\\/]/)) {
    made = join(made, part);
    if (!(await exists(made))) {
      await attempt("create", made, mkdir(made));
    }
    if ((await attempt("resolve", made, realpath(made))) !== made) {
      throw new FishermaskError(
        "ERR_FM_ARGUMENT",
        `Expected a folder without links for the external data of ${destination.path} but received ${made}`,
        { details: { path: made } },
      );
    }
  }
}

async function writeExternal(
  source: OnnxFile,
  destination: Destination,
  location: string,
  changes: readonly TensorChange[],
): Promise<void> {
  const path = join(destination.folder, location);
  await makeFolder(destination, path);
  const file = await source.openExternal(location);
  try {
    const readAt: ReadAt = (position, target) => readExactly(file, position, target);
    const patches = await Promise.all(changes.map((change) => patchTensor(readAt, change)));
    await writeFileAtomic(path, patched(readAt, file.size, patches.flat()));
  } finally {
    await file.handle.close();
  }
}

/** Everything that can be wrong with the external files is found before the first is written. */
async function checkExternals(
  source: OnnxFile,
  locations: readonly string[],
  changed: ReadonlySet<OnnxTensor>,
): Promise<void> {
  for (const location of locations) {
    checkUnshared(source, location, changed);
    const file = await source.openExternal(location);
    await file.handle.close();
    for (const { tensor, begin, end } of stretchesOf(source, location)) {
      const range = { location, offset: begin, length: end - begin };
      checkExternalRange(source.path, tensor.name, range, file.size);
    }
  }
}

/**
 * Writes a model back with some tensors' values changed; every other byte stays, and the file's length too. Values are
 * rounded to the tensor's own type, to nearest even; an element whose value is the stored one (as f32) keeps its bits.
 *
 * External data files are copied beside the destination under the names that the model gives them, with the changed
 * tensors' bytes replaced; as new regular files, never through a link. Each file is replaced whole or not at all, the
 * model last; a process killed between two files leaves some of them new. In the source's own folder only the changed data
 * files are written, and only when the destination is the source: any other name there would share them.
 *
 * @param source stays open; its own file is read as it was even where it is replaced
 * @param destination may be the source's own path; its folder must exist
 * @param changes new elements, row-major, by the name of an initializer or of the output of a Constant node, both of the
 * main graph; for tensors of type float, double, float16 or bfloat16
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for an unknown tensor, or a destination whose folder has files of the
 * external data's names that are not those of a model that is replaced; `ERR_FM_DTYPE` for another type; `ERR_FM_SHAPE`
 * for a wrong number of elements; `ERR_FM_NON_FINITE` for NaN, infinity or a value beyond the type's range;
 * `ERR_FM_UNSUPPORTED` for a half in int32_data that needs more bytes than it has,
 * and for a tensor that shares external bytes with another; `ERR_FM_BAD_FILE` and `ERR_FM_IO`
 */
export async function rewriteOnnx(
  source: OnnxFile,
  destination: string,
  changes: ReadonlyMap<string, Float32Array>,
): Promise<void> {
  const checked = [...changes].map(([name, values]) => checkedChange(source, name, values));
  const target = await destinationOf(source, destination);
  const locations = locationsToWrite(source, target, checked);
  await checkExternals(source, locations, new Set(checked.map(({ tensor }) => tensor)));
  await checkFree(source, target, locations);
  const readAt: ReadAt = (position, bytes) => source.readAt(position, bytes);
  const local = checked.filter(({ tensor }) => tensor.external === null);
  const patches = await Promise.all(local.map((change) => patchTensor(readAt, change)));
  for (const location of locations) {
    const inside = checked.filter(({ tensor }) => tensor.external === location);
    await writeExternal(source, target, location, inside);
  }
  await writeFileAtomic(destination, patched(readAt, source.size, patches.flat()));
}
