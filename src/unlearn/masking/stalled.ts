import type { TargetConfig } from "../config.js";
import { percent } from "./percent.js";
import { targetText } from "./target.js";

/** A network in counts of what the guarded rule weighs. */
export interface Balance {
  readonly units: number;
  readonly recognised: number;
  readonly lost: number;
}

export interface Stall {
  readonly ratio: number;
  readonly forgetAccuracy: number;
  /** Rounds in a row that were undone. */
  readonly rounds: number;
  readonly judged: number;
  readonly watched: number;
  readonly weightOfLost: number;
  readonly kept: Balance;
  /** The last step tried; null where no unit was left to try. */
  readonly tried: Balance | null;
}

const NO_UNIT_LEFT = "no unit was left whose removal would help.";

function stoppedAt(
  target: TargetConfig,
  { ratio, forgetAccuracy }: Pick<Stall, "ratio" | "forgetAccuracy">,
): string {
  return (
    `The target was not reached: masking stopped at ${percent(ratio, 2)} of the candidates, with the forget set's training ` +
    `samples still recognised in ${percent(forgetAccuracy)} of the cases (target: ${targetText(target, "recognised")})`
  );
}

function lastStep({ kept, tried, judged, watched, weightOfLost }: Stall): string {
  if (tried === null) return NO_UNIT_LEFT;
  const ofForget = `${tried.recognised} instead of ${kept.recognised} of ${judged} judged forget samples recognised`;
  const ofRemain = `${tried.lost} instead of ${kept.lost} of ${watched} watched remain samples lost`;
  return (
    "each further step would have cost more remain samples than it brought. " +
    `The last one tried, ${tried.units - kept.units} units more, would have left ${ofForget} and ${ofRemain}; ` +
    `one lost counts as ${weightOfLost.toPrecision(3)} recognised.`
  );
}

/** What a reader must know of a guarded run that stopped before the target and before the most allowed. */
export function stalledWarning(target: TargetConfig, stall: Stall): string {
  return `${stoppedAt(target, stall)}. ${stall.rounds} rounds in a row were undone: ${lastStep(stall)}`;
}

/** Of a run that follows what is still recognised, with a target loss as well, which it cannot follow to the end. */
export function nothingLeftWarning(target: TargetConfig): string {
  return (
    "The target was not reached: none of the judged forget samples is recognised any more, and the rounds follow only " +
    `those that are (target: ${targetText(target, "recognised")}).`
  );
}

/** Of a run that had no unit left to mask, before the target and before the most allowed. */
export function noUnitLeftWarning(
  target: TargetConfig,
  reached: Pick<Stall, "ratio" | "forgetAccuracy">,
): string {
  return `${stoppedAt(target, reached)}: ${NO_UNIT_LEFT}`;
}
