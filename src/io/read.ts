import { type FileHandle, open, stat } from "node:fs/promises";
import { attempt, badFile, ioError } from "./file-error.js";

// One read call moves at most this many bytes; the system's own limit is 2 GiB.
const kMaxReadBytes = 64 * 1024 * 1024;

/** A regular file, open for reading, and its size in bytes when it was opened. */
export interface OpenFile {
  readonly path: string;
  readonly handle: FileHandle;
  readonly size: number;
}

/** Whether a path is a folder. @throws {@link FishermaskError} `ERR_FM_IO` for one that is not there */
export async function isFolder(path: string): Promise<boolean> {
  return (await attempt("open", path, stat(path))).isDirectory();
}

/**
 * Opens a regular file. Folders, pipes and devices are refused: they have no size to check a header against, and opening
 * a pipe could wait for ever.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO` when it cannot be opened or is no regular file
 */
export async function openRegularFile(path: string): Promise<OpenFile> {
  const before = await attempt("open", path, stat(path));
  if (!before.isFile()) {
    throw ioError("open", path, new Error("it is not a regular file"));
  }
  const handle = await attempt("open", path, open(path, "r"));
  try {
    const { size } = await attempt("examine", path, handle.stat());
    return { path, handle, size };
  } catch (error) {
    await handle.close().catch(() => undefined);
    throw error;
  }
}

/**
 * Fills `target` from byte `position` of the file.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO` on a failed read, `ERR_FM_BAD_FILE` when the file ends too early
 */
export async function readExactly(
  file: OpenFile,
  position: number,
  target: Uint8Array,
): Promise<void> {
  let offset = 0;
  while (offset < target.byteLength) {
    const length = Math.min(kMaxReadBytes, target.byteLength - offset);
    const call = file.handle.read(target, offset, length, position + offset);
    const { bytesRead } = await attempt("read", file.path, call);
    if (bytesRead === 0) {
      const end = position + target.byteLength;
      throw badFile(file.path, "the length", `at least ${end} bytes`, `${position + offset} bytes`);
    }
    offset += bytesRead;
  }
}

/**
 * Reads a whole UTF-8 text file of at most `maxBytes` bytes. A byte order mark is dropped.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO` on a failed read, `ERR_FM_BAD_FILE` when it is too large or no UTF-8
 */
export async function readTextFile(path: string, maxBytes: number): Promise<string> {
  const file = await openRegularFile(path);
  try {
    if (file.size > maxBytes) {
      throw badFile(path, "the length", `at most ${maxBytes} bytes`, `${file.size} bytes`);
    }
    const bytes = new Uint8Array(file.size);
    await readExactly(file, 0, bytes);
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) {
      throw badFile(path, "the text", "UTF-8", "bytes that are none", error);
    }
    throw error;
  } finally {
    await file.handle.close();
  }
}
