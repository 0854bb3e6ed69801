import type { RoundMetrics, RunMetrics } from "../evaluate/run-metrics.js";

/** A round as the report reads it: what a run did not measure is absent or null. */
export type Round = RoundMetrics & {
  /** Share of the watched remain samples that were right before and are wrong now, and the reverse. */
  readonly lost?: number | null;
  readonly gained?: number | null;
  /** A step that was undone. */
  readonly rejected?: boolean;
  /** The linear probe's accuracies in this round, as fractions. */
  readonly probe?: { readonly forget: number; readonly remain: number } | null;
};

/** Whether the round is part of the path to the written network, and not a trial that was undone. */
export function isAccepted(round: Round): boolean {
  return round.rejected !== true;
}

type Watched = RunMetrics & {
  readonly watch?: { readonly watched: number; readonly occlusion: number };
};

/** The occluded copies of training images that the remaining accuracy of a guarded run is taken on. */
export interface OccludedCopies {
  /** How many; null where the run did not keep it. */
  readonly count: number | null;
}

/** Null where the rounds' remain samples are shown as they are. */
export function occludedCopies(metrics: Watched): OccludedCopies | null {
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
