import { barX, gridX, text } from "@observablehq/plot";
import type { RunMetrics } from "../evaluate/run-metrics.js";
import { GRID, X_AXIS, X_AXIS_HEIGHT } from "./axes.js";
import { formatCount, formatShare } from "./format.js";
import { COLOUR } from "./palette.js";
import { drawPlot, PLOT_WIDTH } from "./svg.js";
import { heaviestRows, type TensorRow, tensorRows } from "./tensor-rows.js";
import { cleanText } from "./text.js";

const kMaxRows = 48;
const kRowHeight = 22;
const kMaxNameLength = 34;

function figures(row: TensorRow): string {
  return `${formatCount(row.masked)} of ${formatCount(row.total)}`;
}

function marksOf(rows: readonly TensorRow[]) {
  return [
    gridX({ ...GRID }),
    barX(rows, {
      x: (row: TensorRow) => 100 * (row.share ?? 0),
      y: "index",
      fill: COLOUR.after,
      ariaLabel: () => "share masked",
    }),
    text(rows, {
      frameAnchor: "right",
      y: "index",
      dx: 134,
      textAnchor: "end",
      fontVariant: "tabular-nums",
      text: figures,
      ariaLabel: () => "masked of candidates",
    }),
  ];
}

/** The share of each tensor's candidates that was masked, and the counts; null without candidates. At most 48 tensors. */
export function plotTensors(metrics: RunMetrics): string | null {
  const all = tensorRows(metrics.masked).filter((row) => row.total > 0);
  if (all.length === 0) {
    return null;
  }
  const rows = heaviestRows(all, kMaxRows);
  const names = new Map(rows.map((row) => [row.index, cleanText(row.name, kMaxNameLength)]));
  const largest = Math.max(...rows.map((row) => 100 * (row.share ?? 0)));
  const shown = rows.length < all.length ? ` (the ${rows.length} fullest of ${all.length})` : "";
  return drawPlot({
    title: `Masked ${metrics.masked.unit}s per tensor, in network order${shown}`,
    description: rows
      .map((row) => `${names.get(row.index)}: ${figures(row)}, ${formatShare(row.share)}`)
      .join("; "),
    legend: [
      {
        label: `share of the tensor's candidate ${metrics.masked.unit}s that is masked`,
        shape: "box",
        colour: COLOUR.after,
      },
    ],
    height: kRowHeight * rows.length + 50,
    panels: [
      {
        x: 0,
        width: PLOT_WIDTH,
        options: {
          marginLeft: 235,
          marginRight: 145,
          marginTop: 4,
          marginBottom: X_AXIS_HEIGHT,
          x: {
            domain: [0, largest > 0 ? largest : 1],
            nice: true,
            label: `masked ${metrics.masked.unit}s (% of the tensor)`,
            ...X_AXIS,
          },
          y: {
            type: "band",
            domain: rows.map((row) => row.index),
            label: null,
            tickSize: 0,
            padding: 0.25,
            tickFormat: (index: number) => names.get(index) ?? "",
          },
          marks: marksOf(rows),
        },
      },
    ],
  });
}
