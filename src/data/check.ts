import { FishermaskError } from "../native/errors.js";

/** An `ERR_FM_ARGUMENT` in the usual words. */
export function argumentError(expected: string, name: string, received: unknown): FishermaskError {
  const text = typeof received === "string" ? `"${received}"` : String(received);
  return new FishermaskError(
    "ERR_FM_ARGUMENT",
    `Expected ${expected} for ${name} but received ${text}`,
  );
}

/**
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` unless `value` is a whole number from `least` to `most`
 */
export function checkInteger(name: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw argumentError(`a whole number from ${least} to ${most}`, name, value);
  }
}
