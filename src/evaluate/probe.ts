import { GraphBuilder } from "../model/builder.js";
import type { Graph } from "../model/graph.js";
import { initialize } from "../model/initialize.js";
import { FishermaskError, throwIfAborted } from "../native/errors.js";
import { EngineNetwork } from "../native/network.js";

/** Features of samples with their labels: (count, width) row-major. */
export interface ProbeSet {
  readonly features: Float32Array;
  readonly labels: Int32Array;
}

export interface ProbeOptions {
  readonly classes: number;
  readonly threads?: number | undefined;
  /** λ of λ/2·‖W‖² added to the mean cross-entropy. */
  readonly l2?: number | undefined;
  readonly steps?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** After each step: how many of them are done. */
  readonly onProgress?: ((steps: number, total: number) => void) | undefined;
}

export interface ProbeResult {
  /** Accuracy by class on the test set; null for a class without a sample. */
  readonly perClass: readonly (number | null)[];
}

const DEFAULT_L2 = 1e-3;
const DEFAULT_STEPS = 400;
const LEARNING_RATE = 0.1;
const MOMENTUM = 0.95;

/** Each feature to mean 0 and standard deviation 1 over the training set; a constant feature becomes 0. */
function standardise(
  train: ProbeSet,
  test: ProbeSet,
): { train: Float32Array; test: Float32Array; width: number } {
  const count = train.labels.length;
  const width = train.features.length / count;
  const mean = new Float64Array(width);
  const std = new Float64Array(width);
  for (const [i, value] of train.features.entries()) mean[i % width]! += value / count;
  for (const [i, value] of train.features.entries()) {
    std[i % width]! += (value - (mean[i % width] as number)) ** 2 / count;
  }
  const apply = (features: Float32Array): Float32Array =>
    features.map((value, i) => {
      const deviation = Math.sqrt(std[i % width] as number);
      return deviation > 1e-12 ? (value - (mean[i % width] as number)) / deviation : 0;
    });
  return { train: apply(train.features), test: apply(test.features), width };
}

function probeGraph(width: number, classes: number): Graph {
  const builder = new GraphBuilder("linear-probe");
  const features = builder.input("features", [width]);
  return builder.build([builder.linear("probe", features, { out: classes })]);
}

/**
 * A linear probe: multinomial logistic regression on standardised features, fitted by full-batch Nesterov descent, and its
 * accuracy on other samples. High accuracy on a "forgotten" class means that the class is still present in the features.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for empty sets; `ERR_FM_ABORTED` before the next step
 */
export async function linearProbe(
  train: ProbeSet,
  test: ProbeSet,
  options: ProbeOptions,
): Promise<ProbeResult> {
  if (train.labels.length === 0 || test.labels.length === 0) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      "Expected samples for the linear probe but received none",
    );
  }
  const data = standardise(train, test);
  const graph = probeGraph(data.width, options.classes);
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
    await trainer.step({ data: data.train, count: train.labels.length }, train.labels, {
      learningRate,
    });
    options.onProgress?.(step + 1, steps);
  }
  const { predictions } = await network.evaluate(
    { data: data.test, count: test.labels.length },
    test.labels,
  );
  const counts = Array.from({ length: options.classes }, () => ({ correct: 0, total: 0 }));
  for (const [i, label] of test.labels.entries()) {
    const count = counts[label];
    if (count === undefined) continue;
    count.total += 1;
    if (predictions[i] === label) count.correct += 1;
  }
  return { perClass: counts.map(({ correct, total }) => (total === 0 ? null : correct / total)) };
}
