import type { CandidateOptions } from "../model/candidates.js";
import { FishermaskError } from "../native/errors.js";
import { SCOPES, type Scope, UNITS, type Unit } from "../native/masking.js";
import type { Schedule } from "../train/schedule.js";
import { type CriterionName, criteria } from "./criteria.gen.js";
import type { CriterionOptions } from "./criterion.js";
import {
  FISHER_GRADIENTS,
  FISHER_LABELS,
  type FisherGradient,
  type FisherLabels,
} from "./fisher-store.js";

/** How the Fishers of a request are taken. */
export interface FisherConfig {
  readonly labels: FisherLabels;
  readonly gradient: FisherGradient;
  readonly temperature: number;
  readonly batchSize: number;
  /** Samples of the forget set that are looked at; null: all. Drawn anew each round. */
  readonly forgetSamples: number | null;
  /** Samples of the remain set, the same number of each class; null: all. */
  readonly remainSamples: number | null;
}

/**
 * At most a share each round, the Fishers taken anew, each step kept only where it brings more than it costs the remain set;
 * until the target is reached, `maxRatio` is masked, or no step is kept any more. Needs a target accuracy.
 */
export interface GuardedSelection {
  readonly kind: "guarded";
  /** The largest share of the candidates that a round masks; above 0. */
  readonly ratioPerRound: number;
  readonly maxRatio: number;
  /** Samples of the remain set that are watched, the same number of each class; null: all. */
  readonly watchSamples: number | null;
  /** Side of the square that is hidden of a watched sample, as a share of its shorter side, 0 .. below 1; 0: nothing. */
  readonly occlusion: number;
  /**
   * A judged forget sample counts as recognised, for steps and target, until its class is not the answer and has less than this
   * probability, above 0 .. 1. Unseen samples are spread wider than seen ones. Default 1: until it is not the answer.
   */
  readonly recognisedAt?: number | undefined;
  /** What a lost remain sample counts against a recognised forget sample, both as numbers of the whole sets. */
  readonly lostWeight: number;
}

/**
 * A share each round, gradients and judgement through a linear probe that is fitted anew on the features in every round, in
 * place of the network's own head: what the probe still reads is what is masked next. Until the probe's accuracy on the
 * judged samples is at most the target's, or `maxRatio` is masked. Needs a network whose head is one linear layer.
 */
export interface ProbedSelection extends Omit<GuardedSelection, "kind"> {
  readonly kind: "probed";
  /** Samples of each class that the probe is fitted on at most, the same number of each, drawn anew each round. */
  readonly probeSamples: number;
  /**
   * The target accuracy is a share of what the probe found before the first round. Classes differ in how often any probe finds
   * them, and so do they in a network that never saw them. Default false: of the judged samples.
   */
  readonly relativeTarget?: boolean | undefined;
}

/** How much is masked. */
export type SelectionConfig =
  /** One selection of this share of the candidates. */
  | { readonly kind: "fixed"; readonly ratio: number }
  /** The smallest share, up to `maxRatio`, that reaches the target, from one pair of Fishers. */
  | { readonly kind: "adaptive"; readonly maxRatio: number }
  /** A share each round, the Fishers taken anew, until the target is reached or `maxRatio` is masked. */
  | { readonly kind: "iterated"; readonly ratioPerRound: number; readonly maxRatio: number }
  | GuardedSelection
  | ProbedSelection;

/** When the forget set counts as forgotten: all that is given must hold, on the forget set's training samples. */
export interface TargetConfig {
  /** Accuracy at most this. */
  readonly accuracy?: number | undefined;
  /** Mean loss (nats per sample) at least this. */
  readonly loss?: number | undefined;
  /** Samples that it is judged on; null: all. */
  readonly samples: number | null;
}

export interface FineTuneConfig {
  readonly epochs: number;
  readonly learningRate: number;
  readonly batchSize: number;
  readonly optimizer: "sgd" | "adamw";
  readonly momentum: number;
  readonly weightDecay: number;
  readonly schedule: Schedule;
  readonly crop: number;
  readonly flip: boolean;
  /** Samples of the remain set to train on, the same number of each class; null: all. */
  readonly samples: number | null;
}

/** Everything that decides what a run does; `config.json` of a run directory. */
export interface UnlearnConfig {
  readonly method: string;
  readonly fisher: FisherConfig;
  readonly criterion: CriterionName;
  readonly criterionOptions: CriterionOptions;
  readonly unit: Unit;
  readonly scope: Scope;
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  readonly excludeHead: boolean;
  readonly selection: SelectionConfig;
  readonly target: TargetConfig;
  /**
   * Fit the classifier head anew, after masking and before fine-tuning, on this share of the remain set (above 0 .. 1); null or
   * left out: the head stays. Needs a head that is one linear layer and no candidate for masking. Methods that mask nothing
   * leave it alone.
   */
  readonly refitHead?: number | null | undefined;
  /** Keep masked weights at exactly 0 in fine-tuning. */
  readonly hold: boolean;
  readonly fineTune: FineTuneConfig | null;
  readonly seed: number;
}

/** A named, reproducible configuration; a file in `presets/` exports it as `preset`. */
export interface Preset {
  readonly name: string;
  readonly summary: string;
  readonly source: string;
  readonly config: UnlearnConfig;
}

export function definePreset(preset: Preset): Preset {
  return preset;
}

/** What a user may set on top of a preset; what is left out stays. */
export interface UnlearnOverrides extends Partial<Omit<UnlearnConfig, "fisher" | "target">> {
  readonly fisher?: Partial<FisherConfig>;
  readonly target?: Partial<TargetConfig>;
}

/** The preset with the overrides in place, checked. @throws `ERR_FM_CONFIG` naming the key */
export function resolveConfig(preset: Preset, overrides: UnlearnOverrides = {}): UnlearnConfig {
  const defined = Object.fromEntries(
    Object.entries(overrides).filter(([, value]) => value !== undefined),
  ) as UnlearnOverrides;
  const config: UnlearnConfig = {
    ...preset.config,
    ...defined,
    fisher: { ...preset.config.fisher, ...defined.fisher },
    target: { ...preset.config.target, ...defined.target },
  };
  // Options belong to their criterion: another criterion starts from its own defaults.
  const resolved =
    defined.criterion !== undefined &&
    defined.criterion !== preset.config.criterion &&
    defined.criterionOptions === undefined
      ? { ...config, criterionOptions: {} }
      : config;
  checkConfig(resolved);
  return resolved;
}

const SELECTIONS: readonly SelectionConfig["kind"][] = [
  "fixed",
  "adaptive",
  "iterated",
  "guarded",
  "probed",
];
const OPTIMIZERS: readonly FineTuneConfig["optimizer"][] = ["sgd", "adamw"];
const SCHEDULES: readonly Schedule["kind"][] = ["constant", "cosine", "step"];

function wrong(key: string, expected: string, received: unknown): FishermaskError {
  return new FishermaskError(
    "ERR_FM_CONFIG",
    `Expected ${expected} for ${key} but received ${String(received)}`,
  );
}

function oneOf(key: string, value: string, choices: readonly string[]): void {
  if (!choices.includes(value)) throw wrong(key, `one of ${choices.join(", ")}`, value);
}

function share(key: string, value: number): void {
  if (!(value >= 0 && value <= 1)) throw wrong(key, "a number from 0 to 1", value);
}

function whole(key: string, value: number, least: number): void {
  if (!(Number.isSafeInteger(value) && value >= least)) {
    throw wrong(key, `a whole number from ${least}`, value);
  }
}

/** Null stands for all samples. */
function count(key: string, value: number | null): void {
  if (value !== null) whole(key, value, 1);
}

function atLeastZero(key: string, value: number): void {
  if (!(value >= 0 && Number.isFinite(value))) throw wrong(key, "a finite number from 0", value);
}

function flag(key: string, value: boolean): void {
  if (typeof value !== "boolean") throw wrong(key, "true or false", value);
}

/** A criterion names its unknown and non-finite options itself. */
function checkCriterionOptions(name: CriterionName, options: CriterionOptions): void {
  try {
    criteria[name].score(options);
  } catch (cause) {
    if (!(cause instanceof FishermaskError)) throw cause;
    throw new FishermaskError("ERR_FM_CONFIG", `criterionOptions: ${cause.message}`, { cause });
  }
}

function checkGuarded(selection: GuardedSelection | ProbedSelection, config: UnlearnConfig): void {
  count("selection.watchSamples", selection.watchSamples);
  if (!(selection.occlusion >= 0 && selection.occlusion < 1)) {
    throw wrong("selection.occlusion", "a number from 0 to below 1", selection.occlusion);
  }
  atLeastZero("selection.lostWeight", selection.lostWeight);
  const { recognisedAt = 1 } = selection;
  if (!(recognisedAt > 0 && recognisedAt <= 1)) {
    throw wrong("selection.recognisedAt", "a number above 0 and at most 1", recognisedAt);
  }
  if (config.target.accuracy === undefined) {
    throw wrong("target.accuracy", `an accuracy with ${selection.kind} selection`, "none");
  }
  const { needs } = criteria[config.criterion];
  if (!(needs.forgetGradient && needs.remainFisher)) {
    // The forget gradient carries what was lost, the remain Fisher what the rest needs.
    const expected = `one of the forget gradient and the remain Fisher (directional) with ${selection.kind} selection`;
    throw wrong("criterion", expected, `${config.criterion}; the other kinds take any`);
  }
}

function checkSelection(config: UnlearnConfig): void {
  const { selection, target } = config;
  oneOf("selection.kind", selection.kind, SELECTIONS);
  if (selection.kind === "fixed") {
    share("ratio", selection.ratio);
    return;
  }
  share("selection.maxRatio", selection.maxRatio);
  if (selection.kind !== "adaptive") {
    share("selection.ratioPerRound", selection.ratioPerRound);
    if (selection.ratioPerRound === 0)
      throw wrong("selection.ratioPerRound", "a number above 0", 0);
  }
  // They mask a number of units and not a share of each ranking.
  if (config.scope !== "global") {
    throw wrong("scope", `global with ${selection.kind} selection`, config.scope);
  }
  if (target.accuracy === undefined && target.loss === undefined) {
    throw wrong("target", `an accuracy or a loss with ${selection.kind} selection`, "neither");
  }
  if (selection.kind === "guarded" || selection.kind === "probed") checkGuarded(selection, config);
  if (selection.kind === "probed") {
    whole("selection.probeSamples", selection.probeSamples, 1);
    flag("selection.relativeTarget", selection.relativeTarget ?? false);
  }
}

function checkSchedule(schedule: Schedule): void {
  oneOf("fineTune.schedule.kind", schedule.kind, SCHEDULES);
  if (schedule.kind === "cosine") {
    atLeastZero("fineTune.schedule.minimum", schedule.minimum ?? 0);
  }
  if (schedule.kind === "step") {
    atLeastZero("fineTune.schedule.gamma", schedule.gamma ?? 0);
    for (const epoch of schedule.milestones) atLeastZero("fineTune.schedule.milestones", epoch);
  }
}

function checkFineTune(fineTune: FineTuneConfig): void {
  whole("fineTune.epochs", fineTune.epochs, 0);
  whole("fineTune.batchSize", fineTune.batchSize, 1);
  count("fineTune.samples", fineTune.samples);
  atLeastZero("fineTune.learningRate", fineTune.learningRate);
  oneOf("fineTune.optimizer", fineTune.optimizer, OPTIMIZERS);
  if (!(fineTune.momentum >= 0 && fineTune.momentum < 1)) {
    throw wrong("fineTune.momentum", "a number from 0 to below 1", fineTune.momentum);
  }
  atLeastZero("fineTune.weightDecay", fineTune.weightDecay);
  whole("fineTune.crop", fineTune.crop, 0);
  flag("fineTune.flip", fineTune.flip);
  checkSchedule(fineTune.schedule);
}

/** @throws {@link FishermaskError} `ERR_FM_CONFIG` naming the first key that is wrong */
export function checkConfig(config: UnlearnConfig): void {
  const { fisher, target } = config;
  oneOf("labels", fisher.labels, FISHER_LABELS);
  oneOf("gradient", fisher.gradient, FISHER_GRADIENTS);
  oneOf("criterion", config.criterion, Object.keys(criteria));
  oneOf("unit", config.unit, UNITS);
  oneOf("scope", config.scope, SCOPES);
  if (!(fisher.temperature > 0 && Number.isFinite(fisher.temperature))) {
    throw wrong("temperature", "a finite number above 0", fisher.temperature);
  }
  whole("batch", fisher.batchSize, 1);
  count("fisher.forgetSamples", fisher.forgetSamples);
  count("fisher.remainSamples", fisher.remainSamples);
  checkCriterionOptions(config.criterion, config.criterionOptions);
  flag("excludeHead", config.excludeHead);
  flag("hold", config.hold);
  if (config.refitHead !== undefined && config.refitHead !== null) {
    share("refitHead", config.refitHead);
    if (config.refitHead === 0) throw wrong("refitHead", "a share above 0", 0);
  }
  whole("seed", config.seed, 0);
  if (target.accuracy !== undefined) share("target.accuracy", target.accuracy);
  if (target.loss !== undefined) atLeastZero("target.loss", target.loss);
  count("target.samples", target.samples);
  checkSelection(config);
  if (config.fineTune !== null) checkFineTune(config.fineTune);
}

/** What may be masked, as `candidateTensors` takes it. */
export function candidateOptions(
  config: Pick<UnlearnConfig, "include" | "exclude" | "excludeHead">,
): CandidateOptions {
  const { include, exclude, excludeHead } = config;
  return { include: include.length === 0 ? undefined : include, exclude, excludeHead };
}
