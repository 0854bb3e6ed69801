import { candidateOptions } from "../config.js";
import { scoreNetwork, type UnitScores } from "../mask.js";
import type { MethodContext } from "../method.js";
import type { Fishers, Weights } from "./masking.js";

/** Scores of all candidate units under the config's criterion. @throws as `scoreNetwork` */
export async function score(
  context: MethodContext,
  weights: Weights,
  fishers: Fishers,
): Promise<UnitScores> {
  const { config, model, network, reporter } = context;
  reporter.stage("Score and select", null);
  return scoreNetwork(model.graph, weights, fishers.forget, fishers.remain, {
    ...candidateOptions(config),
    criterion: config.criterion,
    criterionOptions: config.criterionOptions,
    unit: config.unit,
    scope: config.scope,
    seed: config.seed,
    threads: network.threads,
  });
}
