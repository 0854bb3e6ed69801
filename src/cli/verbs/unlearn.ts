import { join } from "node:path";
import { type Command, Option } from "commander";
import { findClass } from "../../data/class-names.js";
import { type Dataset, datasetDigest, firstSamples } from "../../data/dataset.js";
import { hasSplit } from "../../data/source.js";
import { type ForgetSplit, splitForget } from "../../data/split.js";
import { hasNewHead, type RunMetrics, type Snapshot } from "../../evaluate/run-metrics.js";
import { candidateTensors } from "../../model/candidates.js";
import { FishermaskError } from "../../native/errors.js";
import {
  candidateOptions,
  type FineTuneConfig,
  resolveConfig,
  type UnlearnConfig,
  type UnlearnOverrides,
} from "../../unlearn/config.js";
import type { FisherGradient, FisherLabels } from "../../unlearn/fisher-store.js";
import { methods } from "../../unlearn/methods.gen.js";
import { type PresetName, presets } from "../../unlearn/presets.gen.js";
import { prepareRunDirectory, writeRun } from "../../unlearn/run-directory.js";
import { unlearn } from "../../unlearn/unlearn.js";
import {
  addData,
  addDevice,
  addFisher,
  addMasking,
  addModel,
  atLeastZero,
  type DeviceOptions,
  type ModelDataOptions,
  positive,
  positiveShare,
  realNumber,
  unitInterval,
  wholeNumber,
} from "../options.js";
import { openData, openNetwork, Session } from "../session.js";
import { formatPercent, formatSeconds, formatTable } from "../table.js";
import {
  criterionOptions,
  type MaskingOptions,
  type StoredFisherOptions,
  storedFishers,
} from "./unlearn-options.js";

interface Options extends ModelDataOptions, DeviceOptions, MaskingOptions, StoredFisherOptions {
  readonly forget: string;
  readonly preset: PresetName;
  readonly method?: string;
  readonly labels?: FisherLabels;
  readonly gradient?: FisherGradient;
  readonly temperature?: number;
  readonly forgetSamples?: number;
  readonly remainSamples?: number;
  readonly excludeHead?: boolean;
  readonly adaptive?: boolean;
  readonly iterated?: boolean;
  readonly maxRatio?: number;
  readonly ratioPerRound?: number;
  readonly targetAccuracy?: number;
  readonly targetLoss?: number;
  /** False: `--no-refit-head`. */
  readonly refitHead?: number | false;
  readonly hold?: boolean;
  readonly fineTune?: number;
  readonly learningRate?: number;
  readonly fineTuneSamples?: number;
  readonly out: string;
  readonly dryRun: boolean;
}

/** Without the keys that are undefined: they must not cover the preset's values. */
function given<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(
    Object.entries(values).filter(([, value]) => value !== undefined),
  ) as Partial<T>;
}

const DEFAULT_RATIO_PER_ROUND = 0.002;
const DEFAULT_MAX_RATIO = 0.06;
const DEFAULT_LEARNING_RATE = 0.01;

type Selection = UnlearnConfig["selection"];

/** Options that each ask for a kind of selection of their own; rounds are the preset's kind or `--iterated`'s. */
function refuseSeveralKinds({ ratio, adaptive, iterated, ratioPerRound }: Options): void {
  const rounds = iterated ?? ratioPerRound;
  const asked = [ratio, adaptive, rounds].filter((value) => value !== undefined);
  if (asked.length <= 1) return;
  throw new FishermaskError(
    "ERR_FM_ARGUMENT",
    "Expected one of --ratio, --adaptive and rounds (--iterated, --ratio-per-round) but received several",
  );
}

function kindOf(options: Options, preset: Selection): Selection["kind"] {
  if (options.ratio !== undefined) return "fixed";
  if (options.adaptive === true) return "adaptive";
  if (options.iterated === true) return "iterated";
  const isInRounds = ["iterated", "guarded", "probed"].includes(preset.kind);
  return options.ratioPerRound !== undefined && !isInRounds ? "iterated" : preset.kind;
}

/** A kind takes what it can from a preset of the same kind; the rest has defaults of its own. */
function selectionOf(options: Options, { selection: preset }: UnlearnConfig): Selection {
  refuseSeveralKinds(options);
  const { ratio, maxRatio, ratioPerRound } = options;
  const kind = kindOf(options, preset);
  if (kind === "fixed" && maxRatio !== undefined) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      "Expected --max-ratio with --adaptive or rounds but received it with a fixed ratio",
    );
  }
  if (ratio !== undefined) return { kind: "fixed", ratio };
  const bounds = given({ maxRatio, ratioPerRound });
  if (kind === preset.kind) return { ...preset, ...bounds };
  const most = preset.kind === "iterated" ? preset.maxRatio : DEFAULT_MAX_RATIO;
  if (kind === "adaptive") return { kind, maxRatio: maxRatio ?? most };
  return {
    kind: "iterated",
    ratioPerRound: ratioPerRound ?? DEFAULT_RATIO_PER_ROUND,
    maxRatio: maxRatio ?? most,
  };
}

function fineTuneOf(options: Options): FineTuneConfig | undefined {
  if (options.fineTune === undefined) {
    const stray =
      options.fineTuneSamples !== undefined
        ? "--fine-tune-samples"
        : options.learningRate !== undefined
          ? "--learning-rate"
          : null;
    if (stray === null) return undefined;
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected --fine-tune EPOCHS with ${stray} but received none`,
    );
  }
  return {
    epochs: options.fineTune,
    learningRate: options.learningRate ?? DEFAULT_LEARNING_RATE,
    batchSize: options.batch,
    optimizer: "sgd",
    momentum: 0.9,
    weightDecay: 5e-4,
    schedule: { kind: "cosine" },
    crop: 0,
    flip: false,
    samples: options.fineTuneSamples ?? null,
  };
}

export function configOf(options: Options): UnlearnConfig {
  const preset = presets[options.preset];
  const overrides = given({
    method: options.method,
    criterion: options.criterion,
    criterionOptions: criterionOptions(options),
    unit: options.unit,
    scope: options.scope,
    include: options.include,
    exclude: options.exclude,
    excludeHead: options.excludeHead,
    selection: selectionOf(options, preset.config),
    refitHead: options.refitHead === false ? null : options.refitHead,
    hold: options.hold,
    fineTune: fineTuneOf(options),
    seed: options.seed,
    fisher: given({
      labels: options.labels,
      gradient: options.gradient,
      temperature: options.temperature,
      batchSize: options.batch,
      forgetSamples: options.forgetSamples,
      remainSamples: options.remainSamples,
    }),
    target: given({ accuracy: options.targetAccuracy, loss: options.targetLoss }),
  });
  return resolveConfig(preset, overrides as UnlearnOverrides);
}

/** The classes that `--forget class:…` names; none for other requests. */
function forgetClasses(text: string, dataset: Dataset): number[] {
  if (!text.startsWith("class:")) return [];
  return text
    .slice("class:".length)
    .split(",")
    .map((name) => findClass(dataset.classes, name.trim(), "the class to forget"));
}

/** `limit` keeps the first N samples of both sets. */
function limited(split: ForgetSplit, limit: number | undefined): ForgetSplit {
  if (limit === undefined) return split;
  const within = (indices: Int32Array): Int32Array => indices.filter((index) => index < limit);
  return { ...split, forget: within(split.forget), remain: within(split.remain) };
}

const percent = (value: number | null): string => (value === null ? "–" : formatPercent(value));

/** The table of a run: one row per network. */
export function resultTable(metrics: RunMetrics): string {
  const rows: { name: string; snapshot: Snapshot }[] = [
    { name: "before", snapshot: metrics.before },
  ];
  const afterwards = [
    ...(hasNewHead(metrics) ? ["new head"] : []),
    ...(metrics.fineTuning.length > 0 ? ["fine-tuned"] : []),
  ];
  if (afterwards.length > 0 && metrics.maskedOnly !== null)
    rows.push({ name: "masked", snapshot: metrics.maskedOnly });
  const name = metrics.masked.units === 0 ? metrics.method : ["masked", ...afterwards].join(" + ");
  rows.push({ name, snapshot: metrics.after });
  if (metrics.retrained !== null) rows.push({ name: "retrained", snapshot: metrics.retrained });
  return formatTable(rows, [
    { header: "network", value: (row) => row.name },
    { header: "forget train", align: "right", value: (row) => percent(row.snapshot.forget.train) },
    { header: "forget test", align: "right", value: (row) => percent(row.snapshot.forget.test) },
    { header: "remain train", align: "right", value: (row) => percent(row.snapshot.remain.train) },
    { header: "remain test", align: "right", value: (row) => percent(row.snapshot.remain.test) },
    {
      header: "probe, forgotten class",
      align: "right",
      value: (row) => percent(row.snapshot.probe?.forget ?? null),
    },
  ]);
}

async function plan(session: Session, options: Options, config: UnlearnConfig): Promise<void> {
  const { dataset } = await openData(session, options, "train");
  const model = await openNetwork(options, dataset);
  const split = limited(
    await splitForget(options.forget, dataset, { seed: options.seed }),
    options.limit,
  );
  const candidates = candidateTensors(model.graph, candidateOptions(config));
  session.finish(
    {
      schemaVersion: 1,
      dryRun: true,
      forget: split.forget.length,
      remain: split.remain.length,
      candidates: candidates.map(({ name }) => name),
      config,
    },
    `Would forget ${split.description}: ${split.forget.length} samples, keep ${split.remain.length}; ` +
      `candidates: ${candidates.length} tensors.\n${JSON.stringify(config, null, 2)}`,
  );
}

async function run(options: Options): Promise<void> {
  const session = new Session(options);
  const config = configOf(options);
  if (options.dryRun) return plan(session, options, config);
  const { dataset: train, normalization } = await openData(session, options, "train");
  const test = hasSplit(options.data, "test")
    ? (await openData(session, options, "test")).dataset
    : null;
  const model = await openNetwork(options, train);
  const split = limited(
    await splitForget(options.forget, train, { seed: options.seed }),
    options.limit,
  );
  const stored = await storedFishers(options);
  await prepareRunDirectory(options.out, model);
  const result = await unlearn({
    model,
    train: options.limit === undefined ? train : firstSamples(train, options.limit),
    // As the verb `fisher` names it: sample ids are those of the whole split.
    trainDigest: await datasetDigest(train),
    test,
    split,
    normalization,
    config,
    preset: options.preset,
    source: options.data,
    forgetClasses: forgetClasses(options.forget, train),
    stored,
    threads: options.threads,
    device: options.device,
    precision: options.precision,
    reporter: session.reporter(),
    signal: session.signal,
  });
  session.endStage();
  const { metrics } = result;
  // Loaded when it is needed: its plotting libraries would take most of the start-up of every verb.
  const { renderReport } = await import("../../report/report.js");
  await writeRun(options.out, model, result, renderReport(metrics, result.samples));
  for (const warning of metrics.warnings) session.progress.warning(warning);
  const { units, total } = metrics.masked;
  const seconds = metrics.stages.reduce((sum, stage) => sum + stage.seconds, 0);
  session.finish(
    { ...metrics, out: options.out },
    `${resultTable(metrics)}\n\n${units} of ${total} candidate units masked (${formatPercent(total === 0 ? 0 : units / total, 3)}) ` +
      `in ${formatSeconds(seconds)}. Report: ${join(options.out, "report.html")}`,
  );
}

export function register(program: Command): void {
  const command = program
    .command("unlearn")
    .description("make a network forget: Fisher, score, mask, fine-tune if asked, measure, write")
    .requiredOption(
      "--forget <WHAT>",
      "class:3, class:cat, ids:FILE, random:0.1, mislabelled:FILE or match:TEXT",
    )
    .addOption(
      new Option("--preset <NAME>", "where all settings start from")
        .choices(Object.keys(presets))
        .default("default"),
    )
    .addOption(
      new Option("--method <NAME>", "how").choices(Object.values(methods).map(({ name }) => name)),
    )
    .requiredOption("--out <DIR>", "the run directory");
  addDevice(addMasking(addFisher(addData(addModel(command)))))
    .option("--fisher-forget <FILE>", "a stored Fisher of the forget set")
    .option("--fisher-remain <FILE>", "a stored Fisher of the remain set")
    .option("--fisher-all <FILE>", "a stored Fisher of all data; the forget set's is subtracted")
    .option("--forget-samples <N>", "samples of the forget set that a Fisher takes", wholeNumber(1))
    .option("--remain-samples <N>", "samples of the remain set that a Fisher takes", wholeNumber(1))
    .option("--exclude-head", "leave the classifier head alone")
    .option("--no-exclude-head", "let the classifier head be masked")
    .option("--adaptive", "the smallest ratio that reaches the target")
    .option("--iterated", "in rounds until the target is reached, whatever it costs the rest")
    .option(
      "--ratio-per-round <X>",
      "the share, with guarded rounds the most, that a round masks",
      realNumber("--ratio-per-round", positive, "a number above 0"),
    )
    .option(
      "--max-ratio <X>",
      "the most to mask with --adaptive or rounds",
      realNumber("--max-ratio", unitInterval, "a number from 0 to 1"),
    )
    .option(
      "--target-accuracy <X>",
      "forgotten when the forget set's accuracy is at most this",
      realNumber("--target-accuracy", unitInterval, "a number from 0 to 1"),
    )
    .option(
      "--target-loss <X>",
      "forgotten when the forget set's mean loss is at least this",
      realNumber("--target-loss", atLeastZero, "a number from 0"),
    )
    .option(
      "--refit-head <SHARE>",
      "fit a new classifier head on this share of the remain set after masking",
      realNumber("--refit-head", positiveShare, "a number above 0 and at most 1"),
    )
    .option("--no-refit-head", "keep the head, where the preset fits a new one")
    .option("--fine-tune <EPOCHS>", "train on the remain set afterwards", wholeNumber(1))
    .option("--fine-tune-samples <N>", "remain samples to train on", wholeNumber(1))
    .option(
      "--learning-rate <X>",
      "of --fine-tune; default 0.01",
      realNumber("--learning-rate", atLeastZero, "a number from 0"),
    )
    .option("--hold", "keep masked weights at 0 in fine-tuning")
    .option("--no-hold", "let masked weights grow back in fine-tuning")
    .option("--dry-run", "print what would be done, and do nothing", false)
    .action(run);
}
