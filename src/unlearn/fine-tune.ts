import { subset } from "../data/dataset.js";
import type { EpochMetrics } from "../evaluate/run-metrics.js";
import { train } from "../train/train.js";
import type { FineTuneConfig } from "./config.js";
import type { MethodContext } from "./method.js";
import { drawStratified } from "./sampling.js";

/** Trains the context's network on remain samples as `settings` say. `hold`: weights to keep at exactly 0. */
export function fineTune(
  context: MethodContext,
  settings: FineTuneConfig,
  name: string,
  hold?: ReadonlyMap<string, Uint8Array>,
): Promise<EpochMetrics[]> {
  const { config, network, reporter, signal, normalization } = context;
  const indices = drawStratified(context.train, context.remain, settings.samples, config.seed, 0);
  reporter.stage(name, settings.epochs * indices.length);
  return train(network, subset(context.train, indices), {
    epochs: settings.epochs,
    batchSize: settings.batchSize,
    optimizer:
      settings.optimizer === "sgd"
        ? { kind: "sgd", momentum: settings.momentum, weightDecay: settings.weightDecay }
        : { kind: "adamw", weightDecay: settings.weightDecay },
    learningRate: settings.learningRate,
    schedule: settings.schedule,
    augment:
      settings.crop > 0 || settings.flip ? { crop: settings.crop, flip: settings.flip } : undefined,
    normalization,
    seed: config.seed,
    hold,
    signal,
    onProgress: (done) => reporter.progress(done),
  });
}
