import { batches } from "../data/batches.js";
import { type DatasetView, subset } from "../data/dataset.js";
import type { Graph } from "../model/graph.js";
import { checkChoice } from "../native/choice.js";
import { FishermaskError, throwIfAborted } from "../native/errors.js";
import type { EngineNetwork, InputNormalization } from "../native/network.js";
import {
  FISHER_GRADIENTS,
  FISHER_LABELS,
  type FisherGradient,
  type FisherLabels,
  type FisherStore,
  weightsDigest,
} from "./fisher-store.js";

export interface FisherOptions {
  /** Which label the loss takes. Default `empirical`. */
  readonly labels?: FisherLabels | undefined;
  /** `per-sample` is exact; `batch-mean` squares the mean gradient of a batch, as the authors' code does. */
  readonly gradient?: FisherGradient | undefined;
  /** Logits are divided by it (and the loss multiplied). Above 0; 1 is the textbook. */
  readonly temperature?: number | undefined;
  /** Of `sampled` labels. */
  readonly seed?: number | undefined;
  /** Also sum the gradients themselves, with the data's labels; `directional` and `gradient` need them. */
  readonly gradientSums?: boolean | undefined;
  /**
   * Of sequences: each counted token is a term of its own, (∂ℓ_t/∂θ)², and not the sum over the sequence. One reverse pass for
   * each place, so as many times slower. `per-sample` alone.
   */
  readonly perToken?: boolean | undefined;
  /** The generic rule instead of the fused kernels: slow; the reference. */
  readonly generic?: boolean | undefined;
  /** "training" is refused: batch norm would mix the samples. */
  readonly mode?: "evaluation" | "training" | undefined;
  readonly batchSize: number;
  /** Of images; none for token sequences. */
  readonly normalization: InputNormalization | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((samples: number, total: number) => void) | undefined;
}

export interface FisherResult {
  readonly store: FisherStore;
  readonly seconds: number;
  /** Mean loss (nats, at the temperature) and accuracy of the samples, from the same forward passes. */
  readonly meanLoss: number;
  readonly accuracy: number;
}

function check(view: DatasetView, options: FisherOptions): void {
  checkChoice("labels", options.labels ?? "empirical", FISHER_LABELS);
  checkChoice("gradient", options.gradient ?? "per-sample", FISHER_GRADIENTS);
  if (view.indices.length === 0) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      "Expected at least one sample for the Fisher but received none",
    );
  }
}

/** The view's samples once each, in file order: sums do not depend on order, batch-mean is defined by it. */
function inFileOrder(view: DatasetView): DatasetView {
  const indices = view.indices.slice().sort();
  const repeated = indices.findIndex((index, i) => i > 0 && indices[i - 1] === index);
  if (repeated >= 0) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected each sample once for the Fisher but received sample ${indices[repeated]} twice`,
    );
  }
  return subset(view.dataset, indices);
}

function rounded(
  sums: Readonly<Record<string, Float64Array>>,
  names: readonly string[],
): Map<string, Float32Array> {
  return new Map(names.map((name) => [name, Float32Array.from(sums[name] as Float64Array)]));
}

/**
 * The diagonal Fisher of the network over the view's samples: per parameter Σ_n (∂ℓ_n/∂θ)², batch norm on its running
 * statistics. Sums grow in f64 and are stored in f32.
 *
 * @param datasetDigest of `datasetDigest(view.dataset)`, recorded in the store
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT`; `ERR_FM_STATE` for `mode: "training"`; `ERR_FM_NON_FINITE` naming the
 * sample or tensor; `ERR_FM_ABORTED`
 */
export async function computeFisher(
  graph: Graph,
  network: EngineNetwork,
  view: DatasetView,
  datasetDigest: string,
  options: FisherOptions,
): Promise<FisherResult> {
  check(view, options);
  const started = performance.now();
  const { labels = "empirical", gradient = "per-sample", temperature = 1, seed = 0 } = options;
  const { perToken = false } = options;
  const pass = network.fisherPass({
    labels,
    gradient,
    temperature,
    seed,
    perToken,
    gradientSums: options.gradientSums ?? false,
    generic: options.generic ?? false,
    training: options.mode === "training",
  });
  const ordered = inFileOrder(view);
  const total = ordered.indices.length;
  let seen = 0;
  // One batch computes while the next is prepared.
  let running: Promise<void> = Promise.resolve();
  for (const batch of batches(ordered, { batchSize: options.batchSize })) {
    await running;
    options.onProgress?.(seen, total);
    throwIfAborted(options.signal);
    const { normalization } = options;
    running = pass.step(
      { data: batch.data, count: batch.count, normalization },
      batch.labels,
      seen,
    );
    seen += batch.count;
  }
  await running;
  options.onProgress?.(seen, total);
  const result = await pass.finish();
  const parameters = graph.parameters.filter((parameter) => parameter.role !== "buffer");
  const names = parameters.map((parameter) => parameter.name);
  const all = await network.getParameters(graph.parameters.map((parameter) => parameter.name));
  const store: FisherStore = {
    meta: {
      labels,
      gradient,
      temperature,
      reduction: perToken ? "per-token" : "sum",
      seed,
      modelDigest: weightsDigest(all),
      datasetDigest,
      batchSize: gradient === "batch-mean" ? options.batchSize : null,
      precision: network.deviceDetails.precision ?? "f32",
    },
    ids: ordered.indices,
    terms: result.terms,
    squares: rounded(result.squares, names),
    gradients: result.gradients === null ? null : rounded(result.gradients, names),
    shapes: new Map(parameters.map((parameter) => [parameter.name, parameter.shape])),
  };
  return {
    store,
    seconds: (performance.now() - started) / 1000,
    meanLoss: result.lossSum / total,
    accuracy: result.correct / total,
  };
}
