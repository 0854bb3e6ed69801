import { access, constants, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { attempt, ioError } from "../io/file-error.js";

/**
 * Looks before the work whether a file can be written there. Nothing is made.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO` naming the path: no such folder, no right to write to it, or a folder itself
 */
export async function checkDestination(path: string | undefined): Promise<void> {
  if (path === undefined) return;
  const folder = dirname(path);
  if (!(await attempt("write", path, stat(folder))).isDirectory()) {
    throw ioError("write", path, new Error(`${folder} is not a folder`));
  }
  await attempt("write", path, access(folder, constants.W_OK));
  const present = await stat(path).catch(() => null);
  if (present?.isDirectory()) throw ioError("write", path, new Error("it is a folder"));
}
