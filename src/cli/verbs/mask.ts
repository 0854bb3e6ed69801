import type { Command } from "commander";
import { datasetDigest, isTokens } from "../../data/dataset.js";
import { saveModel } from "../../model/model.js";
import { FishermaskError } from "../../native/errors.js";
import { weightsDigest } from "../../unlearn/fisher-store.js";
import { countByTensor, type MaskRule, type MaskSet, maskNetwork } from "../../unlearn/mask.js";
import { saveMasks } from "../../unlearn/mask-file.js";
import { maskOnDisk } from "../../unlearn/mask-stream.js";
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
  readonly stream: boolean;
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

/** What came out, whichever way it was masked. */
interface Masked {
  readonly masks: MaskSet;
  readonly units: number;
  readonly total: number;
  readonly modelDigest: string;
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  /** Of `--stream` alone. */
  readonly stream?: Readonly<Record<string, number>>;
}

function ruleOf(options: Options): MaskRule {
  const { include, exclude, excludeHead, seed, threads } = options;
  return {
    criterion: options.criterion ?? "ratio",
    criterionOptions: criterionOptions(options),
    unit: options.unit ?? "weight",
    scope: options.scope ?? "global",
    ...{ include, exclude, excludeHead, seed, threads },
  };
}

async function maskInMemory(session: Session, options: Options, ratio: number): Promise<Masked> {
  await checkDestination(options.writeModel);
  const { dataset } = await openData(session, options, "train");
  const model = await openNetwork(options, dataset);
  const modelDigest = weightsDigest(model.weights);
  const { forget, remain } = await storedFishers(options);
  checkStores({ forget, remain }, modelDigest, await datasetDigest(dataset));
  session.stage("Score, select and mask", null);
  const { graph, weights } = model;
  const rule = ruleOf(options);
  const { signal } = session;
  const done = await maskNetwork(graph, weights, forget, remain, rule, { ratio }, { signal });
  if (options.writeModel !== undefined) await saveModel(model, done.weights, options.writeModel);
  const shapes = new Map(graph.parameters.map(({ name, shape }) => [name, shape]));
  return { ...done, modelDigest, shapes };
}

async function maskStream(session: Session, options: Options, ratio: number): Promise<Masked> {
  const { model, arch, writeModel, fisherForget, fisherRemain, fisherAll } = options;
  if (model === undefined || writeModel === undefined) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      "Expected --write-model PATH with --stream, which masks from disk to disk, but received none",
    );
  }
  const { dataset } = await openData(session, options, "train");
  session.stage("Score, select and mask on disk", 1000);
  const done = await maskOnDisk({
    ...{ model, arch, fisherForget, fisherRemain, fisherAll, ratio },
    ...(isTokens(dataset) ? {} : { inputShape: dataset.shape, classes: dataset.classes.length }),
    destination: writeModel,
    rule: ruleOf(options),
    datasetDigest: await datasetDigest(dataset),
    signal: session.signal,
    onProgress: (share) => session.report(Math.round(share * 1000)),
  });
  const { seconds, bytesRead, bytesWritten, passes } = done;
  const gigabytesPerSecond = (bytesRead + bytesWritten) / 1e9 / seconds;
  return { ...done, stream: { seconds, bytesRead, bytesWritten, gigabytesPerSecond, passes } };
}

async function run(options: Options): Promise<void> {
  const session = new Session(options);
  const { ratio, out, writeModel } = options;
  if (ratio === undefined) {
    throw new FishermaskError("ERR_FM_ARGUMENT", "Expected --ratio X but received none");
  }
  await checkDestination(out);
  const masked = await (options.stream ? maskStream : maskInMemory)(session, options, ratio);
  const { unit, scope, criterion } = ruleOf(options);
  const { masks, modelDigest, shapes, stream } = masked;
  if (out !== undefined) {
    await saveMasks(masks, { unit, scope, criterion, k: masked.units, modelDigest, shapes }, out);
  }
  const counts = countByTensor(masks);
  const table = formatTable(Object.entries(counts.perTensor), [
    { header: "tensor", value: ([name]) => name },
    { header: "masked", align: "right", value: ([, count]) => `${count}` },
    { header: "of", align: "right", value: ([name]) => `${counts.perTensorTotal[name] ?? 0}` },
  ]);
  const notes = [
    ...(stream === undefined
      ? []
      : [`; ${formatRate(stream)} in ${(stream["seconds"] ?? 0).toFixed(2)} s`]),
    ...(out === undefined && writeModel === undefined
      ? [". Nothing was written: give --out or --write-model"]
      : []),
  ];
  session.finish(
    {
      schemaVersion: 1,
      masked: { units: counts.units, total: counts.total, perTensor: counts.perTensor },
      criterion,
      unit,
      scope,
      ratio,
      out: out ?? null,
      model: writeModel ?? null,
      ...(stream === undefined ? {} : { stream }),
    },
    `${table}\n\n${counts.units} of ${counts.total} units masked (${formatPercent(counts.units / counts.total, 3)})${notes.join("")}`,
  );
}

function formatRate(stream: Readonly<Record<string, number>>): string {
  return `${(stream["gigabytesPerSecond"] ?? 0).toFixed(2)} GB/s`;
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
    .option("--write-model <PATH>", "where the masked network goes")
    .option("--stream", "from disk to disk, for networks larger than memory", false)
    .action(run);
}
