import { type DatasetView, subset } from "../../data/dataset.js";
import { type Evaluation, evaluate } from "../../evaluate/accuracy.js";
import type { RoundMetrics, ScoreHistogram } from "../../evaluate/run-metrics.js";
import { readWeights } from "../../model/model.js";
import { throwIfAborted } from "../../native/errors.js";
import { ratioToK } from "../../native/masking.js";
import { candidateOptions } from "../config.js";
import { criteria } from "../criteria.gen.js";
import { fineTune } from "../fine-tune.js";
import { computeFisher } from "../fisher.js";
import type { FisherStore } from "../fisher-store.js";
import {
  countByTensor,
  keepAll,
  type MaskRule,
  type MaskSelection,
  type MaskSet,
  maskWeights,
  scoreNetwork,
  selectMask,
  type UnitScores,
  unionOfMasked,
  weightMasks,
} from "../mask.js";
import { defineMethod, type MethodContext, type MethodOutcome } from "../method.js";
import { drawSamples, drawStratified, without } from "../sampling.js";

interface Fishers {
  readonly forget: FisherStore | null;
  readonly remain: FisherStore | null;
}

interface Masking {
  readonly masks: MaskSet;
  readonly rounds: readonly RoundMetrics[];
  readonly scores: ScoreHistogram | null;
  readonly fishers: Fishers;
  readonly warnings: readonly string[];
}

type Weights = Map<string, Float32Array>;

async function fisherOf(
  context: MethodContext,
  what: string,
  view: DatasetView,
  gradientSums: boolean,
): Promise<FisherStore> {
  const { config, network, reporter, signal, normalization } = context;
  reporter.stage(`Fisher, ${what}`, view.indices.length);
  const { store } = await computeFisher(context.model.graph, network, view, context.trainDigest, {
    labels: config.fisher.labels,
    gradient: config.fisher.gradient,
    temperature: config.fisher.temperature,
    batchSize: config.fisher.batchSize,
    seed: config.seed,
    gradientSums,
    normalization,
    signal,
    onProgress: (done) => reporter.progress(done),
  });
  return store;
}

/** The Fishers that the criterion needs, at the network's present weights; stored ones serve the first round. */
async function takeFishers(context: MethodContext, round: number): Promise<Fishers> {
  const { config, train, reserved, stored } = context;
  const { needs } = criteria[config.criterion];
  const { fisher, seed } = config;
  let forget = round === 0 ? stored.forget : null;
  if (forget === null && (needs.forgetFisher || needs.forgetGradient)) {
    const indices = drawSamples(
      without(context.forget, reserved),
      fisher.forgetSamples,
      seed,
      round,
    );
    forget = await fisherOf(context, "forget set", subset(train, indices), needs.forgetGradient);
  }
  let remain = round === 0 ? stored.remain : null;
  if (remain === null && needs.remainFisher) {
    const open = without(context.remain, reserved);
    const indices = drawStratified(train, open, fisher.remainSamples, seed, round);
    remain = await fisherOf(context, "remain set", subset(train, indices), false);
  }
  return { forget, remain };
}

async function score(
  context: MethodContext,
  weights: Weights,
  fishers: Fishers,
): Promise<UnitScores> {
  const { config, model, network, reporter } = context;
  reporter.stage("Score and select", null);
  const rule: MaskRule = {
    ...candidateOptions(config),
    criterion: config.criterion,
    criterionOptions: config.criterionOptions,
    unit: config.unit,
    scope: config.scope,
    seed: config.seed,
    threads: network.threads,
  };
  return scoreNetwork(model.graph, weights, fishers.forget, fishers.remain, rule);
}

/** What the stopping rule sees, on training samples of both sets. */
class Judge {
  readonly #context: MethodContext;
  readonly #forget: DatasetView;
  readonly #remain: DatasetView;

  constructor(context: MethodContext) {
    const { config, train } = context;
    const { samples } = config.target;
    this.#context = context;
    this.#forget = subset(train, drawSamples(context.forget, samples, config.seed, 0));
    this.#remain = subset(train, drawStratified(train, context.remain, samples, config.seed, 0));
  }

  async measure(): Promise<Omit<RoundMetrics, "round" | "units" | "ratio">> {
    const { config, network, normalization, reporter, signal } = this.#context;
    reporter.stage("Check the target", this.#forget.indices.length + this.#remain.indices.length);
    const evaluated = (view: DatasetView, before: number): Promise<Evaluation> =>
      evaluate(network, view, {
        batchSize: config.fisher.batchSize,
        normalization,
        signal,
        onProgress: (done) => reporter.progress(before + done),
      });
    const forgetCount = this.#forget.indices.length;
    const forget = await evaluated(this.#forget, 0);
    const remain =
      this.#remain.indices.length === 0 ? null : await evaluated(this.#remain, forgetCount);
    return {
      forgetAccuracy: forget.correct / forget.total,
      forgetLoss: forget.meanLoss,
      remainAccuracy: remain === null ? null : remain.correct / remain.total,
    };
  }

  reached(round: Pick<RoundMetrics, "forgetAccuracy" | "forgetLoss">): boolean {
    const { accuracy, loss } = this.#context.config.target;
    const byAccuracy = accuracy === undefined || round.forgetAccuracy <= accuracy;
    const byLoss = loss === undefined || round.forgetLoss >= loss;
    return byAccuracy && byLoss;
  }
}

function targetText({ accuracy, loss }: MethodContext["config"]["target"]): string {
  const parts = [
    accuracy === undefined ? null : `at most ${100 * accuracy} % right`,
    loss === undefined ? null : `a mean loss of at least ${loss} nats`,
  ];
  return parts.filter((part) => part !== null).join(" and ");
}

function missed(context: MethodContext, last: RoundMetrics | undefined): string[] {
  if (last === undefined) return [];
  const share = (100 * last.ratio).toFixed(2);
  const accuracy = (100 * last.forgetAccuracy).toFixed(1);
  return [
    `The target was not reached: with ${share} % of the candidates masked (the most allowed) the forget set's training ` +
      `samples are still right in ${accuracy} % of the cases (target: ${targetText(context.config.target)}).`,
  ];
}

async function maskFixed(context: MethodContext, ratio: number): Promise<Masking> {
  const weights = await readWeights(context.model.graph, context.network);
  const fishers = await takeFishers(context, 0);
  const selection = await selectMask(await score(context, weights, fishers), { ratio });
  await context.network.setParameters(maskWeights(weights, selection.masks));
  return { masks: selection.masks, rounds: [], scores: selection.histogram, fishers, warnings: [] };
}

/** Bisection over k: masks of one ranking nest, so more masked is nearly always more forgotten. */
async function maskAdaptive(context: MethodContext, maxRatio: number): Promise<Masking> {
  const weights = await readWeights(context.model.graph, context.network);
  const fishers = await takeFishers(context, 0);
  const scores = await score(context, weights, fishers);
  const judge = new Judge(context);
  const rounds: RoundMetrics[] = [];
  const attempt = async (k: number): Promise<{ selection: MaskSelection; reached: boolean }> => {
    throwIfAborted(context.signal);
    const selection = await selectMask(scores, { k });
    await context.network.setParameters(maskWeights(weights, selection.masks));
    const measured = await judge.measure();
    const { units, total } = selection;
    rounds.push({
      round: rounds.length + 1,
      units,
      ratio: total === 0 ? 0 : units / total,
      ...measured,
    });
    return { selection, reached: judge.reached(measured) };
  };
  const nothing = await attempt(0);
  const most = ratioToK(maxRatio, scores.total);
  let best = nothing.reached ? nothing : await attempt(most);
  const warnings = best.reached ? [] : missed(context, rounds.at(-1));
  let low = 0;
  let high = nothing.reached || !best.reached ? 0 : most;
  // To within 2 % of k: finer is below what another draw of samples would change.
  while (high - low > Math.max(1, Math.floor(high * 0.02))) {
    const middle = Math.floor((low + high) / 2);
    const trial = await attempt(middle);
    if (trial.reached) {
      high = middle;
      best = trial;
    } else {
      low = middle;
    }
  }
  await context.network.setParameters(maskWeights(weights, best.selection.masks));
  const { masks, histogram } = best.selection;
  return { masks, rounds, scores: histogram, fishers, warnings };
}

async function maskIterated(
  context: MethodContext,
  ratioPerRound: number,
  maxRatio: number,
): Promise<Masking> {
  const judge = new Judge(context);
  const original = await readWeights(context.model.graph, context.network);
  let weights = original;
  let masks = keepAll(context.model.graph, {
    ...candidateOptions(context.config),
    unit: context.config.unit,
  });
  const { total } = countByTensor(masks);
  const most = ratioToK(maxRatio, total);
  // On a small network a round's share may be less than one unit.
  const perRound = Math.max(1, ratioToK(ratioPerRound, total));
  let fishers: Fishers = { forget: null, remain: null };
  let histogram: ScoreHistogram | null = null;
  const rounds: RoundMetrics[] = [];
  rounds.push({ round: 0, units: 0, ratio: 0, ...(await judge.measure()) });
  let reached = judge.reached(rounds[0] as RoundMetrics);
  for (let round = 0; !reached; round++) {
    throwIfAborted(context.signal);
    const k = Math.min(perRound, most - countByTensor(masks).units);
    if (k <= 0) break;
    fishers = await takeFishers(context, round);
    const scores = await score(context, weights, fishers);
    const selection = await selectMask(scores, { k });
    if (selection.units === 0) break;
    masks = unionOfMasked(masks, selection.masks);
    histogram = selection.histogram;
    weights = maskWeights(weights, selection.masks);
    await context.network.setParameters(weights);
    const { units } = countByTensor(masks);
    const measured = { round: round + 1, units, ratio: units / total, ...(await judge.measure()) };
    rounds.push(measured);
    reached = judge.reached(measured);
    context.reporter.message(
      `round ${measured.round}: ${(100 * measured.ratio).toFixed(2)} % masked, forget ${(100 * measured.forgetAccuracy).toFixed(1)} %, ` +
        `remain ${measured.remainAccuracy === null ? "–" : (100 * measured.remainAccuracy).toFixed(1)} %`,
    );
  }
  const warnings = reached ? [] : missed(context, rounds.at(-1));
  return { masks, rounds, scores: histogram, fishers, warnings };
}

function mask(context: MethodContext): Promise<Masking> {
  const { selection } = context.config;
  switch (selection.kind) {
    case "fixed":
      return maskFixed(context, selection.ratio);
    case "adaptive":
      return maskAdaptive(context, selection.maxRatio);
    case "iterated":
      return maskIterated(context, selection.ratioPerRound, selection.maxRatio);
  }
}

async function run(context: MethodContext): Promise<MethodOutcome> {
  const { config } = context;
  const masking = await mask(context);
  if (config.fineTune === null) return { ...masking, fineTuning: [] };
  await context.onMasked?.();
  const hold = config.hold ? weightMasks(masking.masks) : undefined;
  const fineTuning = await fineTune(context, config.fineTune, "Fine-tune", hold);
  return { ...masking, fineTuning };
}

export const method = defineMethod({
  name: "fisher-masking",
  summary:
    "Masks the units whose Fisher says that they serve the forget set alone; fine-tunes if asked.",
  source: "Liu, Sun, Wu, Zhou: Unlearning with Fisher Masking, arXiv:2310.05331",
  needsFineTune: false,
  run,
});
