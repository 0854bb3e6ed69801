import { ratioToK } from "../../native/masking.js";
import { candidateOptions } from "../config.js";
import { countByTensor, keepAll, type MaskSet } from "../mask.js";
import type { MethodContext } from "../method.js";

/** Where a run in rounds begins, and how far it may go; in units. */
export interface RoundLimits {
  /** Every candidate kept. */
  readonly masks: MaskSet;
  /** Of all candidates. */
  readonly total: number;
  /** At most masked in all. */
  readonly most: number;
  /** Masked in a round, at most; at least 1, since on a small network a round's share may be less than one unit. */
  readonly perRound: number;
}

export function roundLimits(
  { config, model }: MethodContext,
  { ratioPerRound, maxRatio }: { readonly ratioPerRound: number; readonly maxRatio: number },
): RoundLimits {
  const masks = keepAll(model.graph, { ...candidateOptions(config), unit: config.unit });
  const { total } = countByTensor(masks);
  return {
    masks,
    total,
    most: ratioToK(maxRatio, total),
    perRound: Math.max(1, ratioToK(ratioPerRound, total)),
  };
}
