import type { RunMetrics } from "../evaluate/run-metrics.js";
import { classRows, worstRemainingClass } from "./class-rows.js";
import { formatPercent, formatShare } from "./format.js";
import { tensorRows } from "./tensor-rows.js";
import { cleanText } from "./text.js";

/** Something that the reader must not miss. */
export interface Finding {
  readonly level: "good" | "info" | "caution";
  readonly title: string;
  readonly text: string;
}

// The probe "still finds" a class when it keeps at least half of its accuracy and is well above guessing.
const kProbeKept = 0.5;
const kProbeAboveGuessing = 2;
// Two networks trained from different seeds differ by about this much.
const kRetrainedTolerance = 0.02;
const kConcentrated = 0.5;
const kMaxNameLength = 40;
// The keys under which a configuration may state the accuracy to reach.
const kTargetKeys = ["target", "targetAccuracy", "forgetTarget"];

/** Accuracy of guessing among the classes; null when they are not known. */
export function guessing(metrics: RunMetrics): number | null {
  const classes = metrics.data.classes.length;
  return classes > 0 ? 1 / classes : null;
}

interface Target {
  readonly accuracy: number;
  readonly origin: string;
}

// A number, or an object that holds one under `accuracy`.
function statedAccuracy(value: unknown): unknown {
  return typeof value === "object" && value !== null && "accuracy" in value
    ? value.accuracy
    : value;
}

// Without a stated target: a forgotten class is to be found no more often than by guessing. Samples drawn from all classes
// have no such level, since a network that never saw them still knows their kind.
function targetOf(metrics: RunMetrics): Target | null {
  for (const key of kTargetKeys) {
    const value = statedAccuracy(metrics.config[key]);
    if (typeof value === "number" && value >= 0 && value <= 1) {
      return { accuracy: value, origin: "the target of the configuration" };
    }
  }
  const chance = guessing(metrics);
  return chance === null || metrics.data.forgetClasses.length === 0
    ? null
    : { accuracy: chance, origin: `guessing among ${metrics.data.classes.length} classes` };
}

function targetFinding(metrics: RunMetrics): Finding | null {
  const target = targetOf(metrics);
  const onTrain = metrics.after.forget.train !== null;
  const accuracy = metrics.after.forget.train ?? metrics.after.forget.test;
  if (target === null || accuracy === null) {
    return null;
  }
  const reached = accuracy <= target.accuracy;
  const set = onTrain ? "training" : "test";
  return {
    level: reached ? "good" : "caution",
    title: reached ? "The target was reached." : "The target was not reached.",
    text:
      `The written network still labels ${formatPercent(accuracy)} of the forget ${set} samples correctly; ` +
      `${target.origin} is ${formatPercent(target.accuracy)}.`,
  };
}

function probeFinding(metrics: RunMetrics): Finding {
  const after = metrics.after.probe?.forget ?? null;
  if (after === null) {
    return {
      level: "info",
      title: "The features were not probed.",
      text: "This run did not measure whether a linear probe still finds what was to be forgotten inside the network.",
    };
  }
  const before = metrics.before.probe?.forget ?? null;
  const retrained = metrics.retrained?.probe?.forget ?? null;
  const was = before === null ? "" : ` (before: ${formatPercent(before)})`;
  const found = `A linear probe on the features recognises it in ${formatPercent(after)} of the test samples${was}.`;
  if (retrained !== null && after <= retrained + kRetrainedTolerance) {
    return {
      level: "good",
      title: "The features tell no more than those of a retrained network.",
      text: `${found} On the network retrained without it, the probe reaches ${formatPercent(retrained)}.`,
    };
  }
  const floor = kProbeAboveGuessing * (guessing(metrics) ?? 0);
  if (after >= Math.max(kProbeKept * (before ?? 1), floor)) {
    return {
      level: "caution",
      title: "Hidden at the output, still present in the features.",
      text: `${found} Whoever has the weights can read it back.${compared(retrained)}`,
    };
  }
  return { level: "info", title: "The features were changed.", text: found + compared(retrained) };
}

function compared(retrained: number | null): string {
  return retrained === null
    ? " There is no retrained network here to compare with."
    : ` On a network retrained without it, the probe reaches ${formatPercent(retrained)}.`;
}

// Masking the classifier's row of a class hides it and leaves the features as they were: most of a mask in one tensor is a sign.
function concentrationFinding(metrics: RunMetrics): Finding | null {
  const { masked } = metrics;
  const rows = tensorRows(masked);
  const heaviest = rows.reduce((most, row) => Math.max(most, row.masked), 0);
  const row = rows.find((candidate) => candidate.masked === heaviest);
  if (row === undefined || rows.length < 2 || heaviest <= kConcentrated * masked.units) {
    return null;
  }
  const place = row.index === rows.length - 1 ? "the last tensor" : "one tensor";
  return {
    level: "info",
    title: `Most of the mask is in ${place}.`,
    text: `${formatShare(heaviest / masked.units)} of the masked ${masked.unit}s are in one tensor of ${rows.length}; where they fall is shown below.`,
  };
}

function worstFinding(metrics: RunMetrics): Finding | null {
  const worst = worstRemainingClass(classRows(metrics));
  if (worst === null || worst.before === null || worst.after === null) {
    return null;
  }
  return {
    level: "info",
    title: `The remaining class that lost most is “${cleanText(worst.name, kMaxNameLength)}”.`,
    text: `Its test accuracy went from ${formatPercent(worst.before)} to ${formatPercent(worst.after)}.`,
  };
}

/** What must be said plainly: was the target reached, what does the probe find, who paid, where does the mask sit. */
export function findings(metrics: RunMetrics): Finding[] {
  const all = [
    targetFinding(metrics),
    metrics.after.forget.train === null && metrics.after.forget.test === null
      ? null
      : probeFinding(metrics),
    worstFinding(metrics),
    concentrationFinding(metrics),
  ];
  return all.filter((finding) => finding !== null);
}
