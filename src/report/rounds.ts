import type { RoundMetrics, RunMetrics } from "../evaluate/run-metrics.js";

export type Round = RoundMetrics;

/** Whether the round is part of the path to the written network, and not a trial that was undone. */
export function isAccepted(round: Round): boolean {
  return round.rejected !== true;
}

/** The occluded copies of training images that the remaining accuracy of a guarded run is taken on. */
export interface OccludedCopies {
  /** How many; null where the run did not keep it. */
  readonly count: number | null;
}

/** Null where the rounds' remain samples are shown as they are. */
export function occludedCopies(metrics: RunMetrics): OccludedCopies | null {
  if (metrics.watch !== undefined) {
    const { occlusion, watched } = metrics.watch;
    return occlusion > 0 ? { count: watched } : null;
  }
  const { selection } = metrics.config;
  const guarded =
    typeof selection === "object" &&
    selection !== null &&
    "kind" in selection &&
    selection.kind === "guarded";
  const hidesNothing = guarded && "occlusion" in selection && selection.occlusion === 0;
  return guarded && !hidesNothing ? { count: null } : null;
}
