import { batches } from "../data/batches.js";
import type { DatasetView } from "../data/dataset.js";
import type { NativeOptimizerOptions } from "../native/addon.js";
import { FishermaskError, throwIfAborted } from "../native/errors.js";
import type { EngineNetwork, InputNormalization } from "../native/network.js";
import { learningRateAt, type Schedule } from "./schedule.js";

export interface TrainOptions {
  readonly epochs: number;
  readonly batchSize: number;
  readonly optimizer: NativeOptimizerOptions;
  readonly learningRate: number;
  readonly schedule: Schedule;
  readonly warmupEpochs?: number | undefined;
  /** Random crops after zero padding of so many pixels, and horizontal flips. */
  readonly augment?: { readonly crop: number; readonly flip: boolean } | undefined;
  /** Of images; none for token sequences. */
  readonly normalization: InputNormalization | undefined;
  readonly seed: number;
  /** Weights to hold at exactly 0: one bit per weight, 0 = held. */
  readonly hold?: ReadonlyMap<string, Uint8Array> | undefined;
  /** Stops before the next batch once it has fired. */
  readonly signal?: AbortSignal | undefined;
  /** After each batch: samples seen so far, of all epochs. */
  readonly onProgress?: ((samples: number, total: number) => void) | undefined;
  readonly onEpoch?: ((epoch: TrainedEpoch) => void) | undefined;
}

/** Mean loss (nats) and accuracy of an epoch's batches, each measured before its own step. */
export interface TrainedEpoch {
  readonly epoch: number;
  readonly loss: number;
  readonly accuracy: number;
  readonly learningRate: number;
  readonly seconds: number;
}

function check(options: TrainOptions, view: DatasetView): void {
  if (!(Number.isInteger(options.epochs) && options.epochs >= 0)) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected a whole number from 0 for epochs but received ${options.epochs}`,
    );
  }
  if (view.indices.length === 0) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      "Expected at least one sample to train on but received none",
    );
  }
}

/**
 * Trains the network in place on the mean cross-entropy. The next batch is prepared while the engine computes.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT`, `ERR_FM_CONFIG`; `ERR_FM_NON_FINITE` when loss or gradient is;
 * `ERR_FM_ABORTED` once the signal has fired, before the next batch: the network then holds the last step's weights
 */
export async function train(
  network: EngineNetwork,
  view: DatasetView,
  options: TrainOptions,
): Promise<TrainedEpoch[]> {
  check(options, view);
  const { epochs, seed, signal, normalization } = options;
  const trainer = network.trainer({ ...options.optimizer, seed });
  if (options.hold !== undefined) await trainer.hold(options.hold);
  const samples = view.indices.length;
  const history: TrainedEpoch[] = [];
  for (let epoch = 0; epoch < epochs; epoch++) {
    const started = performance.now();
    const augment = options.augment && { ...options.augment, seed, epoch };
    let seen = 0;
    let loss = 0;
    let correct = 0;
    let learningRate = 0;
    let running: ReturnType<typeof trainer.step> | undefined;
    const settle = async (): Promise<void> => {
      const result = await running;
      if (result === undefined) return;
      for (const value of result.losses) loss += value;
      correct += result.correct;
      seen += result.losses.length;
      options.onProgress?.(epoch * samples + seen, epochs * samples);
    };
    let prepared = 0;
    for (const batch of batches(view, {
      batchSize: options.batchSize,
      shuffle: { seed, epoch },
      augment,
    })) {
      await settle();
      running = undefined;
      throwIfAborted(signal);
      learningRate = learningRateAt(options, epoch + prepared / samples, epochs);
      prepared += batch.count;
      running = trainer.step(
        { data: batch.data, count: batch.count, normalization },
        batch.labels,
        { learningRate },
      );
    }
    await settle();
    const seconds = (performance.now() - started) / 1000;
    const done = {
      epoch: epoch + 1,
      loss: loss / seen,
      accuracy: correct / seen,
      learningRate,
      seconds,
    };
    history.push(done);
    options.onEpoch?.(done);
  }
  return history;
}
