import type { Command } from "commander";
import { datasetDigest } from "../../data/dataset.js";
import { saveModel } from "../../model/model.js";
import { FishermaskError } from "../../native/errors.js";
import type { Scope, Unit } from "../../native/masking.js";
import type { CriterionName } from "../../unlearn/criteria.gen.js";
import { weightsDigest } from "../../unlearn/fisher-store.js";
import { countByTensor, maskWeights, scoreNetwork, selectMask } from "../../unlearn/mask.js";
import { saveMasks } from "../../unlearn/mask-file.js";
import { checkDestination } from "../destination.js";
import { addCommon, addData, addMasking, addModel, type ModelDataOptions } from "../options.js";
import { openData, openNetwork, Session } from "../session.js";
import { formatPercent, formatTable } from "../table.js";
import {
  criterionOptions,
  type MaskingOptions,
  type StoredFisherOptions,
  type StoredFishers,
  storedFishers,
} from "./unlearn-options.js";

interface Options extends ModelDataOptions, MaskingOptions, StoredFisherOptions {
  readonly excludeHead: boolean;
  readonly out?: string;
  readonly writeModel?: string;
}

function checkStores(all: StoredFishers, modelDigest: string, dataDigest: string): void {
  for (const [name, store] of Object.entries(all)) {
    if (store === null) continue;
    if (store.meta.modelDigest !== modelDigest) {
      throw new FishermaskError(
        "ERR_FM_MISMATCH",
        `Expected the ${name} Fisher of this network but received one of other weights`,
      );
    }
    if (store.meta.datasetDigest !== dataDigest) {
      throw new FishermaskError(
        "ERR_FM_MISMATCH",
        `Expected the ${name} Fisher of these data but received one of others`,
      );
    }
  }
}

async function run(options: Options): Promise<void> {
  const session = new Session(options);
  if (options.ratio === undefined) {
    throw new FishermaskError("ERR_FM_ARGUMENT", "Expected --ratio X but received none");
  }
  await checkDestination(options.out);
  await checkDestination(options.writeModel);
  const { dataset } = await openData(session, options, "train");
  const model = await openNetwork(options, dataset);
  const fishers = await storedFishers(options);
  checkStores(fishers, weightsDigest(model.weights), await datasetDigest(dataset));
  session.stage("Score and select", null);
  const unit: Unit = options.unit ?? "weight";
  const scope: Scope = options.scope ?? "global";
  const criterion: CriterionName = options.criterion ?? "ratio";
  const scores = await scoreNetwork(model.graph, model.weights, fishers.forget, fishers.remain, {
    criterion,
    criterionOptions: criterionOptions(options),
    unit,
    scope,
    include: options.include,
    exclude: options.exclude,
    excludeHead: options.excludeHead,
    seed: options.seed,
    threads: options.threads,
  });
  const selection = await selectMask(scores, { ratio: options.ratio });
  const counts = countByTensor(selection.masks);
  if (options.out !== undefined) {
    await saveMasks(
      selection.masks,
      {
        unit,
        scope,
        criterion,
        k: selection.units,
        modelDigest: weightsDigest(model.weights),
        shapes: new Map(model.graph.parameters.map(({ name, shape }) => [name, shape])),
      },
      options.out,
    );
  }
  if (options.writeModel !== undefined) {
    await saveModel(model, maskWeights(model.weights, selection.masks), options.writeModel);
  }
  const rows = Object.entries(counts.perTensor);
  const table = formatTable(rows, [
    { header: "tensor", value: ([name]) => name },
    { header: "masked", align: "right", value: ([, masked]) => `${masked}` },
    { header: "of", align: "right", value: ([name]) => `${counts.perTensorTotal[name] ?? 0}` },
  ]);
  const nothing =
    options.out === undefined && options.writeModel === undefined
      ? ". Nothing was written: give --out or --write-model"
      : "";
  session.finish(
    {
      schemaVersion: 1,
      masked: { units: counts.units, total: counts.total, perTensor: counts.perTensor },
      criterion,
      unit,
      scope,
      ratio: options.ratio,
      out: options.out ?? null,
      model: options.writeModel ?? null,
    },
    `${table}\n\n${counts.units} of ${counts.total} units masked (${formatPercent(counts.units / counts.total, 3)})${nothing}`,
  );
}

export function register(program: Command): void {
  const command = program
    .command("mask")
    .description("score units by stored Fishers and mask the top share");
  addCommon(addMasking(addData(addModel(command))))
    .option("--fisher-forget <FILE>", "the Fisher of the forget set")
    .option("--fisher-remain <FILE>", "the Fisher of the remain set")
    .option("--fisher-all <FILE>", "the Fisher of all data: the forget set's is subtracted")
    .option("--exclude-head", "leave the classifier head alone", false)
    .option("--out <FILE>", "where the keep-mask goes, .safetensors")
    .option("--write-model <FILE>", "where the masked network goes")
    .action(run);
}
