import { hasNewHead, type RunMetrics } from "../evaluate/run-metrics.js";
import { formatCount, formatPercent, formatPoints, formatSeconds, formatShare } from "./format.js";
import { type HtmlValue, html, named, type SafeHtml } from "./html.js";
import { isAccepted, type Round } from "./rounds.js";

const kMaxClasses = 6;
const kMaxRequestLength = 60;

function plural(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** The names of the forgotten classes, a few of them; the request as it was written where no class is meant. */
export function whatWasAsked(metrics: RunMetrics): SafeHtml {
  const { forget, forgetClasses, classes } = metrics.data;
  if (forgetClasses.length === 0) {
    return html`the samples of ${named(forget, kMaxRequestLength)}`;
  }
  const names = forgetClasses
    .slice(0, kMaxClasses)
    .map((index, i) => html`${i > 0 ? ", " : ""}“${named(classes[index] ?? String(index), 40)}”`);
  const rest = forgetClasses.length - names.length;
  return html`the ${forgetClasses.length === 1 ? "class" : "classes"} ${names}${rest > 0 ? ` and ${rest} more` : ""}`;
}

/** Seconds of all stages; null when none was timed. */
export function totalSeconds(metrics: RunMetrics): number | null {
  return metrics.stages.length === 0
    ? null
    : metrics.stages.reduce((total, stage) => total + stage.seconds, 0);
}

/** Whether the written network was fine-tuned after masking. */
export function wasFineTuned(metrics: RunMetrics): boolean {
  return metrics.fineTuning.length > 0 || (metrics.maskedOnly !== null && !hasNewHead(metrics));
}

function asked(metrics: RunMetrics): SafeHtml {
  const { forgetTrain, remainTrain } = metrics.data.counts;
  const share = html` (${formatCount(forgetTrain)} of ${plural(forgetTrain + remainTrain, "training sample")})`;
  return html`The network ${named(metrics.model.arch, 60)} was asked to forget ${whatWasAsked(metrics)}${
    forgetTrain + remainTrain > 0 ? share : null
  }. `;
}

function howManyRounds(rounds: readonly Round[]): string {
  // Round 0 is the look before anything is masked.
  const steps = rounds.filter(({ round }) => round > 0);
  const accepted = steps.filter(isAccepted).length;
  const undone = steps.length - accepted;
  const trials = undone > 0 ? ` (${plural(undone, "more trial")} undone)` : "";
  return steps.length > 1 ? ` in ${plural(accepted, "round")}${trials}` : "";
}

function masked(metrics: RunMetrics): SafeHtml {
  const { units, total, unit, ratio, criterion } = metrics.masked;
  if (units === 0) {
    return html`No ${unit} was masked${tuned(metrics)}. `;
  }
  const inRounds = howManyRounds(metrics.rounds);
  return html`${formatCount(units)} of ${plural(total, unit)} (${formatShare(ratio)}), chosen by the criterion ${named(
    criterion,
    40,
  )}${inRounds}, ${units === 1 ? "was" : "were"} set to zero${tuned(metrics)}. `;
}

function tuned(metrics: RunMetrics): string {
  const head = hasNewHead(metrics) ? ", the head was fitted anew on remain samples" : "";
  if (!wasFineTuned(metrics)) {
    return `${head}; nothing was fine-tuned`;
  }
  const epochs = metrics.fineTuning.length;
  return epochs === 0
    ? `${head}, and the network was then fine-tuned`
    : `${head}, and the network was then fine-tuned for ${plural(epochs, "epoch")}`;
}

interface Change {
  readonly set: "test" | "training";
  readonly before: number;
  readonly after: number;
}

/** The change on the test samples; on the training samples where there is no such split; null where neither was measured. */
export function accuracyChange(metrics: RunMetrics, part: "forget" | "remain"): Change | null {
  const { before, after } = metrics;
  for (const [set, key] of [
    ["test", "test"],
    ["training", "train"],
  ] as const) {
    const [was, is] = [before[part][key], after[part][key]];
    if (was !== null && is !== null) {
      return { set, before: was, after: is };
    }
  }
  return null;
}

function outcome(metrics: RunMetrics): HtmlValue {
  const forget = accuracyChange(metrics, "forget");
  const remain = accuracyChange(metrics, "remain");
  return [
    forget === null
      ? html`The accuracy on what was to be forgotten was not measured. `
      : html`On ${forget.set} samples of what was to be forgotten, accuracy went from <b>${formatPercent(forget.before)}</b> to <b>${formatPercent(forget.after)}</b>. `,
    remain === null
      ? html`What it cost the rest was not measured. `
      : html`Accuracy on everything else went from <b>${formatPercent(remain.before)}</b> to <b>${formatPercent(remain.after)}</b> on ${remain.set} samples (${formatPoints(remain.after - remain.before)} points). `,
  ];
}

function reference(metrics: RunMetrics): SafeHtml | null {
  const { retrained } = metrics;
  return retrained === null
    ? null
    : html`A network retrained without those samples scores ${formatPercent(retrained.forget.test ?? retrained.forget.train)} and ${formatPercent(retrained.remain.test ?? retrained.remain.train)}. `;
}

/** One paragraph in plain words: what was asked, what was masked, what it cost. */
export function summaryParagraph(metrics: RunMetrics): SafeHtml {
  const seconds = totalSeconds(metrics);
  const time =
    seconds === null
      ? null
      : html`The run took ${formatSeconds(seconds)} on ${named(metrics.device.used, 40)}.`;
  return html`<p class="lead">${asked(metrics)}${masked(metrics)}${outcome(metrics)}${reference(metrics)}${time}</p>`;
}
