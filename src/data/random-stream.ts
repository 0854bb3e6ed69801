import { checkInteger } from "./check.js";
import type { PhiloxKey } from "./philox.js";

// What a seed's random numbers are for: the upper half of the stream, so that no two purposes share a stream.
const kPurposes = { shuffle: 1, augment: 2, forget: 3, occlude: 4 } as const;

/**
 * The stream of one purpose and epoch under a seed.
 *
 * @param seed safe integer from 0
 * @param epoch 0 .. 2^32 − 1
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT`
 */
export function randomStream(
  purpose: keyof typeof kPurposes,
  seed: number,
  epoch: number,
): PhiloxKey {
  checkInteger("seed", seed, 0, Number.MAX_SAFE_INTEGER);
  checkInteger("epoch", epoch, 0, 2 ** 32 - 1);
  return { seed, stream: kPurposes[purpose] * 2 ** 32 + epoch };
}
