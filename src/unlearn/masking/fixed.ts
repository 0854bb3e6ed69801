import { readWeights } from "../../model/model.js";
import { maskWeights, selectMask } from "../mask.js";
import type { MethodContext } from "../method.js";
import { takeFishers } from "./fishers.js";
import type { Masking } from "./masking.js";
import { score } from "./score.js";

/** One selection of this share of the candidates. */
export async function maskFixed(context: MethodContext, ratio: number): Promise<Masking> {
  const weights = await readWeights(context.model.graph, context.network);
  const fishers = await takeFishers(context, 0);
  const selection = await selectMask(await score(context, weights, fishers), { ratio });
  await context.network.setParameters(maskWeights(weights, selection.masks));
  return { masks: selection.masks, rounds: [], scores: selection.histogram, fishers, warnings: [] };
}
