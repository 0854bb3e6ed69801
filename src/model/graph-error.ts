import { FishermaskError, type FishermaskErrorCode } from "../native/errors.js";

type ModelErrorCode = Extract<
  FishermaskErrorCode,
  "ERR_FM_GRAPH" | "ERR_FM_SHAPE" | "ERR_FM_ARGUMENT" | "ERR_FM_MISMATCH"
>;

/** An error in the usual words: "Expected <expected> for <name> but received <received>". */
export function expected(
  code: ModelErrorCode,
  what: string,
  name: string,
  received: string | number,
): FishermaskError {
  return new FishermaskError(code, `Expected ${what} for ${name} but received ${received}`);
}

/** (H, W, C) as people write it. */
export function shapeText(shape: readonly number[]): string {
  return `(${shape.join(", ")})`;
}

/** @throws {@link FishermaskError} `ERR_FM_ARGUMENT` unless `value` is a whole number from 1 */
export function checkCount(name: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 1) {
    throw expected("ERR_FM_ARGUMENT", "a whole number from 1", name, value);
  }
}

/** @throws {@link FishermaskError} `ERR_FM_ARGUMENT` unless `seed` is a safe integer from 0 */
export function checkSeed(seed: number): void {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw expected("ERR_FM_ARGUMENT", "a whole number from 0 to 2^53 - 1", "seed", seed);
  }
}
