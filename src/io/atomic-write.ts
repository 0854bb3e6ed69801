import { randomBytes } from "node:crypto";
import { type FileHandle, open, rename, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { attempt, ioError } from "./file-error.js";

/** What a file is made of: the whole of it, or pieces that are written one after the other. */
export type FileContent = Uint8Array | string | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

// One write call moves at most this many bytes; the system's own limit is 2 GiB.
const kMaxWriteBytes = 64 * 1024 * 1024;
const kFileMode = 0o644;

function chunksOf(content: FileContent): Iterable<Uint8Array> | AsyncIterable<Uint8Array> {
  if (typeof content === "string") {
    return [new TextEncoder().encode(content)];
  }
  return content instanceof Uint8Array ? [content] : content;
}

async function writeFully(handle: FileHandle, path: string, chunk: Uint8Array): Promise<void> {
  let offset = 0;
  while (offset < chunk.byteLength) {
    const length = Math.min(kMaxWriteBytes, chunk.byteLength - offset);
    const { bytesWritten } = await attempt("write", path, handle.write(chunk, offset, length));
    offset += bytesWritten;
  }
}

async function fillAndSync(handle: FileHandle, path: string, content: FileContent): Promise<void> {
  try {
    for await (const chunk of chunksOf(content)) {
      await writeFully(handle, path, chunk);
    }
    await attempt("sync", path, handle.sync());
  } catch (error) {
    // The first failure is the one to report; a close that fails after it adds nothing.
    await handle.close().catch(() => undefined);
    throw error;
  }
  await attempt("close", path, handle.close());
}

/** Makes the rename itself durable. Windows cannot open a folder, and needs no such step. */
async function syncFolder(folder: string, path: string): Promise<void> {
  if (process.platform === "win32") {
    return;
  }
  const handle = await attempt("open the folder of", path, open(folder, "r"));
  try {
    await attempt("sync the folder of", path, handle.sync());
  } finally {
    await handle.close();
  }
}

/**
 * Writes a file so that every reader, at every moment and after a crash, sees the old file or the whole new one.
 *
 * A temporary file `.fishermask-*.tmp` (mode 0644 minus umask) in the same folder is filled, fsynced and renamed over
 * `path`; then the folder is fsynced. On failure the temporary file is removed and `path` is untouched; only a failure
 * of the very last step, the folder's fsync, leaves the new file in place. A process that is killed leaves its temporary
 * file behind. An error thrown by `content` itself is passed on as it is.
 *
 * @param path the file to write; its folder must exist. A symbolic link is replaced, not followed.
 * @param content bytes, UTF-8 text, or pieces; a piece may be reused by its producer once the next one is asked for
 * @throws {@link FishermaskError} `ERR_FM_IO` naming the path
 */
export async function writeFileAtomic(path: string, content: FileContent): Promise<void> {
  await replaceFile(path, (handle) => fillAndSync(handle, path, content));
}

/**
 * As {@link writeFileAtomic}, for files that are filled out of order or by others: `fill` gets the temporary file, empty, by
 * handle and by path.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO` naming the path; what `fill` throws
 */
export async function fillFileAtomic(
  path: string,
  fill: (handle: FileHandle, temporary: string) => Promise<void>,
): Promise<void> {
  await replaceFile(path, async (handle, temporary) => {
    try {
      await fill(handle, temporary);
      await attempt("sync", path, handle.sync());
    } catch (error) {
      await handle.close().catch(() => undefined);
      throw error;
    }
    await attempt("close", path, handle.close());
  });
}

/** `fill` closes the handle. */
async function replaceFile(
  path: string,
  fill: (handle: FileHandle, temporary: string) => Promise<void>,
): Promise<void> {
  const folder = dirname(path);
  const unique = `${process.pid}-${randomBytes(8).toString("hex")}`;
  const temporary = join(folder, `.fishermask-${unique}.tmp`);
  let handle: FileHandle;
  try {
    handle = await open(temporary, "wx", kFileMode);
  } catch (cause) {
    throw ioError("create a temporary file for", path, cause);
  }
  try {
    await fill(handle, temporary);
    await attempt("replace", path, rename(temporary, path));
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  await syncFolder(folder, path);
}
