import type { RoundMetrics, ScoreHistogram } from "../../evaluate/run-metrics.js";
import { readWeights } from "../../model/model.js";
import { throwIfAborted } from "../../native/errors.js";
import { countByTensor, maskWeights, selectMask, unionOfMasked } from "../mask.js";
import type { MethodContext } from "../method.js";
import { takeFishers } from "./fishers.js";
import { Judge } from "./judge.js";
import { roundLimits } from "./limits.js";
import type { Fishers, Masking } from "./masking.js";
import { percent } from "./percent.js";
import { score } from "./score.js";
import { missedWarning } from "./target.js";

/** A share each round, the Fishers taken anew, until the target is reached or `maxRatio` is masked. */
export async function maskIterated(
  context: MethodContext,
  ratioPerRound: number,
  maxRatio: number,
): Promise<Masking> {
  const judge = new Judge(context);
  const original = await readWeights(context.model.graph, context.network);
  let weights = original;
  const { total, most, perRound, ...limits } = roundLimits(context, { ratioPerRound, maxRatio });
  let { masks } = limits;
  let fishers: Fishers = { forget: null, remain: null };
  let histogram: ScoreHistogram | null = null;
  let last: RoundMetrics = { round: 0, units: 0, ratio: 0, ...(await judge.measure()) };
  const rounds = [last];
  let reached = judge.reached(last);
  for (let round = 0; !reached; round++) {
    throwIfAborted(context.signal);
    const k = Math.min(perRound, most - countByTensor(masks).units);
    if (k <= 0) break;
    fishers = await takeFishers(context, round);
    const scores = await score(context, weights, fishers);
    const selection = await selectMask(scores, { k });
    if (selection.units === 0) break;
    masks = unionOfMasked(masks, selection.masks);
    histogram = selection.histogram;
    weights = maskWeights(weights, selection.masks);
    await context.network.setParameters(weights);
    const { units } = countByTensor(masks);
    last = { round: round + 1, units, ratio: units / total, ...(await judge.measure()) };
    rounds.push(last);
    reached = judge.reached(last);
    context.reporter.message(
      `round ${last.round}: ${percent(last.ratio, 2)} masked, forget ${percent(last.forgetAccuracy)}, ` +
        `remain ${last.remainAccuracy === null ? "–" : percent(last.remainAccuracy)}`,
    );
  }
  const warnings = reached ? [] : [missedWarning(context.config.target, last)];
  return { masks, rounds, scores: histogram, fishers, warnings };
}
