import { barX, dot, gridX, ruleY, text } from "@observablehq/plot";
import type { RunMetrics } from "../evaluate/run-metrics.js";
import { GRID, X_AXIS, X_AXIS_HEIGHT } from "./axes.js";
import { type ClassRow, classRows } from "./class-rows.js";
import { formatPercent } from "./format.js";
import { COLOUR } from "./palette.js";
import { drawPlot, type LegendEntry, PLOT_WIDTH } from "./svg.js";
import { cleanText } from "./text.js";

const kMaxRows = 40;
const kRowHeight = 28;
const kMaxNameLength = 22;

function change(row: ClassRow): number {
  return row.forgotten ? Number.POSITIVE_INFINITY : Math.abs((row.after ?? 0) - (row.before ?? 0));
}

// With hundreds of classes: the forgotten ones and those that changed most, in the order of the data.
function chooseRows(rows: readonly ClassRow[]): ClassRow[] {
  const chosen = rows.toSorted((a, b) => change(b) - change(a)).slice(0, kMaxRows);
  return chosen.sort((a, b) => a.index - b.index);
}

function legendOf(rows: readonly ClassRow[]): LegendEntry[] {
  const has = (key: "masked" | "retrained") => rows.some((row) => row[key] !== null);
  return [
    { label: "before", shape: "ring", colour: COLOUR.before },
    ...(has("masked")
      ? [{ label: "masked only", shape: "triangle", colour: COLOUR.masked } as const]
      : []),
    { label: "after", shape: "dot", colour: COLOUR.after },
    ...(has("retrained")
      ? [{ label: "retrained", shape: "diamond", colour: COLOUR.retrained } as const]
      : []),
    ...(rows.some((row) => row.forgotten)
      ? [
          {
            label: "after, forgotten class (shaded)",
            shape: "dot",
            colour: COLOUR.forgotten,
          } as const,
        ]
      : []),
  ];
}

function percent(value: number | null): number | null {
  return value === null ? null : 100 * value;
}

function figures(rows: readonly ClassRow[], fontWeight: number) {
  return text(rows, {
    frameAnchor: "right",
    y: "index",
    dx: 118,
    textAnchor: "end",
    fontVariant: "tabular-nums",
    fontWeight,
    text: (row: ClassRow) => `${formatPercent(row.before)} → ${formatPercent(row.after)}`,
    ariaLabel: () => "before and after in figures",
  });
}

function marksOf(rows: readonly ClassRow[]) {
  const y = "index";
  const measured = (key: "before" | "masked" | "after" | "retrained") =>
    rows.filter((row) => row[key] !== null);
  const spans = rows.filter((row) => row.before !== null && row.after !== null);
  return [
    barX(
      rows.filter((row) => row.forgotten),
      {
        x1: 0,
        x2: 100,
        y,
        fill: COLOUR.forgotten,
        fillOpacity: 0.1,
        ariaLabel: () => "forgotten class",
      },
    ),
    gridX({ ...GRID }),
    ruleY(spans, {
      x1: (row: ClassRow) => percent(row.before),
      x2: (row: ClassRow) => percent(row.after),
      y,
      stroke: COLOUR.neutral,
      strokeWidth: 3,
    }),
    dot(measured("retrained"), {
      x: (row: ClassRow) => percent(row.retrained),
      y,
      symbol: "diamond",
      r: 6,
      fill: COLOUR.retrained,
      ariaLabel: () => "retrained",
    }),
    dot(measured("masked"), {
      x: (row: ClassRow) => percent(row.masked),
      y,
      symbol: "triangle",
      r: 5,
      fill: COLOUR.masked,
      ariaLabel: () => "masked only",
    }),
    dot(measured("before"), {
      x: (row: ClassRow) => percent(row.before),
      y,
      r: 5,
      stroke: COLOUR.before,
      strokeWidth: 2,
      fill: COLOUR.surface,
      ariaLabel: () => "before",
    }),
    dot(measured("after"), {
      x: (row: ClassRow) => percent(row.after),
      y,
      r: 5.5,
      fill: (row: ClassRow) => (row.forgotten ? COLOUR.forgotten : COLOUR.after),
      ariaLabel: () => "after",
    }),
    figures(
      rows.filter((row) => !row.forgotten),
      400,
    ),
    figures(
      rows.filter((row) => row.forgotten),
      700,
    ),
  ];
}

/** Test accuracy of every class before and after, as a dumbbell; null when no class was tested. At most 40 classes. */
export function plotClasses(metrics: RunMetrics): string | null {
  const all = classRows(metrics);
  if (all.length === 0) {
    return null;
  }
  const rows = chooseRows(all);
  const names = new Map(rows.map((row) => [row.index, cleanText(row.name, kMaxNameLength)]));
  const shown =
    rows.length < all.length
      ? ` (${rows.length} of ${all.length} classes: those that changed most)`
      : "";
  return drawPlot({
    title: `Test accuracy per class, before and after${shown}`,
    description: rows
      .map(
        (row) =>
          `${names.get(row.index)}: ${formatPercent(row.before)} to ${formatPercent(row.after)}`,
      )
      .join("; "),
    legend: legendOf(rows),
    height: kRowHeight * rows.length + 50,
    panels: [
      {
        x: 0,
        width: PLOT_WIDTH,
        options: {
          marginLeft: 175,
          marginRight: 132,
          marginTop: 4,
          marginBottom: X_AXIS_HEIGHT,
          x: {
            domain: [0, 100],
            label: "test accuracy (%)",
            ...X_AXIS,
          },
          y: {
            type: "band",
            domain: rows.map((row) => row.index),
            label: null,
            tickSize: 0,
            padding: 0.12,
            tickFormat: (index: number) => names.get(index) ?? "",
          },
          marks: marksOf(rows),
        },
      },
    ],
  });
}
