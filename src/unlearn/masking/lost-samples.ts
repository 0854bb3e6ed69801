import { subset } from "../../data/dataset.js";
import type { FisherStore } from "../fisher-store.js";
import type { MethodContext } from "../method.js";
import { combinedStore } from "./combined-gradient.js";
import { fisherOf } from "./fishers.js";
import type { Fishers } from "./masking.js";
import type { Sighting, Watch } from "./watch.js";

/** At T = 1 and with the data's labels: these samples are wrong, so their loss is not saturated. */
async function fisherOfLost(
  context: MethodContext,
  { watched, weightOfLost }: Watch,
  lost: Int32Array,
): Promise<FisherStore | null> {
  if (watched === null || lost.length === 0 || weightOfLost === 0) return null;
  return fisherOf(context, "lost samples", subset(watched.dataset, lost), true, {
    labels: "empirical",
    temperature: 1,
    digest: `${context.trainDigest}, occluded`,
  });
}

/** What was lost since the run began, as places in the watched data set. */
export interface LostSamples {
  readonly count: number;
  /** Those that the gradient is taken of: all, or a draw that stands for them. */
  readonly drawn: Int32Array;
}

/**
 * The Fishers that a step is ranked by, of those taken at the network's present weights: the forget gradient less that of the
 * lost samples, as `combinedStore` says. Not Fishers of a set any more, and so not to be stored.
 *
 * @throws {@link FishermaskError} as `computeFisher` and `combinedStore`
 */
export async function lessLost(
  context: MethodContext,
  fishers: Fishers,
  watch: Watch,
  { recognised }: Sighting,
  lost: LostSamples,
): Promise<Fishers> {
  const forget = combinedStore({
    forget: fishers.forget as FisherStore,
    recognised: recognised.length,
    judged: watch.judged.indices.length,
    lost: await fisherOfLost(context, watch, lost.drawn),
    lostCount: lost.count,
    weightOfLost: watch.weightOfLost,
  });
  return { forget, remain: fishers.remain };
}
