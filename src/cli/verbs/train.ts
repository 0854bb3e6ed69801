import type { Command } from "commander";
import { Option } from "commander";
import { imagesOf } from "../../data/dataset.js";
import { evaluate } from "../../evaluate/accuracy.js";
import { architectures } from "../../model/architectures.js";
import { createModel, readWeights, saveModel } from "../../model/model.js";
import { train } from "../../train/train.js";
import { checkDestination } from "../destination.js";
import {
  addData,
  addDevice,
  atLeastZero,
  type DeviceOptions,
  type ModelDataOptions,
  realNumber,
  wholeNumber,
} from "../options.js";
import { loadForRun, openData, Session } from "../session.js";
import { formatPercent } from "../table.js";

interface Options extends ModelDataOptions, DeviceOptions {
  readonly arch: string;
  readonly epochs: number;
  readonly learningRate: number;
  readonly optimizer: "sgd" | "adamw";
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly weightDecay: number;
  readonly crop: number;
  readonly flip: boolean;
  readonly out: string;
}

async function run(options: Options): Promise<void> {
  const session = new Session(options);
  await checkDestination(options.out);
  const { dataset: data, view, normalization } = await openData(session, options, "train");
  const dataset = imagesOf(data, "training a network anew");
  const held = await openData(session, options, "test");
  const model = createModel(
    { arch: options.arch, inputShape: dataset.shape, classes: dataset.classes.length },
    options.seed,
  );
  using network = await loadForRun(session, model, options);
  session.stage("Train", options.epochs * view.indices.length);
  const { momentum, nesterov, weightDecay } = options;
  const epochs = await train(network, view, {
    epochs: options.epochs,
    batchSize: options.batch,
    optimizer:
      options.optimizer === "sgd"
        ? { kind: "sgd", momentum, nesterov, weightDecay }
        : { kind: "adamw", weightDecay },
    learningRate: options.learningRate,
    schedule: { kind: "cosine" },
    augment:
      options.crop > 0 || options.flip ? { crop: options.crop, flip: options.flip } : undefined,
    normalization,
    seed: options.seed,
    signal: session.signal,
    onProgress: session.report,
    onEpoch: (epoch) =>
      session.message(
        `epoch ${epoch.epoch}: loss ${epoch.loss.toFixed(4)}, accuracy ${formatPercent(epoch.accuracy)}, ${epoch.seconds.toFixed(1)} s`,
      ),
  });
  session.stage("Test", held.view.indices.length);
  const tested = await evaluate(network, held.view, {
    batchSize: options.batch,
    normalization,
    signal: session.signal,
    onProgress: session.report,
  });
  await saveModel(model, await readWeights(model.graph, network), options.out);
  const accuracy = tested.correct / tested.total;
  session.finish(
    {
      schemaVersion: 1,
      arch: options.arch,
      epochs,
      test: { correct: tested.correct, total: tested.total, accuracy },
      out: options.out,
    },
    `${options.arch}: ${formatPercent(accuracy, 2)} on ${tested.total} test samples → ${options.out}`,
  );
}

export function register(program: Command): void {
  const command = program
    .command("train")
    .description("train a network from fresh weights")
    .addOption(
      new Option("--arch <NAME>", "the architecture")
        .choices([...architectures.keys()])
        .makeOptionMandatory(),
    )
    .requiredOption("--out <FILE>", "where the network goes, .safetensors");
  addDevice(addData(command))
    .option("--epochs <N>", "passes over the data", wholeNumber(1), 30)
    .option(
      "--learning-rate <X>",
      "the peak; falls along a cosine",
      realNumber("--learning-rate", atLeastZero, "a number from 0"),
      0.1,
    )
    .addOption(
      new Option("--optimizer <NAME>", "sgd or adamw").choices(["sgd", "adamw"]).default("sgd"),
    )
    .option(
      "--momentum <X>",
      "of SGD",
      realNumber("--momentum", (v) => v >= 0 && v < 1, "a number in [0, 1)"),
      0.9,
    )
    .option("--nesterov", "Nesterov's momentum", false)
    .option(
      "--weight-decay <X>",
      "L2 for SGD, decoupled for AdamW",
      realNumber("--weight-decay", atLeastZero, "a number from 0"),
      5e-4,
    )
    .option("--crop <N>", "random crops after padding by N pixels", wholeNumber(0), 0)
    .option("--flip", "random horizontal flips", false)
    .action(run);
}
