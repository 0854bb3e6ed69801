import type { RunMetrics } from "../evaluate/run-metrics.js";
import { figure } from "./figure.js";
import { formatCount } from "./format.js";
import { EMPTY_HTML, html, type SafeHtml } from "./html.js";
import { plotFineTuning, plotRounds } from "./plots.js";
import { isAccepted, occludedCopies, type Round } from "./rounds.js";

function roundsCaption(metrics: RunMetrics): string {
  const rounds: readonly Round[] = metrics.rounds;
  const parts = [
    "The forgotten accuracy should fall while the remaining accuracy stays. The figures beside the marks are the share masked so far.",
  ];
  const copies = occludedCopies(metrics);
  if (copies !== null) {
    const count = copies.count === null ? "" : `${formatCount(copies.count)} `;
    parts.push(
      `The remaining accuracy is measured on ${count}occluded copies of training images, not on the images themselves.`,
    );
  }
  if (!rounds.every(isAccepted)) {
    parts.push("Hollow marks off the line are trials that were undone.");
  }
  if (rounds.some(({ probe }) => typeof probe?.forget === "number")) {
    parts.push(
      "The dashed line is what a linear probe still finds in the features: as long as it stays up, the class is hidden, not forgotten.",
    );
  }
  return parts.join(" ");
}

/** The rounds of masking and the epochs of fine-tuning as plots; empty when there were neither. */
export function courseSection(metrics: RunMetrics): SafeHtml {
  const plots = html`${figure(plotRounds(metrics), roundsCaption(metrics))}${figure(
    plotFineTuning(metrics),
    "Fine-tuning sees the remain set alone; the accuracy is that of its training samples.",
  )}`;
  return plots.markup === ""
    ? EMPTY_HTML
    : html`<section><h2>The course of the run</h2>${plots}</section>`;
}
