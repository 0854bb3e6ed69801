import { GraphBuilder } from "../model/builder.js";
import type { Graph } from "../model/graph.js";
import { initialize } from "../model/initialize.js";
import { FishermaskError, throwIfAborted } from "../native/errors.js";
import { EngineNetwork } from "../native/network.js";

/** Features of samples with their labels: (count, width) row-major. */
export interface LabelledFeatures {
  readonly features: Float32Array;
  readonly labels: Int32Array;
}

export interface LinearFitOptions {
  readonly classes: number;
  readonly threads?: number | undefined;
  /** λ of λ/2·‖W‖² added to the mean cross-entropy. */
  readonly l2?: number | undefined;
  readonly steps?: number | undefined;
  /**
   * Least deviation that a feature is divided by, as a share of the features' mean deviation: larger keeps the weights of
   * features that hardly vary small. Default 0.
   */
  readonly leastDeviation?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** After each step: how many of them are done. */
  readonly onProgress?: ((steps: number, total: number) => void) | undefined;
}

/** Logistic regression on standardised features: logits = weight · (x − mean) ∘ scale + bias. */
export interface LinearFit {
  /** (classes, width) */
  readonly weight: Float32Array;
  /** (classes,) */
  readonly bias: Float32Array;
  /** (width,) */
  readonly mean: Float64Array;
  /** (width,); 0 for a constant feature. */
  readonly scale: Float64Array;
}

const DEFAULT_L2 = 1e-3;
const DEFAULT_STEPS = 400;
const LEARNING_RATE = 0.1;
const MOMENTUM = 0.95;
/**
 * Deviation, as a share of the feature's size, up to which it is constant: f32 keeps 7 digits, and to divide by the noise of
 * the last would make weights that no f32 layer can hold against their own bias.
 */
const LEAST_VARIATION = 1e-6;

function fitGraph(width: number, classes: number): Graph {
  const builder = new GraphBuilder("linear-probe");
  const features = builder.input("features", [width]);
  return builder.build([builder.linear("probe", features, { out: classes })]);
}

/** Mean, and 1 / standard deviation, of each feature. */
function moments(
  { features, labels }: LabelledFeatures,
  leastDeviation: number,
): Pick<LinearFit, "mean" | "scale"> {
  const count = labels.length;
  const width = features.length / count;
  const mean = new Float64Array(width);
  const deviation = new Float64Array(width);
  for (const [i, value] of features.entries()) mean[i % width]! += value / count;
  for (const [i, value] of features.entries()) {
    deviation[i % width]! += (value - (mean[i % width] as number)) ** 2 / count;
  }
  for (const [i, variance] of deviation.entries()) deviation[i] = Math.sqrt(variance);
  const average = deviation.reduce((sum, value) => sum + value, 0) / Math.max(width, 1);
  const least = leastDeviation * average;
  const isConstant = (value: number, i: number): boolean =>
    value <= Math.max(1e-12, LEAST_VARIATION * Math.abs(mean[i] as number));
  return {
    mean,
    scale: deviation.map((value, i) => (isConstant(value, i) ? 0 : 1 / Math.max(value, least))),
  };
}

/** Features as the fit sees them. */
export function standardise(
  features: Float32Array,
  { mean, scale }: Pick<LinearFit, "mean" | "scale">,
): Float32Array {
  const width = mean.length;
  return features.map(
    (value, i) => (value - (mean[i % width] as number)) * (scale[i % width] as number),
  );
}

/**
 * Fits multinomial logistic regression by full-batch Nesterov descent on standardised features.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` without samples; `ERR_FM_NON_FINITE` for features that are not; `ERR_FM_ABORTED`
 * before the next step
 */
export async function fitLinear(
  samples: LabelledFeatures,
  options: LinearFitOptions,
): Promise<LinearFit> {
  if (samples.labels.length === 0) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      "Expected samples for the linear fit but received none",
    );
  }
  const bad = samples.features.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) {
    throw new FishermaskError(
      "ERR_FM_NON_FINITE",
      `Expected finite features for the linear fit but received ${samples.features[bad]} at ${bad}`,
    );
  }
  const standard = moments(samples, options.leastDeviation ?? 0);
  const data = standardise(samples.features, standard);
  const graph = fitGraph(standard.mean.length, options.classes);
  using network = new EngineNetwork(JSON.stringify(graph), { threads: options.threads });
  await network.setParameters(initialize(graph, 0));
  const trainer = network.trainer({
    kind: "sgd",
    momentum: MOMENTUM,
    nesterov: true,
    weightDecay: options.l2 ?? DEFAULT_L2,
  });
  const steps = options.steps ?? DEFAULT_STEPS;
  for (let step = 0; step < steps; step++) {
    throwIfAborted(options.signal);
    // A short warm-up, then a constant rate: the problem is convex and smooth.
    const learningRate = LEARNING_RATE * Math.min(1, (step + 1) / 20);
    const batch = { data, count: samples.labels.length };
    await trainer.step(batch, samples.labels, { learningRate });
    options.onProgress?.(step + 1, steps);
  }
  const fitted = await network.getParameters(["probe.weight", "probe.bias"]);
  return {
    weight: fitted.get("probe.weight") as Float32Array,
    bias: fitted.get("probe.bias") as Float32Array,
    ...standard,
  };
}

/** The same function of the features as they come: logits = weight · x + bias. */
export function foldStandardisation({ weight, bias, mean, scale }: LinearFit): {
  weight: Float32Array;
  bias: Float32Array;
} {
  const width = mean.length;
  const folded = weight.map((value, i) => value * (scale[i % width] as number));
  const shifts = Float64Array.from(bias);
  for (const [i, value] of folded.entries()) {
    shifts[Math.floor(i / width)]! -= value * (mean[i % width] as number);
  }
  return { weight: folded, bias: Float32Array.from(shifts) };
}

/** The class of largest logit of each sample. */
export function predictLinear(fit: LinearFit, features: Float32Array): Int32Array {
  const width = fit.mean.length;
  const classes = fit.bias.length;
  const data = standardise(features, fit);
  return Int32Array.from({ length: features.length / width }, (_, sample) => {
    let best = 0;
    let most = Number.NEGATIVE_INFINITY;
    for (let c = 0; c < classes; c++) {
      let logit = fit.bias[c] as number;
      for (let j = 0; j < width; j++) {
        logit += (fit.weight[c * width + j] as number) * (data[sample * width + j] as number);
      }
      if (logit > most) [best, most] = [c, logit];
    }
    return best;
  });
}
