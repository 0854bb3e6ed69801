/**
 * The error codes of fishermask. Mirrors `binding/core/error_codes.def`; a contract test compares the two.
 */
export const ERROR_CODES = [
  "ERR_FM_ARGUMENT",
  "ERR_FM_CONFIG",
  "ERR_FM_SHAPE",
  "ERR_FM_DTYPE",
  "ERR_FM_GRAPH",
  "ERR_FM_STATE",
  "ERR_FM_NON_FINITE",
  "ERR_FM_UNSUPPORTED",
  "ERR_FM_OUT_OF_MEMORY",
  "ERR_FM_NO_DEVICE",
  "ERR_FM_DEVICE_LOST",
  "ERR_FM_BAD_FILE",
  "ERR_FM_IO",
  "ERR_FM_MISMATCH",
  "ERR_FM_ABORTED",
  "ERR_FM_DISPOSED",
  "ERR_FM_NO_PREBUILD",
  "ERR_FM_INTERNAL",
] as const;

export type FishermaskErrorCode = (typeof ERROR_CODES)[number];

/** Every failure of fishermask: `code` is stable, `message` names the culprit and what was expected. */
export class FishermaskError extends Error {
  readonly code: FishermaskErrorCode;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    code: FishermaskErrorCode,
    message: string,
    options: { details?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = code === "ERR_FM_ABORTED" ? "AbortError" : "FishermaskError";
    this.code = code;
    this.details = options.details ?? {};
  }
}

/** Throws `ERR_FM_ABORTED` when the signal has fired. Call it once per batch. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) {
    throw new FishermaskError("ERR_FM_ABORTED", "the work was stopped by its AbortSignal", {
      cause: signal.reason,
    });
  }
}
