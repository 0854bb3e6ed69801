import type { RoundMetrics, ScoreHistogram } from "../../evaluate/run-metrics.js";
import { readWeights } from "../../model/model.js";
import { throwIfAborted } from "../../native/errors.js";
import type { GuardedSelection } from "../config.js";
import {
  countPositive,
  type MaskSelection,
  type MaskSet,
  maskWeights,
  selectMask,
  type UnitScores,
  unionOfMasked,
} from "../mask.js";
import type { MethodContext } from "../method.js";
import { takeFishers } from "./fishers.js";
import { roundLimits } from "./limits.js";
import { lessLost } from "./lost-samples.js";
import type { Fishers, Masking, Weights } from "./masking.js";
import { Pace } from "./pace.js";
import { percent } from "./percent.js";
import { score } from "./score.js";
import { type Balance, nothingLeftWarning, stalledWarning } from "./stalled.js";
import { missedWarning, targetReached } from "./target.js";
import {
  describeWatch,
  isAffordable,
  look,
  lostSince,
  measuresOf,
  openWatch,
  type Sighting,
  stepPays,
  type Watch,
} from "./watch.js";

/** Sizes that a round tries: k, k/2, k/4. */
const kTrials = 3;
/** Rounds in a row of which nothing was kept, after which the run ends. */
const kPatience = 3;
/** Share of the judged samples still recognised. */
const kFarFromGoal = 0.5;

/** A network that was kept. */
interface Accepted {
  readonly weights: Weights;
  readonly masks: MaskSet;
  readonly units: number;
  readonly sighting: Sighting;
}

/** A step that was tried. */
interface Trial {
  readonly units: number;
  readonly sighting: Sighting;
}

/** The guarded rule at work: one ranking a round, steps that are kept only where they bring more than they cost. */
class GuardedRun {
  readonly rounds: RoundMetrics[] = [];
  readonly #context: MethodContext;
  readonly #watch: Watch;
  readonly #total: number;
  readonly #most: number;
  readonly #pace: Pace;
  readonly #before: Sighting;
  #accepted: Accepted;
  #undone = 0;
  #lastUndone: Trial | null = null;
  fishers: Fishers = { forget: null, remain: null };
  histogram: ScoreHistogram | null = null;

  constructor(
    context: MethodContext,
    selection: GuardedSelection,
    watch: Watch,
    weights: Weights,
    before: Sighting,
  ) {
    const { masks, total, most, perRound } = roundLimits(context, selection);
    this.#context = context;
    this.#watch = watch;
    this.#total = total;
    this.#most = most;
    this.#pace = new Pace(perRound);
    this.#before = before;
    this.#accepted = { weights, masks, units: 0, sighting: before };
    this.#record(0, { units: 0, sighting: before }, false);
  }

  get masks(): MaskSet {
    return this.#accepted.masks;
  }

  async run(): Promise<void> {
    for (let round = 1; this.#goesOn(); round++) {
      throwIfAborted(this.#context.signal);
      const kept = await this.#step(await this.#rank(round), round);
      this.#undone = kept ? 0 : this.#undone + 1;
    }
  }

  #goesOn(): boolean {
    const { sighting, units } = this.#accepted;
    return (
      !targetReached(this.#context.config.target, sighting) &&
      sighting.recognised.length > 0 &&
      units < this.#most &&
      this.#undone < kPatience
    );
  }

  /** Scores at the accepted weights. */
  async #rank(round: number): Promise<UnitScores> {
    const { sighting, weights } = this.#accepted;
    this.fishers = await takeFishers(this.#context, round - 1, sighting.recognised);
    const lost = lostSince(this.#before, sighting);
    const ranking = await lessLost(this.#context, this.fishers, this.#watch, sighting, {
      count: lost.length,
      drawn: lost,
    });
    return score(this.#context, weights, ranking);
  }

  /** Tries ever smaller steps along one ranking. @returns whether one was kept */
  async #step(scores: UnitScores, round: number): Promise<boolean> {
    // A unit whose score is not above 0 brings nothing: its removal does not raise the loss that is to rise.
    const allowed = Math.min(this.#most - this.#accepted.units, countPositive(scores));
    let units = Math.min(this.#pace.next(), allowed);
    for (let trial = 0; trial < kTrials && units > 0; trial++) {
      throwIfAborted(this.#context.signal);
      const selection = await selectMask(scores, { k: units });
      const maySpend = this.#maySpend() || trial === kTrials - 1 || units === 1;
      if (await this.#try(selection, round, maySpend)) return true;
      this.#pace.undone(units);
      units = Math.floor(units / 2);
    }
    await this.#context.network.setParameters(this.#accepted.weights);
    return false;
  }

  /**
   * Whether what the rest has gained may be spent from a round's first trial on: far from the goal, where a sure network's
   * samples lose probability long before they are forgotten, and after a round of which nothing was kept.
   */
  #maySpend(): boolean {
    return this.#undone > 0 || this.#accepted.sighting.forgetAccuracy > kFarFromGoal;
  }

  /** @param maySpend whether a step that does not pay is kept where the rest can afford it */
  async #try(selection: MaskSelection, round: number, maySpend: boolean): Promise<boolean> {
    const { weights, masks, units, sighting: last } = this.#accepted;
    const trial = maskWeights(weights, selection.masks);
    await this.#context.network.setParameters(trial);
    const sighting = await look(this.#context, this.#watch);
    const kept =
      stepPays(this.#watch, this.#before, last, sighting) ||
      (maySpend && isAffordable(this.#before, last, sighting));
    const tried = { units: units + selection.units, sighting };
    this.#record(round, tried, !kept);
    if (!kept) {
      this.#lastUndone = tried;
      return false;
    }
    this.#accepted = {
      ...tried,
      weights: trial,
      masks: unionOfMasked(masks, selection.masks),
    };
    this.histogram = selection.histogram;
    this.#lastUndone = null;
    this.#pace.kept(selection.units, 1 - sighting.recognised.length / last.recognised.length);
    return true;
  }

  #record(round: number, { units, sighting }: Trial, rejected: boolean): void {
    const measures = measuresOf(this.#before, sighting);
    const ratio = this.#total === 0 ? 0 : units / this.#total;
    this.rounds.push({ round, units, ratio, ...measures, rejected });
    if (round === 0) return;
    const lost = typeof measures.lost === "number" ? percent(measures.lost) : "–";
    this.#context.reporter.message(
      `round ${round}: ${percent(ratio, 2)} masked, forget ${percent(measures.forgetAccuracy)}, ` +
        `lost of the watched ${lost}${rejected ? "; undone" : ""}`,
    );
  }

  warnings(): string[] {
    const { config } = this.#context;
    const { sighting, units } = this.#accepted;
    if (targetReached(config.target, sighting)) return [];
    const ratio = this.#total === 0 ? 0 : units / this.#total;
    if (sighting.recognised.length === 0) return [nothingLeftWarning(config.target)];
    if (units >= this.#most)
      return [missedWarning(config.target, { ...sighting, ratio }, "recognised")];
    return [
      stalledWarning(config.target, {
        ratio,
        forgetAccuracy: sighting.forgetAccuracy,
        rounds: kPatience,
        judged: this.#watch.judged.indices.length,
        watched: this.#watch.watched?.indices.length ?? 0,
        weightOfLost: this.#watch.weightOfLost,
        kept: this.#balance(this.#accepted),
        tried: this.#lastUndone === null ? null : this.#balance(this.#lastUndone),
      }),
    ];
  }

  #balance({ units, sighting }: Trial): Balance {
    const lost = lostSince(this.#before, sighting).length;
    return { units, recognised: sighting.recognised.length, lost };
  }
}

/**
 * Masks in rounds, each followed only as far as it pays: of the judged forget samples that are still recognised it makes
 * as many forgotten as it can, and watches occluded remain samples for what that costs. A step is kept where
 * recognised + w · lost falls, or stays and their loss rises, or, within limits, where the watched are still as often right as
 * before the run; else it is undone and halved.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for a stored forget Fisher without gradients; `ERR_FM_ABORTED`; as
 * `computeFisher`
 */
export async function maskGuarded(
  context: MethodContext,
  selection: GuardedSelection,
): Promise<Masking> {
  const watch = openWatch(context, selection);
  const weights = await readWeights(context.model.graph, context.network);
  const guarded = new GuardedRun(context, selection, watch, weights, await look(context, watch));
  await guarded.run();
  const { masks, rounds, histogram, fishers } = guarded;
  return {
    masks,
    rounds,
    scores: histogram,
    fishers,
    warnings: guarded.warnings(),
    watch: describeWatch(watch, selection),
  };
}
