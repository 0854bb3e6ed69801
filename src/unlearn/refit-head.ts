import { subset } from "../data/dataset.js";
import { evaluate } from "../evaluate/accuracy.js";
import { fitLinear, foldStandardisation, type LinearFit } from "../evaluate/linear-fit.js";
import type { Graph } from "../model/graph.js";
import { type LinearHead, linearHead } from "../model/linear-head.js";
import { FishermaskError } from "../native/errors.js";
import type { MethodContext } from "./method.js";
import { drawStratified } from "./sampling.js";

/** A draw of its own: not a round's. */
const kRefitDraw = 4_000_037;
/**
 * Masking leaves features that hardly vary. Divided by their own deviation they would get weights that any further training
 * step turns into an explosion.
 */
const kLeastDeviation = 0.1;

export interface HeadFitOptions {
  readonly stage: string;
  readonly steps: number;
  readonly leastDeviation?: number;
}

/** Logistic regression on the features that the head reads, of the samples at `indices`. @throws as `evaluate` */
export async function fitHead(
  context: MethodContext,
  head: LinearHead,
  indices: Int32Array,
  { stage, steps, leastDeviation }: HeadFitOptions,
): Promise<LinearFit> {
  const { config, network, normalization, reporter, signal, train } = context;
  reporter.stage(stage, indices.length);
  const { features } = await evaluate(network, subset(train, indices), {
    batchSize: config.fisher.batchSize,
    normalization,
    keep: head.input,
    signal,
    onProgress: (done) => reporter.progress(done),
  });
  const labels = indices.map((index) => train.labels[index] as number);
  return fitLinear(
    { features, labels },
    { classes: head.classes, threads: network.threads, steps, leastDeviation, signal },
  );
}

/**
 * What replaces the head needs one linear layer there, and no mask on it: a new head would fill what a mask says is 0.
 *
 * @param candidates names of the tensors that may be masked
 * @param what asks for it, for the message
 * @throws {@link FishermaskError} `ERR_FM_CONFIG`
 */
export function checkReplaceable(graph: Graph, candidates: readonly string[], what: string): void {
  const { weight } = linearHead(graph);
  if (!candidates.includes(weight)) return;
  throw new FishermaskError(
    "ERR_FM_CONFIG",
    `Expected true for excludeHead with ${what} but received candidates with the head's "${weight}"`,
  );
}

/** The head's parameters that a fit stands for. */
export function headOf(head: LinearHead, fit: LinearFit): Map<string, Float32Array> {
  const { weight, bias } = foldStandardisation(fit);
  return new Map([
    [head.weight, weight],
    [head.bias, bias],
  ]);
}

/**
 * Fits the network's head anew on a share of the remain set, the same number of each class. A class that is forgotten whole
 * has no sample there that the new head could learn it from.
 *
 * @throws {@link FishermaskError} `ERR_FM_CONFIG` for a network whose head is not one linear layer; as `evaluate`
 */
export async function refitHead(context: MethodContext, share: number): Promise<void> {
  const { config, model, network, remain, train } = context;
  const head = linearHead(model.graph);
  const count = Math.max(1, Math.floor(share * remain.length + 1e-9));
  const indices = drawStratified(train, remain, count, config.seed, kRefitDraw);
  const fit = await fitHead(context, head, indices, {
    stage: "Refit the head",
    steps: 400,
    leastDeviation: kLeastDeviation,
  });
  await network.setParameters(headOf(head, fit));
}
