import { subset } from "../../data/dataset.js";
import type { RoundMetrics, ScoreHistogram } from "../../evaluate/run-metrics.js";
import { type LinearHead, linearHead } from "../../model/linear-head.js";
import { readWeights } from "../../model/model.js";
import { throwIfAborted } from "../../native/errors.js";
import { ratioToK } from "../../native/masking.js";
import { candidateOptions, type ProbedSelection } from "../config.js";
import type { FisherStore } from "../fisher-store.js";
import { countByTensor, keepAll, maskWeights, selectMask, unionOfMasked } from "../mask.js";
import type { MethodContext } from "../method.js";
import { fitHead, headOf } from "../refit-head.js";
import { drawSamples, drawStratified, without } from "../sampling.js";
import { combinedStore } from "./combined-gradient.js";
import { fisherOf, takeFishers } from "./fishers.js";
import type { Fishers, Masking, Weights } from "./masking.js";
import { score } from "./score.js";
import { missedWarning, targetReached } from "./target.js";
import {
  describeWatch,
  look,
  lostSince,
  measuresOf,
  openWatch,
  type Sighting,
  type Watch,
} from "./watch.js";

/** Enough for the order of the weights; the probe of the evaluation takes 400. */
const kProbeSteps = 150;

/** What the probe is fitted on this round: forget samples that are not judged, where there are others, and remain samples. */
function probeIndices(
  context: MethodContext,
  watch: Watch,
  each: number,
  round: number,
): Int32Array {
  const { config, forget, remain, reserved, train } = context;
  const judged = new Set(watch.judged.indices);
  const unseen = without(without(forget, reserved), judged);
  const own = unseen.length > 0 ? unseen : without(forget, reserved);
  const drawn = [
    ...drawStratified(train, own, each * classesIn(context, own), config.seed, round),
    ...drawStratified(
      train,
      without(remain, reserved),
      each * train.classes.length,
      config.seed,
      round,
    ),
  ];
  return Int32Array.from(drawn).sort();
}

function classesIn({ train }: MethodContext, indices: Int32Array): number {
  return new Set(indices.map((index) => train.labels[index] as number)).size;
}

/** The network with its own head and with the round's probe in its place. */
class ProbedNetwork {
  readonly #context: MethodContext;
  readonly #head: LinearHead;
  readonly #own: Weights;
  readonly #watch: Watch;
  readonly #each: number;

  constructor(context: MethodContext, weights: Weights, watch: Watch, each: number) {
    this.#context = context;
    this.#head = linearHead(context.model.graph);
    const { weight, bias } = this.#head;
    this.#own = new Map([weight, bias].map((name) => [name, weights.get(name) as Float32Array]));
    this.#watch = watch;
    this.#each = each;
  }

  restoreHead(): Promise<void> {
    return this.#context.network.setParameters(this.#own);
  }

  /** Looks with the network's own head, then fits the round's probe, leaves it in the network and looks again. */
  async look(round: number): Promise<{ own: Sighting; probed: Sighting }> {
    await this.restoreHead();
    const own = await look(this.#context, this.#watch);
    const indices = probeIndices(this.#context, this.#watch, this.#each, round);
    const options = { stage: "Probe of the round", steps: kProbeSteps };
    const fit = await fitHead(this.#context, this.#head, indices, options);
    await this.#context.network.setParameters(headOf(this.#head, fit));
    return { own, probed: await look(this.#context, this.#watch) };
  }
}

/** At T = 1 and with the data's labels: these samples are wrong, so their loss is not saturated. */
async function fisherOfLost(
  context: MethodContext,
  watch: Watch,
  lost: Int32Array,
): Promise<FisherStore | null> {
  if (watch.watched === null || lost.length === 0 || watch.weightOfLost === 0) return null;
  return fisherOf(context, "lost samples", subset(watch.watched.dataset, lost), true, {
    labels: "empirical",
    temperature: 1,
    digest: `${context.trainDigest}, occluded`,
  });
}

/** The forget and remain Fisher through the present head, the forget gradient less that of what the probe lost. */
async function fishersThroughProbe(
  context: MethodContext,
  watch: Watch,
  before: Sighting,
  now: Sighting,
  round: number,
): Promise<Fishers> {
  const { recognised } = now;
  const fishers = await takeFishers(context, round, recognised);
  const lost = lostSince(before, now);
  const drawn = drawSamples(lost, context.config.fisher.forgetSamples, context.config.seed, round);
  const forget = combinedStore({
    forget: fishers.forget as FisherStore,
    recognised: recognised.length,
    judged: watch.judged.indices.length,
    lost: await fisherOfLost(context, watch, drawn),
    lostCount: lost.length,
    weightOfLost: watch.weightOfLost,
  });
  return { forget, remain: fishers.remain };
}

/**
 * Masks what a linear probe reads: each round fits a probe on the features as they are now, and follows the gradients through
 * it. What the network's own head says plays no part; it is left as it was, and is to be fitted anew afterwards.
 *
 * @throws {@link FishermaskError} `ERR_FM_CONFIG` for a network whose head is not one linear layer; as `maskGuarded`
 */
export async function maskProbed(
  context: MethodContext,
  selection: ProbedSelection,
): Promise<Masking> {
  const { config, model, network, reporter } = context;
  const watch = openWatch(context, selection);
  let weights = await readWeights(model.graph, network);
  let masks = keepAll(model.graph, { ...candidateOptions(config), unit: config.unit });
  const { total } = countByTensor(masks);
  const most = ratioToK(selection.maxRatio, total);
  const perRound = Math.max(1, ratioToK(selection.ratioPerRound, total));
  const probed = new ProbedNetwork(context, weights, watch, selection.probeSamples);
  const rounds: RoundMetrics[] = [];
  let fishers: Fishers = { forget: null, remain: null };
  let histogram: ScoreHistogram | null = null;
  let units = 0;
  let before: { own: Sighting; probed: Sighting } | null = null;
  let reached = false;
  for (let round = 0; ; round++) {
    throwIfAborted(context.signal);
    const seen = await probed.look(round);
    before ??= seen;
    reached = targetReached(config.target, seen.probed);
    rounds.push(roundOf(round, units, total, before, seen));
    reporter.message(
      `round ${round}: ${percent(units / total, 2)} masked, a probe finds ${percent(seen.probed.forgetAccuracy)} of the forget ` +
        `samples, the network ${percent(seen.own.forgetAccuracy)}`,
    );
    if (reached || units >= most || seen.probed.recognised.length === 0) break;
    fishers = await fishersThroughProbe(context, watch, before.probed, seen.probed, round);
    const chosen = await selectMask(await score(context, weights, fishers), {
      k: Math.min(perRound, most - units),
    });
    if (chosen.units === 0) break;
    weights = maskWeights(weights, chosen.masks);
    masks = unionOfMasked(masks, chosen.masks);
    histogram = chosen.histogram;
    units += chosen.units;
    await network.setParameters(weights);
  }
  await probed.restoreHead();
  const last = rounds.at(-1) as RoundMetrics;
  const found = { ...last, forgetAccuracy: last.probe?.forget ?? last.forgetAccuracy };
  return {
    masks,
    rounds,
    scores: histogram,
    fishers,
    warnings: reached ? [] : [`By the linear probe: ${missedWarning(config.target, found)}`],
    watch: describeWatch(watch, selection),
  };
}

/** The accuracies of a round are those of the network's own head; beside them the probe's, on the same samples. */
function roundOf(
  round: number,
  units: number,
  total: number,
  before: { own: Sighting; probed: Sighting },
  seen: { own: Sighting; probed: Sighting },
): RoundMetrics {
  const probed = measuresOf(before.probed, seen.probed);
  return {
    round,
    units,
    ratio: total === 0 ? 0 : units / total,
    ...measuresOf(before.own, seen.own),
    probe:
      probed.remainAccuracy === null
        ? null
        : { forget: probed.forgetAccuracy, remain: probed.remainAccuracy },
  };
}

function percent(share: number, digits = 1): string {
  return `${(100 * share).toFixed(digits)} %`;
}
