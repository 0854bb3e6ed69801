import { expect } from "vitest";
import { FishermaskError, type FishermaskErrorCode } from "../../../src/native/errors.js";

/** Expects a FishermaskError of this code whose message holds every fragment. */
export function expectError(
  run: () => unknown,
  code: FishermaskErrorCode,
  ...fragments: string[]
): FishermaskError {
  let caught: unknown;
  try {
    run();
  } catch (error) {
    caught = error;
  }
  expect(caught).toBeInstanceOf(FishermaskError);
  const error = caught as FishermaskError;
  expect(error.code).toBe(code);
  for (const fragment of fragments) expect(error.message).toContain(fragment);
  return error;
}
