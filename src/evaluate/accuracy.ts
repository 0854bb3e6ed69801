import { batches } from "../data/batches.js";
import type { DatasetView } from "../data/dataset.js";
import { throwIfAborted } from "../native/errors.js";
import type { EngineNetwork, InputNormalization } from "../native/network.js";

export interface EvaluateOptions {
  readonly batchSize: number;
  readonly normalization: InputNormalization;
  /** A value of the graph to collect for every sample, e.g. the features. */
  readonly keep?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((samples: number, total: number) => void) | undefined;
}

/** What a network makes of some samples. */
export interface Evaluation {
  readonly total: number;
  readonly correct: number;
  /** Mean cross-entropy, nats per sample; NaN for no sample. */
  readonly meanLoss: number;
  /** By class: samples, and how many of them right. */
  readonly perClass: readonly { readonly correct: number; readonly total: number }[];
  /** (total,) in the view's order. */
  readonly predictions: Int32Array;
  readonly losses: Float64Array;
  /** (total, width) of the kept value; empty without `keep`. */
  readonly features: Float32Array;
}

/**
 * Runs the network in evaluation mode over a view, in its order.
 *
 * @throws {@link FishermaskError} `ERR_FM_NON_FINITE` when a loss is, `ERR_FM_SHAPE`, `ERR_FM_ABORTED`
 */
export async function evaluate(
  network: EngineNetwork,
  view: DatasetView,
  options: EvaluateOptions,
): Promise<Evaluation> {
  const total = view.indices.length;
  const predictions = new Int32Array(total);
  const losses = new Float64Array(total);
  const perClass = view.dataset.classes.map(() => ({ correct: 0, total: 0 }));
  const features: Float32Array[] = [];
  const { keep, normalization } = options;
  let seen = 0;
  for (const batch of batches(view, { batchSize: options.batchSize })) {
    throwIfAborted(options.signal);
    const result = await network.evaluate(
      { data: batch.images, count: batch.count, normalization },
      batch.labels,
      keep === undefined ? {} : { keep: [keep] },
    );
    predictions.set(result.predictions, seen);
    losses.set(result.losses, seen);
    if (keep !== undefined) features.push(result.values[keep] as Float32Array);
    for (const [i, label] of batch.labels.entries()) {
      const counts = perClass[label];
      if (counts === undefined) continue;
      counts.total += 1;
      if (result.predictions[i] === label) counts.correct += 1;
    }
    seen += batch.count;
    options.onProgress?.(seen, total);
  }
  const correct = perClass.reduce((sum, counts) => sum + counts.correct, 0);
  const meanLoss = losses.reduce((sum, loss) => sum + loss, 0) / total;
  return { total, correct, meanLoss, perClass, predictions, losses, features: joined(features) };
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
