import { FishermaskError } from "../native/errors.js";

/** What a failed file-system call is worth telling: its code (`ENOENT`) or, without one, its message. */
function reasonOf(cause: unknown): string {
  if (cause instanceof Error) {
    const code = (cause as NodeJS.ErrnoException).code;
    return code === undefined ? cause.message : `${code} (${cause.message})`;
  }
  return String(cause);
}

/**
 * An `ERR_FM_IO` that names the path, what was being done to it and the system's reason.
 *
 * @param action what was tried, as a verb: "open", "write"
 */
export function ioError(action: string, path: string, cause: unknown): FishermaskError {
  return new FishermaskError("ERR_FM_IO", `could not ${action} ${path}: ${reasonOf(cause)}`, {
    cause,
    details: { path, action },
  });
}

/**
 * An `ERR_FM_BAD_FILE` that names the file, the place in it and what was expected there.
 *
 * @param where the tensor, key, record or line at fault
 */
export function badFile(
  path: string,
  where: string,
  expected: string,
  received: string,
  cause?: unknown,
): FishermaskError {
  return new FishermaskError(
    "ERR_FM_BAD_FILE",
    `Expected ${expected} for ${where} of ${path} but received ${received}`,
    { details: { path, where }, ...(cause === undefined ? {} : { cause }) },
  );
}

/**
 * Awaits one file-system call and turns its failure into `ERR_FM_IO`.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO`
 */
export async function attempt<T>(action: string, path: string, call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (cause) {
    throw ioError(action, path, cause);
  }
}
