import { FishermaskError } from "../../native/errors.js";

/**
 * The tokens a sample: what is asked for, or the whole context.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for what is no whole number from 1 to the context
 */
export function checkSequenceLength(asked: number | undefined, context: number): number {
  const length = asked ?? context;
  if (Number.isSafeInteger(length) && length >= 1 && length <= context) return length;
  throw new FishermaskError(
    "ERR_FM_ARGUMENT",
    `Expected a whole number from 1 to ${context}, the model's context, for sequenceLength but received ${length}`,
  );
}
