import type { Command } from "commander";
import { datasetDigest } from "../../data/dataset.js";
import { computeFisher } from "../../unlearn/fisher.js";
import { type FisherGradient, type FisherLabels, saveFisher } from "../../unlearn/fisher-store.js";
import { checkDestination } from "../destination.js";
import {
  addData,
  addDevice,
  addFisher,
  addModel,
  type DeviceOptions,
  type ModelDataOptions,
} from "../options.js";
import { loadForRun, openData, openNetwork, Session } from "../session.js";
import { addSubset, chooseSubset } from "./evaluate.js";

interface Options extends ModelDataOptions, DeviceOptions {
  readonly split: "train" | "test";
  readonly subset: "all" | "forget" | "remain";
  readonly forget?: string;
  readonly labels?: FisherLabels;
  readonly gradient?: FisherGradient;
  readonly temperature?: number;
  readonly perToken: boolean;
  readonly gradientSums: boolean;
  readonly out: string;
}

async function run(options: Options): Promise<void> {
  const session = new Session(options);
  await checkDestination(options.out);
  const { dataset, view, normalization } = await openData(session, options, options.split);
  const model = await openNetwork(options, dataset);
  const chosen = await chooseSubset(options, dataset, view);
  using network = await loadForRun(session, model, options);
  session.stage("Fisher", chosen.indices.length);
  const { store, seconds, meanLoss, accuracy } = await computeFisher(
    model.graph,
    network,
    chosen,
    await datasetDigest(dataset),
    {
      labels: options.labels,
      gradient: options.gradient,
      temperature: options.temperature,
      seed: options.seed,
      perToken: options.perToken,
      gradientSums: options.gradientSums,
      batchSize: options.batch,
      normalization,
      signal: session.signal,
      onProgress: session.report,
    },
  );
  await saveFisher(store, options.out);
  const samples = store.ids.length;
  session.finish(
    {
      schemaVersion: 1,
      samples,
      terms: store.terms,
      seconds,
      samplesPerSecond: samples / seconds,
      meanLoss,
      accuracy,
      ...store.meta,
      tensors: store.squares.size,
      out: options.out,
      device: network.device,
      threads: options.threads,
    },
    `Fisher of ${samples} samples in ${seconds.toFixed(2)} s (${(samples / seconds).toFixed(0)} samples/s) → ${options.out}`,
  );
}

export function register(program: Command): void {
  const command = program
    .command("fisher")
    .description("sum the squared per-sample gradients of every parameter, into a Fisher store");
  addDevice(addFisher(addSubset(addData(addModel(command)))))
    .requiredOption("--out <FILE>", "where the store goes, .safetensors")
    .option("--per-token", "of text: a term for each token instead of one for a sequence", false)
    .option(
      "--gradient-sums",
      "also store the summed gradients (for directional and gradient)",
      false,
    )
    .action(run);
}
