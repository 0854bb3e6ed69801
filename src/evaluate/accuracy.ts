import { batches } from "../data/batches.js";
import { type DatasetView, positionsOf } from "../data/dataset.js";
import { throwIfAborted } from "../native/errors.js";
import type { EngineNetwork, InputNormalization } from "../native/network.js";

export interface EvaluateOptions {
  readonly batchSize: number;
  /** Of images; none for token sequences. */
  readonly normalization: InputNormalization | undefined;
  /** A value of the graph to collect for every sample, e.g. the features. */
  readonly keep?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((samples: number, total: number) => void) | undefined;
}

/** What a network makes of some samples. */
export interface Evaluation {
  /** Predictions that count: samples, or of sequences the places whose next token counts. */
  readonly total: number;
  readonly correct: number;
  /** Mean cross-entropy, nats per sample; NaN for no sample. */
  readonly meanLoss: number;
  /** By class: samples, and how many of them right. Empty for sequences. */
  readonly perClass: readonly { readonly correct: number; readonly total: number }[];
  /** (samples,) or (samples, T), in the view's order. */
  readonly predictions: Int32Array;
  /** (samples,): predictions that count, and those of them that are right. */
  readonly counted: Int32Array;
  readonly right: Int32Array;
  /** (samples,) */
  readonly losses: Float64Array;
  /** (samples, width) of the kept value; empty without `keep`. */
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
  const samples = view.indices.length;
  const positions = positionsOf(view.dataset);
  const predictions = new Int32Array(samples * positions);
  const losses = new Float64Array(samples);
  const counted = new Int32Array(samples);
  const right = new Int32Array(samples);
  const perClass = view.dataset.classes.map(() => ({ correct: 0, total: 0 }));
  const features: Float32Array[] = [];
  const { keep, normalization } = options;
  let seen = 0;
  for (const batch of batches(view, { batchSize: options.batchSize })) {
    throwIfAborted(options.signal);
    const result = await network.evaluate(
      { data: batch.data, count: batch.count, normalization },
      batch.labels,
      keep === undefined ? {} : { keep: [keep] },
    );
    predictions.set(result.predictions, seen * positions);
    losses.set(result.losses, seen);
    if (keep !== undefined) features.push(result.values[keep] as Float32Array);
    for (const [i, label] of batch.labels.entries()) {
      if (label < 0) continue;
      const sample = seen + Math.floor(i / positions);
      const isRight = result.predictions[i] === label ? 1 : 0;
      counted[sample] = (counted[sample] as number) + 1;
      right[sample] = (right[sample] as number) + isRight;
      const counts = perClass[label];
      if (counts === undefined) continue;
      counts.total += 1;
      counts.correct += isRight;
    }
    seen += batch.count;
    options.onProgress?.(seen, samples);
  }
  return {
    total: sum(counted),
    correct: sum(right),
    meanLoss: sum(losses) / samples,
    perClass,
    predictions,
    counted,
    right,
    losses,
    features: joined(features),
  };
}

function sum(values: Int32Array | Float64Array): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
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
