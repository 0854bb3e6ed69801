import { FishermaskError, type FishermaskErrorCode } from "../native/errors.js";

/** What the process ends with. 75 (interrupted, resumable) is kept for verbs that can resume. */
export const EXIT = {
  ok: 0,
  unexpected: 1,
  usage: 2,
  badInput: 3,
  gate: 4,
  outOfMemory: 5,
  noDevice: 6,
  /** Ctrl-C; nothing was written. */
  interrupted: 130,
} as const;

const BY_CODE: Readonly<Partial<Record<FishermaskErrorCode, number>>> = {
  ERR_FM_ARGUMENT: EXIT.usage,
  ERR_FM_CONFIG: EXIT.usage,
  ERR_FM_UNSUPPORTED: EXIT.usage,
  ERR_FM_STATE: EXIT.usage,
  ERR_FM_BAD_FILE: EXIT.badInput,
  ERR_FM_IO: EXIT.badInput,
  ERR_FM_MISMATCH: EXIT.badInput,
  ERR_FM_NON_FINITE: EXIT.badInput,
  ERR_FM_SHAPE: EXIT.badInput,
  ERR_FM_DTYPE: EXIT.badInput,
  ERR_FM_GRAPH: EXIT.badInput,
  ERR_FM_OUT_OF_MEMORY: EXIT.outOfMemory,
  ERR_FM_NO_DEVICE: EXIT.noDevice,
  ERR_FM_DEVICE_LOST: EXIT.noDevice,
  ERR_FM_NO_PREBUILD: EXIT.noDevice,
  ERR_FM_ABORTED: EXIT.interrupted,
};

export function exitCodeOf(error: unknown): number {
  if (error instanceof FishermaskError) return BY_CODE[error.code] ?? EXIT.unexpected;
  if (error instanceof RangeError && /allocation|array length/i.test(error.message)) {
    return EXIT.outOfMemory;
  }
  return EXIT.unexpected;
}
