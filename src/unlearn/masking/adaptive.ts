import type { RoundMetrics } from "../../evaluate/run-metrics.js";
import { readWeights } from "../../model/model.js";
import { throwIfAborted } from "../../native/errors.js";
import { ratioToK } from "../../native/masking.js";
import { type MaskSelection, maskWeights, selectMask } from "../mask.js";
import type { MethodContext } from "../method.js";
import { takeFishers } from "./fishers.js";
import { Judge } from "./judge.js";
import type { Masking } from "./masking.js";
import { score } from "./score.js";
import { missedWarning } from "./target.js";

/** Bisection over k: masks of one ranking nest, so more masked is nearly always more forgotten. */
export async function maskAdaptive(context: MethodContext, maxRatio: number): Promise<Masking> {
  const weights = await readWeights(context.model.graph, context.network);
  const fishers = await takeFishers(context, 0);
  const scores = await score(context, weights, fishers);
  const judge = new Judge(context);
  const rounds: RoundMetrics[] = [];
  const attempt = async (k: number): Promise<{ selection: MaskSelection; reached: boolean }> => {
    throwIfAborted(context.signal);
    const selection = await selectMask(scores, { k });
    await context.network.setParameters(maskWeights(weights, selection.masks));
    const measured = await judge.measure();
    const { units, total } = selection;
    rounds.push({
      round: rounds.length + 1,
      units,
      ratio: total === 0 ? 0 : units / total,
      ...measured,
    });
    return { selection, reached: judge.reached(measured) };
  };
  const nothing = await attempt(0);
  const most = ratioToK(maxRatio, scores.total);
  let best = nothing.reached ? nothing : await attempt(most);
  const warnings = best.reached
    ? []
    : [missedWarning(context.config.target, rounds.at(-1) as RoundMetrics)];
  let low = 0;
  let high = nothing.reached || !best.reached ? 0 : most;
  // To within 2 % of k: finer is below what another draw of samples would change.
  while (high - low > Math.max(1, Math.floor(high * 0.02))) {
    const middle = Math.floor((low + high) / 2);
    const trial = await attempt(middle);
    if (trial.reached) {
      high = middle;
      best = trial;
    } else {
      low = middle;
    }
  }
  await context.network.setParameters(maskWeights(weights, best.selection.masks));
  const { masks, histogram } = best.selection;
  return { masks, rounds, scores: histogram, fishers, warnings };
}
