import { gridY, rectY, ruleX, text } from "@observablehq/plot";
import type { RunMetrics } from "../evaluate/run-metrics.js";
import { GRID, X_AXIS, X_AXIS_HEIGHT, Y_AXIS } from "./axes.js";
import { formatCount, formatNumber } from "./format.js";
import { COLOUR } from "./palette.js";
import { binsOnAxis, type ScoreBin, scoreAxis, scoreBins } from "./score-bins.js";
import { drawPlot, PLOT_WIDTH } from "./svg.js";
import { cleanText } from "./text.js";

// The foot of the columns on a log axis: below one, so that a count of one is seen.
const kFoot = 0.7;
const kMaxCriterionLength = 40;

function columns(
  bins: readonly ScoreBin[],
  key: "count" | "masked",
  colour: string,
  label: string,
) {
  return rectY(
    bins.filter((bin) => bin[key] > 0),
    { x1: "from", x2: "to", y1: kFoot, y2: key, fill: colour, inset: 0.25, ariaLabel: () => label },
  );
}

function thresholdMarks(threshold: number | null) {
  if (threshold === null || !Number.isFinite(threshold)) {
    return [];
  }
  return [
    ruleX([threshold], {
      stroke: "currentColor",
      strokeWidth: 1.5,
      strokeDasharray: "5,4",
      ariaLabel: () => "threshold",
    }),
    text([threshold], {
      x: (value: number) => value,
      frameAnchor: "top",
      dy: -14,
      text: (value: number) => `threshold ${formatNumber(value)}`,
      ariaLabel: () => "threshold in figures",
    }),
  ];
}

/** The distribution of the scores of the last selection, counts on a log axis; null when it was not kept or is empty. */
export function plotScores(metrics: RunMetrics): string | null {
  const histogram = metrics.scores;
  const all = histogram === null ? [] : scoreBins(histogram);
  const axis = scoreAxis(all);
  const bins = binsOnAxis(all, axis);
  const most = Math.max(0, ...bins.map((bin) => bin.count));
  if (histogram === null || most === 0) {
    return null;
  }
  // A threshold below zero or at it has no place on a log axis.
  const threshold = axis === "log" && (histogram.threshold ?? 0) <= 0 ? null : histogram.threshold;
  const unit = metrics.masked.unit;
  const criterion = cleanText(metrics.masked.criterion, kMaxCriterionLength);
  const decades = Array.from({ length: Math.floor(Math.log10(most)) + 1 }, (_, i) => 10 ** i);
  const masked = bins.reduce((total, bin) => total + bin.masked, 0);
  return drawPlot({
    title: "Scores of the last selection",
    description: `${formatCount(masked)} masked ${unit}s lie at or above the threshold ${formatNumber(histogram.threshold)}`,
    legend: [
      { label: `all candidate ${unit}s`, shape: "box", colour: COLOUR.neutral },
      { label: "masked", shape: "box", colour: COLOUR.forgotten },
      ...(threshold === null
        ? []
        : [{ label: "threshold", shape: "dash", colour: "currentColor" } as const]),
    ],
    height: 300,
    panels: [
      {
        x: 0,
        width: PLOT_WIDTH,
        options: {
          marginLeft: 70,
          marginRight: 20,
          marginTop: 24,
          marginBottom: X_AXIS_HEIGHT,
          x: {
            type: axis,
            label: `score (${criterion}${axis === "log" ? ", log axis" : ""})`,
            ...X_AXIS,
            ...(axis === "log" ? { ticks: 8 } : {}),
            tickFormat: (value: number) => formatNumber(value, 3),
          },
          y: {
            type: "log",
            domain: [kFoot, 1.5 * most],
            label: `number of ${unit}s (log axis)`,
            ...Y_AXIS,
            ticks: decades,
            tickFormat: (value: number) => formatCount(value),
          },
          marks: [
            gridY(decades, { ...GRID }),
            columns(bins, "count", COLOUR.neutral, "all candidates"),
            columns(bins, "masked", COLOUR.forgotten, "masked"),
            ...thresholdMarks(threshold),
          ],
        },
      },
    ],
  });
}
