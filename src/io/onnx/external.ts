import { lstat, realpath } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, relative, sep } from "node:path";
import { attempt, badFile } from "../file-error.js";
import { type OpenFile, openRegularFile } from "../read.js";

/** Where a model's external data may stand. */
export interface ExternalRoots {
  /** The model's path, as it was given. */
  readonly path: string;
  /** The real path of the folder that the model is in. */
  readonly folder: string;
  /** The blobs of the Hugging Face cache that the model is a link from, or null. */
  readonly blobs: string | null;
}

function isInside(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return way !== "" && way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}

/**
 * Finds out where a model's external data may stand: below its own folder and, where the model is a link from
 * `snapshots/` to `blobs/` of a Hugging Face cache, in those same blobs.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO`
 */
export async function externalRoots(path: string): Promise<ExternalRoots> {
  const folder = await attempt("resolve", path, realpath(dirname(path)));
  const link = join(folder, basename(path));
  const isLink = (await attempt("examine", path, lstat(link))).isSymbolicLink();
  const blobs = dirname(await attempt("resolve", path, realpath(link)));
  const snapshots = join(dirname(blobs), "snapshots");
  const isCached = isLink && basename(blobs) === "blobs" && isInside(snapshots, folder);
  return { path, folder, blobs: isCached ? blobs : null };
}

/** The real path of an external data file. Refuses every link that leads out of {@link ExternalRoots}. */
async function resolveLocation(roots: ExternalRoots, location: string): Promise<string> {
  const path = join(roots.folder, location);
  const real = await attempt("resolve", path, realpath(path));
  const isBlob = roots.blobs !== null && dirname(real) === roots.blobs;
  if (!isBlob && !isInside(roots.folder, real)) {
    const where = `external data ${JSON.stringify(location)}`;
    throw badFile(roots.path, where, "a file in the model's folder", "a link that leads out of it");
  }
  return real;
}

/**
 * Opens an external data file for reading.
 *
 * @param location relative and without "..", as `normalLocation` leaves it
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE` where it is a link that leads elsewhere or the model itself,
 * `ERR_FM_IO` where it is not there or no regular file
 */
export async function openExternal(roots: ExternalRoots, location: string): Promise<OpenFile> {
  const real = await resolveLocation(roots, location);
  const file = await openRegularFile(real);
  try {
    // Between the two calls the file may have been replaced by a link.
    const opened = await attempt("examine", real, file.handle.stat());
    const there = await attempt("examine", real, lstat(real));
    const model = await attempt("examine", roots.path, lstat(await realpath(roots.path)));
    const isSame = there.ino === opened.ino && there.dev === opened.dev;
    if (!isSame || (model.ino === opened.ino && model.dev === opened.dev)) {
      const where = `external data ${JSON.stringify(location)}`;
      const received = isSame ? "the model's own file" : "one that changed while it was opened";
      throw badFile(roots.path, where, "a file of its own", received);
    }
    return file;
  } catch (error) {
    await file.handle.close().catch(() => undefined);
    throw error;
  }
}

/**
 * Checks that a tensor's range lies in its external data file.
 *
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE` naming the tensor
 */
export function checkExternalRange(
  source: string,
  tensor: string,
  storage: { readonly location: string; readonly offset: number; readonly length: number },
  size: number,
): void {
  const { location, offset, length } = storage;
  if (length > size - offset) {
    const where = `the external data of tensor ${JSON.stringify(tensor)}`;
    const expected = `bytes ${offset} to ${offset + length} of ${JSON.stringify(location)}`;
    throw badFile(source, where, expected, `a file of ${size} bytes`);
  }
}
