import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { ioError } from "./file-error.js";

/** SHA-256 of bytes, as 64 lower-case hexadecimal digits. */
export function sha256Bytes(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/**
 * SHA-256 of a file, read in pieces, as 64 lower-case hexadecimal digits.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO` naming the path
 */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(path)) {
      hash.update(chunk as Uint8Array);
    }
  } catch (cause) {
    throw ioError("read", path, cause);
  }
  return hash.digest("hex");
}
