import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { imagesOf, wholeView } from "../../data/dataset.js";
import { parseNormalization } from "../../data/normalize.js";
import { loadDataset } from "../../data/source.js";
import { splitForget } from "../../data/split.js";
import type { RunMetrics } from "../../evaluate/run-metrics.js";
import { createModel, type Model, readWeights } from "../../model/model.js";
import { train } from "../../train/train.js";
import { type FineTuneConfig, resolveConfig } from "../../unlearn/config.js";
import { presets } from "../../unlearn/presets.gen.js";
import { prepareRunDirectory, writeRun } from "../../unlearn/run-directory.js";
import { type UnlearnRequest, type UnlearnResult, unlearn } from "../../unlearn/unlearn.js";
import { addDevice, type DeviceOptions } from "../options.js";
import { loadForRun, Session } from "../session.js";
import { formatPercent, formatSeconds } from "../table.js";
import { resultTable } from "./unlearn.js";

interface Options extends DeviceOptions {
  readonly out: string;
  readonly forgetClass: string;
}

const ARCH = "lenet";
const BATCH = 64;
const NORMALIZATION = "0.2860/0.3530";

/** The recipe of the original network; the retrained one is made the same way without the forget set. */
const RECIPE: FineTuneConfig = {
  epochs: 15,
  learningRate: 0.05,
  batchSize: BATCH,
  optimizer: "sgd",
  momentum: 0.9,
  weightDecay: 5e-4,
  schedule: { kind: "cosine" },
  crop: 0,
  flip: true,
  samples: null,
};

/** A short repair on a tenth of the remain set. */
const REPAIR: FineTuneConfig = {
  ...RECIPE,
  epochs: 2,
  learningRate: 0.01,
  samples: 540,
  flip: false,
};

async function original(
  session: Session,
  request: Omit<UnlearnRequest, "model">,
  options: Options,
): Promise<Model> {
  const { normalization } = request;
  const data = imagesOf(request.train, "the demo");
  const fresh = createModel(
    { arch: ARCH, inputShape: data.shape, classes: data.classes.length },
    options.seed,
  );
  using network = await loadForRun(session, fresh, options);
  const view = wholeView(data);
  session.stage("Train the original network", RECIPE.epochs * data.size);
  await train(network, view, {
    ...RECIPE,
    optimizer: { kind: "sgd", momentum: RECIPE.momentum, weightDecay: RECIPE.weightDecay },
    augment: { crop: 0, flip: true },
    normalization,
    seed: options.seed,
    signal: session.signal,
    onProgress: session.report,
  });
  return { ...fresh, weights: await readWeights(fresh.graph, network) };
}

function withRetrained(result: UnlearnResult, retrained: UnlearnResult): UnlearnResult {
  const metrics: RunMetrics = { ...result.metrics, retrained: retrained.metrics.after };
  return { ...result, metrics };
}

async function run(options: Options): Promise<void> {
  const session = new Session(options);
  const started = performance.now();
  const source = `idx:${fileURLToPath(new URL("../../../examples/data/fashion-mnist", import.meta.url))}`;
  const data = await loadDataset(source, { split: "train" });
  const test = await loadDataset(source, { split: "test" });
  const split = await splitForget(`class:${options.forgetClass}`, data, { seed: options.seed });
  const label = data.labels[split.forget[0] as number] as number;
  await prepareRunDirectory(options.out);
  const config = resolveConfig(presets.default, {
    fineTune: REPAIR,
    seed: options.seed,
    fisher: { batchSize: BATCH },
  });
  const base = {
    train: data,
    test,
    split,
    normalization: parseNormalization(NORMALIZATION, 1),
    config,
    preset: "default",
    source: "Fashion-MNIST, the first 600 training and 200 test images of each class",
    forgetClasses: [label],
    threads: options.threads,
    device: options.device,
    precision: options.precision,
    reporter: session.reporter(),
    signal: session.signal,
  };
  const model = await original(session, base, options);
  const masked = await unlearn({ ...base, model });
  const retrained = await unlearn({
    ...base,
    model,
    config: { ...config, method: "retrain", fineTune: RECIPE },
    preset: null,
  });
  session.endStage();
  const result = withRetrained(masked, retrained);
  const { metrics } = result;
  // Loaded when it is needed: its plotting libraries would take most of the start-up of every verb.
  const { renderReport } = await import("../../report/report.js");
  await writeRun(options.out, model, result, renderReport(metrics, result.samples));
  for (const warning of metrics.warnings) session.progress.warning(warning);
  const { units, total } = metrics.masked;
  const seconds = (performance.now() - started) / 1000;
  session.finish(
    { ...metrics, out: options.out, seconds },
    `Forgetting "${data.classes[label]}" in a ${ARCH} trained on ${data.size} Fashion-MNIST images:\n\n` +
      `${resultTable(metrics)}\n\n${units} of ${total} candidate weights masked (${formatPercent(units / total, 2)}). ` +
      `All of it took ${formatSeconds(seconds)}.\nReport: ${join(options.out, "report.html")}`,
  );
}

export function register(program: Command): void {
  const command = program
    .command("demo")
    .description(
      "train a small network on Fashion-MNIST, make it forget a class, compare with retraining",
    )
    .option("--forget-class <NAME>", "the class to forget", "Trouser")
    .option("--out <DIR>", "the run directory", "demo-run");
  addDevice(command).action(run);
}
