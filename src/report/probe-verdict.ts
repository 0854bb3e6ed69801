import type { RunMetrics } from "../evaluate/run-metrics.js";

// The probe "still finds" a class when it keeps at least half of its accuracy and is well above guessing.
const kProbeKept = 0.5;
const kProbeAboveGuessing = 2;
// Two networks trained from different seeds differ by about this much.
const kRetrainedTolerance = 0.02;

/** What the linear probe says of the forgotten class in the written network. */
export interface ProbeVerdict {
  /**
   * `not-probed`: nobody looked; `as-retrained`: no more is found than in a network retrained without the class; `found`:
   * the class is still in the features; `weakened`: less is found than before, and nothing better can be said.
   */
  readonly state: "not-probed" | "as-retrained" | "found" | "weakened";
  /** The probe's test accuracies on the forgotten class, fractions; null where not probed. */
  readonly before: number | null;
  readonly after: number | null;
  readonly retrained: number | null;
}

/** Accuracy of guessing among the classes; null when they are not known. */
export function guessing(metrics: RunMetrics): number | null {
  const classes = metrics.data.classes.length;
  return classes > 0 ? 1 / classes : null;
}

/** The one rule by which tiles, findings and captions judge whether a class that the output lost is still in the features. */
export function probeVerdict(metrics: RunMetrics): ProbeVerdict {
  const before = metrics.before.probe?.forget ?? null;
  const after = metrics.after.probe?.forget ?? null;
  const retrained = metrics.retrained?.probe?.forget ?? null;
  const figures = { before, after, retrained };
  if (after === null) {
    return { state: "not-probed", ...figures };
  }
  if (retrained !== null && after <= retrained + kRetrainedTolerance) {
    return { state: "as-retrained", ...figures };
  }
  const floor = kProbeAboveGuessing * (guessing(metrics) ?? 0);
  const found = after >= Math.max(kProbeKept * (before ?? 1), floor);
  return { state: found ? "found" : "weakened", ...figures };
}
