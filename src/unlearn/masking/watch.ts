import { type DatasetView, imagesOf, subset } from "../../data/dataset.js";
import { meanPixel, occludedCopy } from "../../data/occlude.js";
import type { RoundMetrics, RoundWatch } from "../../evaluate/run-metrics.js";
import type { GuardedSelection } from "../config.js";
import type { MethodContext } from "../method.js";
import { drawSamples, drawStratified, without } from "../sampling.js";
import { evaluateBoth } from "./judge.js";

/** Watching fewer would say nothing. */
const kFewestWatched = 2;
/** Not a round's number: the watched samples are no Fisher's draw. */
const kWatchDraw = 3_000_017;

export type WatchOptions = Pick<
  GuardedSelection,
  "watchSamples" | "occlusion" | "lostWeight" | "recognisedAt"
>;

/** The samples that the guarded rule weighs against each other. None is reserved. */
export interface Watch {
  /** Forget samples as they are. */
  readonly judged: DatasetView;
  /** Remain samples, occluded, as a data set of their own; null where there are too few. */
  readonly watched: DatasetView | null;
  /** Loss (nats) up to which a judged sample counts as recognised even where another class is the answer. */
  readonly recognisedLoss: number;
  /** What one lost watched sample counts against one recognised judged sample. */
  readonly weightOfLost: number;
}

/** What the watch sees of a network. */
export interface Sighting {
  /** Indices into the training data of the judged samples that are right, or whose class is still too probable. */
  readonly recognised: Int32Array;
  /** Recognised, as a share of the judged. */
  readonly forgetAccuracy: number;
  readonly forgetLoss: number;
  /** Nats, of each judged sample by its index into the training data. */
  readonly losses: ReadonlyMap<number, number>;
  /** (watched,): 1 where right. */
  readonly right: Uint8Array;
}

/**
 * Draws the samples to watch. Both samples stand for their whole sets: a watched remain sample for |D_r| / watched, a judged
 * forget sample for |D_f| / judged, so that `weightOfLost` = lostWeight · (|D_r| / watched) / (|D_f| / judged).
 *
 * @param mostJudged how many forget samples to judge at most; null: all; by default the target's number
 */
export function openWatch(
  context: MethodContext,
  selection: WatchOptions,
  mostJudged: number | null = context.config.target.samples,
): Watch {
  const { config, train, forget, remain, reserved, normalization } = context;
  const { watchSamples, occlusion, lostWeight } = selection;
  const judged = drawSamples(without(forget, reserved), mostJudged, config.seed, 0);
  const open = without(remain, reserved);
  const drawn = drawStratified(train, open, watchSamples, config.seed, kWatchDraw);
  const enough = drawn.length >= kFewestWatched;
  const scale = ((remain.length / drawn.length) * judged.length) / forget.length;
  const { shape } = imagesOf(train, `${config.selection.kind} selection`);
  // Without a normalization the network's own zero is a pixel of 0.
  const fill = normalization === undefined ? new Uint8Array(shape[2]) : meanPixel(normalization);
  const hide = { side: occlusion, seed: config.seed, fill };
  return {
    judged: subset(train, judged),
    watched: enough ? occludedCopy(subset(train, drawn), hide) : null,
    recognisedLoss: -Math.log(selection.recognisedAt ?? 1),
    weightOfLost: enough ? lostWeight * scale : 0,
  };
}

/** For the metrics: what the rounds' shares are of. */
export function describeWatch(watch: Watch, selection: WatchOptions): RoundWatch {
  return {
    judged: watch.judged.indices.length,
    watched: watch.watched?.indices.length ?? 0,
    occlusion: selection.occlusion,
  };
}

/** Looks at the present network. @throws as `evaluate` */
export async function look(context: MethodContext, watch: Watch): Promise<Sighting> {
  const { forget, remain } = await evaluateBoth(context, watch.judged, watch.watched);
  const { dataset, indices } = watch.judged;
  const isRight = (prediction: number | undefined, label: number | undefined): boolean =>
    prediction === label;
  const copies = watch.watched?.dataset.labels;
  const recognised = indices.filter(
    (index, i) =>
      isRight(forget.predictions[i], dataset.labels[index]) ||
      (forget.losses[i] as number) < watch.recognisedLoss,
  );
  return {
    recognised,
    forgetAccuracy: recognised.length / indices.length,
    forgetLoss: forget.meanLoss,
    losses: new Map(Array.from(indices, (index, i) => [index, forget.losses[i] as number])),
    right: Uint8Array.from(remain?.predictions ?? [], (prediction, i) =>
      isRight(prediction, copies?.[i]) ? 1 : 0,
    ),
  };
}

/** Places, in the watched data set, of the copies that were right and are wrong. */
export function lostSince(before: Sighting, now: Sighting): Int32Array {
  const places = Int32Array.from(before.right.keys());
  return places.filter((i) => before.right[i] === 1 && now.right[i] === 0);
}

function costOf(watch: Watch, before: Sighting, now: Sighting): number {
  return now.recognised.length + watch.weightOfLost * lostSince(before, now).length;
}

function lossOn(samples: Int32Array, { losses }: Sighting): number {
  return samples.reduce((sum, index) => sum + (losses.get(index) as number), 0);
}

/**
 * Whether a step from `last` to `now` pays: recognised + weightOfLost · lost falls. Where it stays, whether the loss of the
 * samples that were recognised rises: the first steps in a sure network flip no sample yet, and are on the way all the same.
 */
export function stepPays(watch: Watch, before: Sighting, last: Sighting, now: Sighting): boolean {
  const change = costOf(watch, before, now) - costOf(watch, before, last);
  if (change !== 0) return change < 0;
  return lossOn(last.recognised, now) > lossOn(last.recognised, last);
}

/**
 * Whether a step that does not pay makes more samples forgotten and still leaves the watched samples as often right as
 * before the run: what was gained on them (they no longer go to a forgotten class) may be spent on the last samples.
 */
export function isAffordable(before: Sighting, last: Sighting, now: Sighting): boolean {
  const lost = lostSince(before, now).length;
  const gained = lostSince(now, before).length;
  return now.recognised.length < last.recognised.length && lost <= gained;
}

/** The part of a round's metrics that a sighting gives. */
export function measuresOf(
  before: Sighting,
  now: Sighting,
): Pick<RoundMetrics, "forgetAccuracy" | "forgetLoss" | "remainAccuracy" | "lost" | "gained"> {
  const watched = now.right.length;
  const shareOf = (count: number): number | null => (watched === 0 ? null : count / watched);
  return {
    forgetAccuracy: now.forgetAccuracy,
    forgetLoss: now.forgetLoss,
    remainAccuracy: shareOf(now.right.reduce((sum, right) => sum + right, 0)),
    lost: shareOf(lostSince(before, now).length),
    gained: shareOf(lostSince(now, before).length),
  };
}
