import type { RunMetrics } from "../evaluate/run-metrics.js";
import {
  formatCount,
  formatPercent,
  formatPoints,
  formatSeconds,
  formatShare,
  NOT_MEASURED,
} from "./format.js";
import { html, type SafeHtml } from "./html.js";
import { type ProbeVerdict, probeVerdict } from "./probe-verdict.js";
import { accuracyChange, totalSeconds } from "./summary.js";

interface Tile {
  readonly what: string;
  readonly figure: SafeHtml;
  readonly aside: string;
  readonly caution?: boolean;
}

function tile({ what, figure, aside, caution = false }: Tile): SafeHtml {
  return html`<div class="${caution ? "tile caution" : "tile"}"><div class="what">${what}</div><div class="figure">${figure}</div><div class="aside">${aside}</div></div>`;
}

function accuracyTile(metrics: RunMetrics, part: "forget" | "remain"): SafeHtml {
  const what = part === "forget" ? "Forgotten" : "Remaining";
  const change = accuracyChange(metrics, part);
  if (change === null) {
    return tile({
      what: `${what}, accuracy`,
      figure: html`${NOT_MEASURED}`,
      aside: "not measured",
    });
  }
  return tile({
    what: `${what}, ${change.set} accuracy`,
    figure: html`<small>${formatPercent(change.before)} →</small> ${formatPercent(change.after)}`,
    aside: `${formatPoints(change.after - change.before)} points`,
  });
}

const kProbeAside: Readonly<Record<ProbeVerdict["state"], string>> = {
  "not-probed": "what the features still hold is not known",
  "as-retrained": "no more than retrained",
  found: "still in the features",
  weakened: "less than before",
};

function probeTile(metrics: RunMetrics): SafeHtml {
  const { state, before, after, retrained } = probeVerdict(metrics);
  const was = before === null ? null : html`<small>${formatPercent(before)} →</small> `;
  const reference = retrained === null ? "" : `; retrained: ${formatPercent(retrained)}`;
  return tile({
    what: "Forgotten, found by a linear probe",
    figure: after === null ? html`not probed` : html`${was}${formatPercent(after)}`,
    aside: `${kProbeAside[state]}${reference}`,
    caution: state === "found",
  });
}

/** The figures that are read first. What the output says never stands without what the probe finds. */
export function tiles(metrics: RunMetrics): SafeHtml {
  const { masked } = metrics;
  return html`<div class="tiles">${accuracyTile(metrics, "forget")}${probeTile(metrics)}${accuracyTile(metrics, "remain")}${tile(
    {
      what: `Masked ${masked.unit}s`,
      figure: html`${formatShare(masked.ratio)}`,
      aside: `${formatCount(masked.units)} of ${formatCount(masked.total)}`,
    },
  )}${tile({
    what: "Time",
    figure: html`${formatSeconds(totalSeconds(metrics))}`,
    aside: `on ${metrics.device.used.slice(0, 40)}`,
  })}</div>`;
}
