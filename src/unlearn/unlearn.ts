import { type Dataset, datasetDigest, isTokens, subset } from "../data/dataset.js";
import type { ForgetSplit } from "../data/split.js";
import { checkDisjoint } from "../data/split.js";
import {
  RUN_METRICS_VERSION,
  type RunMetrics,
  type SampleImage,
  type Snapshot,
} from "../evaluate/run-metrics.js";
import { type SnapshotPlan, takeSnapshot } from "../evaluate/snapshot.js";
import { candidateTensors } from "../model/candidates.js";
import { loadNetwork, type Model, parameterCount, readWeights } from "../model/model.js";
import type { Precision } from "../native/device.js";
import { FishermaskError } from "../native/errors.js";
import type { InputNormalization } from "../native/network.js";
import { VERSION } from "../version.js";
import { candidateOptions, checkConfig, type UnlearnConfig } from "./config.js";
import { type FisherStore, weightsDigest } from "./fisher-store.js";
import { countByTensor, type MaskSet } from "./mask.js";
import type { Method, MethodContext, MethodOutcome, StageReporter } from "./method.js";
import { methods } from "./methods.gen.js";
import { checkReplaceable } from "./refit-head.js";
import { byClass, drawSamples } from "./sampling.js";

export interface UnlearnRequest {
  readonly model: Model;
  readonly train: Dataset;
  /** Digest that Fishers of `train` bear, where `train` is the beginning of a larger set; its own by default. */
  readonly trainDigest?: string | undefined;
  readonly test: Dataset | null;
  /** Of `train`. */
  readonly split: ForgetSplit;
  /** Of images; none for token sequences. */
  readonly normalization: InputNormalization | undefined;
  readonly config: UnlearnConfig;
  readonly preset: string | null;
  /** How the data were named, for reports. */
  readonly source: string;
  /** Classes that are forgotten whole; empty where the request is not by class. */
  readonly forgetClasses: readonly number[];
  readonly stored?:
    | { readonly forget?: FisherStore | null; readonly remain?: FisherStore | null }
    | undefined;
  readonly threads?: number | undefined;
  /** `auto` (the default), `cpu` or `cuda:N`. */
  readonly device?: string | undefined;
  readonly precision?: Precision | undefined;
  readonly reporter?: StageReporter | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface UnlearnResult {
  readonly metrics: RunMetrics;
  readonly weights: Map<string, Float32Array>;
  readonly masks: MaskSet | null;
  readonly fishers: MethodOutcome["fishers"];
  readonly samples: readonly SampleImage[];
}

const PROBE_SAMPLES_PER_CLASS = 300;
const SAMPLE_IMAGES = 12;
/** A class lends samples to the probe alone only where enough remain for the Fisher. */
const LEAST_SHARE_FOR_FISHER = 3;

/** Adds up the time of the stages that share a name, in order of their first appearance. */
class StageClock implements StageReporter {
  readonly #seconds = new Map<string, number>();
  readonly #outer: StageReporter | undefined;
  #name: string | undefined;
  #started = 0;

  constructor(outer: StageReporter | undefined) {
    this.#outer = outer;
  }

  stage = (name: string, total: number | null): void => {
    this.end();
    this.#name = name;
    this.#started = performance.now();
    this.#outer?.stage(name, total);
  };
  progress = (done: number): void => this.#outer?.progress(done);
  message = (text: string): void => this.#outer?.message(text);

  end(): void {
    if (this.#name === undefined) return;
    const seconds = (performance.now() - this.#started) / 1000;
    this.#seconds.set(this.#name, (this.#seconds.get(this.#name) ?? 0) + seconds);
    this.#name = undefined;
  }

  stages(): RunMetrics["stages"] {
    this.end();
    return [...this.#seconds].map(([name, seconds]) => ({ name, seconds }));
  }
}

function checkSamples({ train, split }: UnlearnRequest): void {
  for (const [name, indices] of Object.entries({ forget: split.forget, keep: split.remain })) {
    if (indices.length === 0) {
      throw new FishermaskError(
        "ERR_FM_ARGUMENT",
        `Expected at least one sample to ${name} but received none`,
      );
    }
    // Throws for an index out of range.
    subset(train, indices);
  }
  checkDisjoint(split.forget, split.remain);
}

/** Everything that can be known to be wrong before the work begins. */
function checkRequest(request: UnlearnRequest): Method {
  const { config } = request;
  checkConfig(config);
  checkSamples(request);
  const method = methodOf(config.method);
  if (method.needsFineTune && config.fineTune === null) {
    throw new FishermaskError(
      "ERR_FM_CONFIG",
      `Expected fineTune (epochs, learning rate, …) for method ${method.name} but received none`,
    );
  }
  checkKind(request);
  checkHead(request);
  checkNoneStored(request);
  return method;
}

/** What rests on images: occluded copies to watch, a probe for classes. */
function checkKind({ config, train, test }: UnlearnRequest): void {
  if (test !== null && isTokens(test) !== isTokens(train)) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      "Expected training and test data of one kind but received images and token sequences",
    );
  }
  if (!isTokens(train)) return;
  const { kind } = config.selection;
  if (kind === "guarded" || kind === "probed") {
    throw new FishermaskError(
      "ERR_FM_CONFIG",
      `Expected fixed, adaptive or iterated selection for token sequences but received ${kind}, which rests on images ` +
        "(the preset prototype is iterated)",
    );
  }
  if ((config.refitHead ?? null) !== null) {
    throw new FishermaskError(
      "ERR_FM_CONFIG",
      "Expected no refitHead for token sequences but received one",
    );
  }
}

function checkHead({ config, model }: UnlearnRequest): void {
  const candidates = candidateTensors(model.graph, candidateOptions(config));
  const names = candidates.map(({ name }) => name);
  if (config.selection.kind === "probed") checkReplaceable(model.graph, names, "probed selection");
  if ((config.refitHead ?? null) !== null) checkReplaceable(model.graph, names, "refitHead");
}

/** A stored Fisher went through the network's own head. */
function checkNoneStored({ config, stored }: UnlearnRequest): void {
  if (config.selection.kind !== "probed") return;
  const given = (["forget", "remain"] as const).find((name) => (stored?.[name] ?? null) !== null);
  if (given === undefined) return;
  throw new FishermaskError(
    "ERR_FM_CONFIG",
    `Expected no stored Fisher with probed selection, whose gradients go through a probe, but received one of the ${given} set`,
  );
}

function methodOf(wanted: string): Method {
  const found = Object.values(methods).find(({ name }) => name === wanted);
  if (found === undefined) {
    const known = Object.values(methods)
      .map(({ name }) => name)
      .join(", ");
    throw new FishermaskError(
      "ERR_FM_CONFIG",
      `Expected one of ${known} for method but received ${wanted}`,
    );
  }
  return found;
}

/** Training samples for the probe: of each class the same number, drawn; none without a test set. */
function probeSamples(request: UnlearnRequest): Int32Array {
  if (request.test === null || isTokens(request.train)) return new Int32Array(0);
  const { forget, remain } = request.split;
  const all = Int32Array.from([...forget, ...remain]).sort();
  const drawn = [...byClass(request.train, all).values()].flatMap((list) => [
    ...drawSamples(list, PROBE_SAMPLES_PER_CLASS, request.config.seed, 1_000_003),
  ]);
  return Int32Array.from(drawn).sort();
}

/** The probe's samples, kept from the Fishers where both sets keep enough for them; else none. */
function reservedFor(request: UnlearnRequest, probe: Int32Array): Set<number> {
  const { fisher } = request.config;
  const { forget, remain } = request.split;
  const probed = new Set(probe);
  const left = (set: Int32Array): number => set.filter((index) => !probed.has(index)).length;
  const enough =
    left(forget) * LEAST_SHARE_FOR_FISHER >= forget.length &&
    left(remain) * LEAST_SHARE_FOR_FISHER >= remain.length &&
    fisher.forgetSamples !== null &&
    fisher.remainSamples !== null;
  return enough ? probed : new Set();
}

/** The probe is fairest on samples that no Fisher has seen. */
function probeWarnings(probe: Int32Array, fishers: readonly (FisherStore | null)[]): string[] {
  const probed = new Set(probe);
  const seen = new Set(
    fishers.flatMap((store) => [...(store?.ids.filter((id) => probed.has(id)) ?? [])]),
  );
  if (seen.size === 0) return [];
  return [
    `The linear probe was fitted on ${probe.length} samples of which a Fisher has seen ${seen.size}.`,
  ];
}

function snapshotPlan(request: UnlearnRequest, probe: Int32Array): SnapshotPlan {
  const { test, forgetClasses } = request;
  const testIndices = Int32Array.from({ length: test?.size ?? 0 }, (_, i) => i);
  const isForgotten = (i: number): boolean => forgetClasses.includes(test?.labels[i] as number);
  return {
    train: request.train,
    test,
    forgetTrain: request.split.forget,
    remainTrain: request.split.remain,
    forgetTest: testIndices.filter(isForgotten),
    remainTest: testIndices.filter((i) => !isForgotten(i)),
    probe,
    forgetClasses,
    normalization: request.normalization,
    batchSize: request.config.fisher.batchSize,
    features: request.model.features,
  };
}

function sampleImages(
  request: UnlearnRequest,
  before: Int32Array,
  after: Int32Array,
): SampleImage[] {
  const { train, split, config } = request;
  if (isTokens(train)) return [];
  const [height, width, channels] = train.shape;
  const bytes = height * width * channels;
  const nameOf = (label: number | undefined): string => train.classes[label ?? -1] ?? "?";
  return [...drawSamples(split.forget, SAMPLE_IMAGES, config.seed, 2_000_003)].map((index) => ({
    index,
    height,
    width,
    channels,
    pixels: train.images.slice(index * bytes, (index + 1) * bytes),
    label: nameOf(train.labels[index]),
    before: nameOf(before[index]),
    after: nameOf(after[index]),
  }));
}

function maskSummary(config: UnlearnConfig, masks: MaskSet | null): RunMetrics["masked"] {
  const counts = countByTensor(masks ?? new Map());
  const { unit, scope, criterion } = config;
  return {
    units: counts.units,
    total: counts.total,
    ratio: counts.total === 0 ? 0 : counts.units / counts.total,
    unit,
    scope,
    criterion: masks === null ? "none" : criterion,
    perTensor: counts.perTensor,
    perTensorTotal: counts.perTensorTotal,
  };
}

/**
 * Makes a network forget: measures it, runs the configured method, measures it again. The model's own weights stay as they
 * are; the result holds the new ones. Nothing is written.
 *
 * @throws {@link FishermaskError} `ERR_FM_CONFIG`, `ERR_FM_ARGUMENT` (empty or overlapping sets), `ERR_FM_MISMATCH` (stored
 * Fishers of another request), `ERR_FM_NON_FINITE`, `ERR_FM_OUT_OF_MEMORY`, `ERR_FM_ABORTED`
 */
export async function unlearn(request: UnlearnRequest): Promise<UnlearnResult> {
  const method = checkRequest(request);
  const { model, train, config, split } = request;
  const clock = new StageClock(request.reporter);
  const trainDigest = request.trainDigest ?? (await datasetDigest(train));
  const stored = {
    forget: request.stored?.forget ?? null,
    remain: request.stored?.remain ?? null,
  };
  checkStored(stored, { digest: weightsDigest(model.weights), trainDigest, config, split });
  const requested = request.device ?? "auto";
  using network = await loadNetwork(model, {
    threads: request.threads,
    device: requested,
    precision: request.precision,
    onDevice: (choice) => clock.message(choice.message),
  });
  const probe = probeSamples(request);
  const reserved = reservedFor(request, probe);
  const plan = snapshotPlan(request, probe);
  const callbacks = { stage: clock.stage, progress: clock.progress, signal: request.signal };
  const before = await takeSnapshot(network, plan, "Before", callbacks);
  let maskedOnly: Snapshot | null = null;
  const context: MethodContext = {
    model,
    network,
    train,
    trainDigest,
    forget: split.forget,
    remain: split.remain,
    reserved,
    normalization: request.normalization,
    config,
    stored,
    reporter: clock,
    signal: request.signal,
    onMasked: async () => {
      maskedOnly = (await takeSnapshot(network, plan, "Masked", callbacks)).snapshot;
    },
  };
  const outcome = await method.run(context);
  const after = await takeSnapshot(network, plan, "After", callbacks);
  const weights = await readWeights(model.graph, network);
  const metrics: RunMetrics = {
    schemaVersion: RUN_METRICS_VERSION,
    fishermask: VERSION,
    createdAt: new Date().toISOString(),
    seed: config.seed,
    device: { requested, used: network.device, ...network.deviceDetails, threads: network.threads },
    model: {
      arch: model.arch,
      file: model.file,
      sha256: model.sha256,
      parameters: parameterCount(model.graph),
    },
    data: {
      source: request.source,
      classes: train.classes,
      forget: split.description,
      forgetClasses: request.forgetClasses,
      counts: {
        forgetTrain: split.forget.length,
        remainTrain: split.remain.length,
        forgetTest: plan.forgetTest.length,
        remainTest: plan.remainTest.length,
      },
    },
    method: config.method,
    preset: request.preset,
    config: { ...config },
    before: before.snapshot,
    after: after.snapshot,
    maskedOnly,
    retrained: null,
    masked: maskSummary(config, outcome.masks),
    rounds: outcome.rounds,
    ...(outcome.watch === undefined ? {} : { watch: outcome.watch }),
    scores: outcome.scores,
    fineTuning: outcome.fineTuning,
    stages: clock.stages(),
    warnings: [
      ...probeWarnings(probe, [...Object.values(stored), ...Object.values(outcome.fishers)]),
      ...outcome.warnings,
    ],
  };
  const samples = sampleImages(request, before.trainPredictions, after.trainPredictions);
  return { metrics, weights, masks: outcome.masks, fishers: outcome.fishers, samples };
}

interface Wanted {
  readonly digest: string;
  readonly trainDigest: string;
  readonly config: UnlearnConfig;
  readonly split: ForgetSplit;
}

/** A stored Fisher must be of this network, these data, this set and the loss that the config names. */
function checkStored(stored: MethodContext["stored"], wanted: Wanted): void {
  for (const name of ["forget", "remain"] as const) {
    const store = stored[name];
    if (store === null) continue;
    const problem = problemOf(store, wanted, wanted.split[name]);
    if (problem === null) continue;
    throw new FishermaskError(
      "ERR_FM_MISMATCH",
      `Expected the stored ${name} Fisher to be of this request but received one ${problem}`,
    );
  }
}

function problemOf(store: FisherStore, wanted: Wanted, allowed: Int32Array): string | null {
  const { meta } = store;
  const { fisher } = wanted.config;
  if (meta.modelDigest !== wanted.digest) return "of another network's weights";
  if (meta.datasetDigest !== wanted.trainDigest) return "of other data";
  if (meta.reduction !== "sum") return "with a term for each token";
  for (const key of ["labels", "gradient", "temperature"] as const) {
    if (meta[key] !== fisher[key]) return `with ${key} ${meta[key]} instead of ${fisher[key]}`;
  }
  const ids = new Set(allowed);
  const foreign = store.ids.find((id) => !ids.has(id));
  return foreign === undefined ? null : `that holds sample ${foreign}, which is not in that set`;
}
