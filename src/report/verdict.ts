import type { RunMetrics } from "../evaluate/run-metrics.js";
import { classRows, worstRemainingClass } from "./class-rows.js";
import { formatPercent, formatShare } from "./format.js";
import { guessing, type ProbeVerdict, probeVerdict } from "./probe-verdict.js";
import { lastQuarter } from "./tensor-groups.js";
import { tensorRows } from "./tensor-rows.js";
import { cleanText } from "./text.js";

/** Something that the reader must not miss. */
export interface Finding {
  readonly level: "good" | "info" | "caution";
  readonly title: string;
  readonly text: string;
}

const kConcentrated = 0.5;
const kNextToOutput = 0.9;
const kMaxNameLength = 40;
// The keys under which a configuration may state the accuracy to reach.
const kTargetKeys = ["target", "targetAccuracy", "forgetTarget"];

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

interface Reached {
  readonly reached: boolean;
  readonly text: string;
}

function targetReached(metrics: RunMetrics): Reached | null {
  const target = targetOf(metrics);
  const onTrain = metrics.after.forget.train !== null;
  const accuracy = metrics.after.forget.train ?? metrics.after.forget.test;
  if (target === null || accuracy === null) {
    return null;
  }
  const set = onTrain ? "training" : "test";
  return {
    reached: accuracy <= target.accuracy,
    text:
      `The written network still labels ${formatPercent(accuracy)} of the forget ${set} samples correctly; ` +
      `${target.origin} is ${formatPercent(target.accuracy)}.`,
  };
}

function compared(retrained: number | null): string {
  return retrained === null
    ? " There is no retrained network here to compare with."
    : ` On a network retrained without it, the probe reaches ${formatPercent(retrained)}.`;
}

function probeText({ before, after, retrained }: ProbeVerdict): string {
  const was = before === null ? "" : ` (before: ${formatPercent(before)})`;
  return `A linear probe on the features recognises it in ${formatPercent(after)} of the test samples${was}.${compared(retrained)}`;
}

function probeFinding(probe: ProbeVerdict): Finding {
  switch (probe.state) {
    case "not-probed":
      return {
        level: "info",
        title: "The features were not probed.",
        text: "This run did not measure whether a linear probe still finds what was to be forgotten inside the network.",
      };
    case "as-retrained":
      return {
        level: "good",
        title: "The features tell no more than those of a retrained network.",
        text: probeText(probe),
      };
    case "found":
      return {
        level: "caution",
        title: "Still present in the features.",
        text: `${probeText(probe)} Whoever has the weights can read it back.`,
      };
    case "weakened":
      return { level: "info", title: "The features were changed.", text: probeText(probe) };
  }
}

/** Whether the output no longer says what a probe still finds in the features. */
export function isHidden(metrics: RunMetrics): boolean {
  return targetReached(metrics)?.reached === true && probeVerdict(metrics).state === "found";
}

// What the output says and what the features hold belong together: a reached target is good news only where a probe looked
// and did not find the class again.
function forgettingFindings(metrics: RunMetrics): Finding[] {
  const target = targetReached(metrics);
  const probe = probeVerdict(metrics);
  if (target === null) {
    return [probeFinding(probe)];
  }
  if (!target.reached) {
    return [
      { level: "caution", title: "The target was not reached.", text: target.text },
      probeFinding(probe),
    ];
  }
  if (isHidden(metrics)) {
    return [
      {
        level: "caution",
        title: "Forgotten at the output only.",
        text: `${target.text} ${probeText(probe)} Whoever has the weights can read it back.`,
      },
    ];
  }
  const looked = probe.state !== "not-probed";
  return [
    {
      level: looked ? "good" : "info",
      title: looked ? "The target was reached." : "The target was reached at the output.",
      text: target.text,
    },
    probeFinding(probe),
  ];
}

// What was masked next to the output leaves the features before it as they were.
function nextToOutputFinding(metrics: RunMetrics): Finding | null {
  const { unit, units } = metrics.masked;
  const rows = tensorRows(metrics.masked).filter((row) => row.total > 0);
  const last = lastQuarter(rows);
  const inLast = last.reduce((sum, row) => sum + row.masked, 0);
  if (units === 0 || inLast <= kNextToOutput * units) {
    return null;
  }
  const { state } = probeVerdict(metrics);
  const place = last.length === 1 ? "the last tensor" : `the last ${last.length} tensors`;
  return {
    level: state === "found" || state === "not-probed" ? "caution" : "info",
    title: "The mask sits next to the output.",
    text: `${formatShare(inLast / units)} of the masked ${unit}s are in ${place} of ${rows.length}; what comes before was hardly touched.`,
  };
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

/** What must be said plainly: is it forgotten at the output and in the features, who paid, where does the mask sit. */
export function findings(metrics: RunMetrics): Finding[] {
  const { train, test } = metrics.after.forget;
  const all = [
    ...(train === null && test === null ? [] : forgettingFindings(metrics)),
    worstFinding(metrics),
    nextToOutputFinding(metrics) ?? concentrationFinding(metrics),
  ];
  return all.filter((finding) => finding !== null);
}
