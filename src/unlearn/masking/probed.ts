import type { RoundMetrics, ScoreHistogram } from "../../evaluate/run-metrics.js";
import { linearHead } from "../../model/linear-head.js";
import { readWeights } from "../../model/model.js";
import { throwIfAborted } from "../../native/errors.js";
import type { ProbedSelection, TargetConfig } from "../config.js";
import { countPositive, type MaskSet, maskWeights, selectMask, unionOfMasked } from "../mask.js";
import type { MethodContext } from "../method.js";
import { drawSamples } from "../sampling.js";
import { takeFishers } from "./fishers.js";
import { roundLimits } from "./limits.js";
import { lessLost } from "./lost-samples.js";
import type { Fishers, Masking, Weights } from "./masking.js";
import { percent } from "./percent.js";
import { judgedBesideProbe, RoundProbe } from "./round-probe.js";
import { score } from "./score.js";
import { nothingLeftWarning, noUnitLeftWarning } from "./stalled.js";
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

/** One network through its own head and through the round's probe. */
interface Seen {
  readonly own: Sighting;
  readonly probed: Sighting;
}

/** The probed rule at work: a share each round, what the round's probe reads. */
class ProbedRun {
  readonly rounds: RoundMetrics[] = [];
  readonly #context: MethodContext;
  readonly #watch: Watch;
  readonly #probe: RoundProbe;
  readonly #total: number;
  readonly #most: number;
  readonly #perRound: number;
  #weights: Weights;
  #units = 0;
  #before: Seen | null = null;
  #last: Sighting | null = null;
  masks: MaskSet;
  fishers: Fishers = { forget: null, remain: null };
  histogram: ScoreHistogram | null = null;

  constructor(
    context: MethodContext,
    selection: ProbedSelection,
    watch: Watch,
    probe: RoundProbe,
    weights: Weights,
  ) {
    const { masks, total, most, perRound } = roundLimits(context, selection);
    this.masks = masks;
    this.#context = context;
    this.#watch = watch;
    this.#probe = probe;
    this.#weights = weights;
    this.#total = total;
    this.#most = most;
    this.#perRound = perRound;
  }

  /** The network has its own head again when this ends, however it ends. */
  async run(): Promise<void> {
    try {
      for (let round = 0; ; round++) {
        throwIfAborted(this.#context.signal);
        const { probed } = await this.#look(round);
        if (!this.#goesOn(probed) || !(await this.#step(probed, round))) return;
      }
    } finally {
      await this.#probe.restoreHead();
    }
  }

  /** Through the own head first; then the round's probe is fitted, and stays for the gradients. */
  async #look(round: number): Promise<Seen> {
    await this.#probe.restoreHead();
    const own = await look(this.#context, this.#watch);
    await this.#probe.install(round);
    const seen = { own, probed: await look(this.#context, this.#watch) };
    this.#before ??= seen;
    this.#last = seen.probed;
    this.#record(round, this.#before, seen);
    return seen;
  }

  /** What this run is to reach: known once the first round's probe was looked at. */
  get #target(): TargetConfig {
    const { selection, target } = this.#context.config;
    const { accuracy } = target;
    if (accuracy === undefined || !(selection as ProbedSelection).relativeTarget) return target;
    return { ...target, accuracy: accuracy * (this.#before as Seen).probed.forgetAccuracy };
  }

  #goesOn(probed: Sighting): boolean {
    return (
      !targetReached(this.#target, probed) &&
      probed.recognised.length > 0 &&
      this.#units < this.#most
    );
  }

  /** @returns whether a unit was left to mask */
  async #step(probed: Sighting, round: number): Promise<boolean> {
    const { config, network } = this.#context;
    this.fishers = await takeFishers(this.#context, round, probed.recognised);
    const lost = lostSince((this.#before as Seen).probed, probed);
    // The probe is another one each round, so many are lost for a round alone; a draw of them says as much.
    const drawn = drawSamples(lost, config.fisher.forgetSamples, config.seed, round);
    const ranking = await lessLost(this.#context, this.fishers, this.#watch, probed, {
      count: lost.length,
      drawn,
    });
    const scores = await score(this.#context, this.#weights, ranking);
    const k = Math.min(this.#perRound, this.#most - this.#units, countPositive(scores));
    if (k === 0) return false;
    const chosen = await selectMask(scores, { k });
    this.#weights = maskWeights(this.#weights, chosen.masks);
    this.masks = unionOfMasked(this.masks, chosen.masks);
    this.histogram = chosen.histogram;
    this.#units += chosen.units;
    await network.setParameters(this.#weights);
    return true;
  }

  get #ratio(): number {
    return this.#total === 0 ? 0 : this.#units / this.#total;
  }

  /** The accuracies of a round are those of the network's own head; beside them the probe's, on the same samples. */
  #record(round: number, before: Seen, { own, probed }: Seen): void {
    const { forgetAccuracy: forget, remainAccuracy: remain } = measuresOf(before.probed, probed);
    this.rounds.push({
      round,
      units: this.#units,
      ratio: this.#ratio,
      ...measuresOf(before.own, own),
      probe: { forget, remain },
    });
    this.#context.reporter.message(
      `round ${round}: ${percent(this.#ratio, 2)} masked, a probe finds ${percent(forget)} of the forget samples, ` +
        `the network ${percent(own.forgetAccuracy)}`,
    );
  }

  warnings(): string[] {
    const last = this.#last as Sighting;
    if (targetReached(this.#target, last)) return [];
    return [`By the linear probe: ${this.#missed(last)}`];
  }

  #missed({ forgetAccuracy, forgetLoss, recognised }: Sighting): string {
    const target = this.#target;
    const found = { forgetAccuracy, forgetLoss, ratio: this.#ratio };
    if (recognised.length === 0) return nothingLeftWarning(target);
    return this.#units >= this.#most
      ? missedWarning(target, found, "recognised")
      : noUnitLeftWarning(target, found);
  }
}

/**
 * Masks what a linear probe reads: each round fits a probe on the features as they are now, and follows the gradients through
 * it. What the network's own head says plays no part; it is left as it was, and is to be fitted anew afterwards.
 *
 * @throws {@link FishermaskError} `ERR_FM_CONFIG` for a network whose head is not one linear layer; `ERR_FM_ABORTED`; as
 * `computeFisher` and `fitLinear`
 */
export async function maskProbed(
  context: MethodContext,
  selection: ProbedSelection,
): Promise<Masking> {
  const { graph } = context.model;
  const head = linearHead(graph);
  const watch = openWatch(context, selection, judgedBesideProbe(context));
  const weights = await readWeights(graph, context.network);
  const { indices: judged } = watch.judged;
  const probe = new RoundProbe(context, head, weights, judged, selection.probeSamples);
  const probed = new ProbedRun(context, selection, watch, probe, weights);
  await probed.run();
  const { masks, rounds, histogram, fishers } = probed;
  return {
    masks,
    rounds,
    scores: histogram,
    fishers,
    warnings: probed.warnings(),
    watch: describeWatch(watch, selection),
  };
}
