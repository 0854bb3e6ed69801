import { type DatasetView, subset } from "../../data/dataset.js";
import { criteria } from "../criteria.gen.js";
import { computeFisher } from "../fisher.js";
import type { FisherStore } from "../fisher-store.js";
import type { MethodContext } from "../method.js";
import { drawSamples, drawStratified, without } from "../sampling.js";
import type { Fishers } from "./masking.js";

/** Where a Fisher differs from what the config says. */
export interface FisherChanges {
  readonly labels?: "empirical";
  readonly temperature?: number;
  /** Of the view's data set; default: that of the training data. */
  readonly digest?: string;
}

/** The Fisher of a view at the network's present weights, as the config says. @throws as `computeFisher` */
export async function fisherOf(
  context: MethodContext,
  what: string,
  view: DatasetView,
  gradientSums: boolean,
  changes: FisherChanges = {},
): Promise<FisherStore> {
  const { config, network, reporter, signal, normalization, trainDigest } = context;
  const { fisher, seed } = config;
  reporter.stage(`Fisher, ${what}`, view.indices.length);
  const digest = changes.digest ?? trainDigest;
  const { store } = await computeFisher(context.model.graph, network, view, digest, {
    labels: changes.labels ?? fisher.labels,
    gradient: fisher.gradient,
    temperature: changes.temperature ?? fisher.temperature,
    batchSize: fisher.batchSize,
    seed,
    gradientSums,
    normalization,
    signal,
    onProgress: (done) => reporter.progress(done),
  });
  return store;
}

/**
 * The Fishers that the criterion needs, at the network's present weights; stored ones serve the first round.
 *
 * @param pool the forget samples to draw from; by default all that are not reserved
 */
export async function takeFishers(
  context: MethodContext,
  round: number,
  pool: Int32Array = without(context.forget, context.reserved),
): Promise<Fishers> {
  const { config, train, reserved, stored } = context;
  const { needs } = criteria[config.criterion];
  const { fisher, seed } = config;
  let forget = round === 0 ? stored.forget : null;
  if (forget === null && (needs.forgetFisher || needs.forgetGradient)) {
    const indices = drawSamples(pool, fisher.forgetSamples, seed, round);
    forget = await fisherOf(context, "forget set", subset(train, indices), needs.forgetGradient);
  }
  let remain = round === 0 ? stored.remain : null;
  if (remain === null && needs.remainFisher) {
    const open = without(context.remain, reserved);
    const indices = drawStratified(train, open, fisher.remainSamples, seed, round);
    remain = await fisherOf(context, "remain set", subset(train, indices), false);
  }
  return { forget, remain };
}
