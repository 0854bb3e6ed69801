import { dot, gridX, gridY, line, type Markish, ruleY, text } from "@observablehq/plot";
import { GRID, X_AXIS, X_AXIS_HEIGHT, Y_AXIS } from "./axes.js";
import { formatNumber } from "./format.js";
import { COLOUR } from "./palette.js";
import { placeLabels, type Spot } from "./place-labels.js";
import { drawPlot, type LegendShape, type Panel } from "./svg.js";

/** A measured piece of work: operations for each byte that it has to move, and 10⁹ operations a second. */
export interface RooflinePoint {
  readonly name: string;
  /** Points of one group share a mark. */
  readonly group: string;
  readonly intensity: number;
  readonly gflops: number;
}

export interface Roofline {
  readonly title: string;
  readonly points: readonly RooflinePoint[];
  /** The machine's GEMM, 10⁹ operations a second. */
  readonly gemmGflops: number;
  /** The machine's copy, 10⁹ bytes a second, read and written. */
  readonly copyGBps: number;
}

const kPlotWidth = 560;
const kListWidth = 320;
const kMargin = { left: 66, right: 16, top: 12, bottom: X_AXIS_HEIGHT } as const;
const kRowHeight = 20;
const kLeastHeight = 380;
const kLabelBox = { width: 15, height: 12 } as const;
const kMarks = [
  { symbol: "circle", shape: "dot", colour: COLOUR.after },
  { symbol: "triangle", shape: "triangle", colour: COLOUR.forgotten },
  { symbol: "diamond", shape: "diamond", colour: COLOUR.probe },
] as const satisfies readonly { symbol: string; shape: LegendShape; colour: string }[];

interface Numbered extends RooflinePoint {
  readonly number: number;
  readonly mark: (typeof kMarks)[number];
}

type Domain = readonly [least: number, most: number];

interface Frame {
  readonly height: number;
  readonly x: Domain;
  readonly y: Domain;
}

// Whole powers of two around the values, with some room.
function powersAround(values: readonly number[]): Domain {
  const least = Math.floor(Math.log2(Math.min(...values)) - 0.4);
  const most = Math.ceil(Math.log2(Math.max(...values)) + 0.4);
  return [2 ** least, 2 ** most];
}

function ticksOf([least, most]: Domain): readonly number[] {
  const count = Math.round(Math.log2(most / least));
  const step = Math.max(1, Math.ceil(count / 9));
  return Array.from({ length: Math.floor(count / step) + 1 }, (_, i) => least * 2 ** (step * i));
}

function numbered(points: readonly RooflinePoint[]): readonly Numbered[] {
  const groups = [...new Set(points.map(({ group }) => group))];
  return points.map((point, i) => {
    const index = groups.indexOf(point.group) % kMarks.length;
    return { ...point, number: i + 1, mark: kMarks[index] as (typeof kMarks)[number] };
  });
}

/** The frame's pixels of a point, as the library's log scales place it. */
function pixelOf({ intensity, gflops }: RooflinePoint, frame: Frame): Spot {
  const share = (value: number, [least, most]: Domain): number =>
    Math.log(value / least) / Math.log(most / least);
  const width = kPlotWidth - kMargin.left - kMargin.right;
  const height = frame.height - kMargin.top - kMargin.bottom;
  return { x: width * share(intensity, frame.x), y: height * (1 - share(gflops, frame.y)) };
}

function roof({ gemmGflops, copyGBps }: Roofline, { x, y }: Frame): Markish[] {
  const ridge = gemmGflops / copyGBps;
  const start = Math.max(x[0], y[0] / copyGBps);
  const corners = [
    { intensity: start, gflops: copyGBps * start },
    { intensity: ridge, gflops: gemmGflops },
    { intensity: x[1], gflops: gemmGflops },
  ].filter(({ intensity }) => intensity >= start && intensity <= x[1]);
  // The ridge lies left of the plot where everything is bound by arithmetic.
  if (ridge < start) corners.unshift({ intensity: x[0], gflops: gemmGflops });
  const label = (what: string, value: string) => `${what} ${value}`;
  return [
    line(corners, {
      x: "intensity",
      y: "gflops",
      stroke: COLOUR.before,
      strokeWidth: 2,
      ariaLabel: () => "ceilings",
    }),
    text([{ intensity: x[1], gflops: gemmGflops }], {
      x: "intensity",
      y: "gflops",
      text: () => label("GEMM", `${formatNumber(gemmGflops, 3)} GFLOP/s`),
      textAnchor: "end",
      dx: -4,
      dy: -8,
    }),
    text([start], {
      x: (value: number) => value,
      y: (value: number) => Math.min(gemmGflops, copyGBps * value),
      text: () => label("copy", `${formatNumber(copyGBps, 3)} GB/s`),
      textAnchor: "start",
      dx: 10,
      dy: 6,
    }),
  ];
}

function dots(points: readonly Numbered[], frame: Frame): Markish[] {
  const spots = points.map((point) => pixelOf(point, frame));
  const places = placeLabels(spots, kLabelBox);
  return points.flatMap((point, i) => {
    const spot = spots[i] as Spot;
    const place = places[i] as Spot;
    const shared = { x: "intensity", y: "gflops" } as const;
    return [
      dot([point], {
        ...shared,
        r: 4.5,
        symbol: point.mark.symbol,
        fill: point.mark.colour,
        ariaLabel: () => point.name,
      }),
      text([point], {
        ...shared,
        text: (p: Numbered) => String(p.number),
        dx: place.x - spot.x,
        dy: place.y - spot.y,
        fontSize: 11,
        fill: "currentColor",
        stroke: COLOUR.surface,
        strokeWidth: 3,
        ariaLabel: () => "number in the list",
      }),
    ];
  });
}

function chart(roofline: Roofline, points: readonly Numbered[], frame: Frame): Panel {
  const power = (value: number) => formatNumber(value, 3);
  return {
    x: 0,
    width: kPlotWidth,
    options: {
      marginLeft: kMargin.left,
      marginRight: kMargin.right,
      marginTop: kMargin.top,
      marginBottom: kMargin.bottom,
      x: {
        type: "log",
        base: 2,
        domain: [...frame.x],
        label: "operational intensity (operations a byte, log axis)",
        ...X_AXIS,
        ticks: [...ticksOf(frame.x)],
        tickFormat: power,
      },
      y: {
        type: "log",
        base: 2,
        domain: [...frame.y],
        label: "GFLOP/s (log axis)",
        ...Y_AXIS,
        ticks: [...ticksOf(frame.y)],
        tickFormat: power,
      },
      marks: [
        gridX([...ticksOf(frame.x)], { ...GRID }),
        gridY([...ticksOf(frame.y)], { ...GRID }),
        ruleY([frame.y[0]], { stroke: "currentColor", strokeOpacity: 0.4 }),
        ...roof(roofline, frame),
        ...dots(points, frame),
      ],
    },
  };
}

function list(points: readonly Numbered[], height: number): Panel {
  const row = (point: Numbered) => kRowHeight * (point.number + 0.5);
  const column = (
    x: number,
    textAnchor: "start" | "end",
    value: (point: Numbered) => string,
  ): Markish => text(points, { x: () => x, y: row, text: value, textAnchor, fontSize: 12 });
  return {
    x: kPlotWidth + 16,
    width: kListWidth,
    options: {
      margin: 0,
      x: { type: "identity", axis: null },
      y: { type: "identity", axis: null },
      height,
      marks: [
        column(22, "end", ({ number }) => String(number)),
        column(34, "start", ({ name }) => name),
        column(kListWidth, "end", ({ gflops }) => formatNumber(gflops, 3)),
        text(["GFLOP/s"], { x: () => kListWidth, y: () => kRowHeight / 2, textAnchor: "end" }),
      ],
    },
  };
}

/**
 * Measured work under the two ceilings of its machine: what a byte moved is worth at most, and what the arithmetic reaches
 * at most. Points are numbered in the list beside, which gives their GFLOP/s. Null without points.
 *
 * Source: Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009.
 */
export function plotRoofline(roofline: Roofline): string | null {
  const points = numbered(
    roofline.points.filter(({ intensity, gflops }) => intensity > 0 && gflops > 0),
  );
  if (points.length === 0) return null;
  const { gemmGflops, copyGBps, title } = roofline;
  const height = Math.max(kLeastHeight, kRowHeight * (points.length + 1));
  const frame: Frame = {
    height,
    x: powersAround([...points.map(({ intensity }) => intensity), gemmGflops / copyGBps]),
    y: powersAround([...points.map(({ gflops }) => gflops), gemmGflops]),
  };
  const groups = new Map(points.map(({ group, mark }) => [group, mark]));
  return drawPlot({
    title,
    description: [
      `GEMM ceiling ${formatNumber(gemmGflops, 3)} GFLOP/s, copy ceiling ${formatNumber(copyGBps, 3)} GB/s`,
      ...points.map(
        ({ name, gflops, intensity }) =>
          `${name}: ${formatNumber(gflops, 3)} GFLOP/s at ${formatNumber(intensity, 3)} operations a byte`,
      ),
    ].join("; "),
    legend: [
      ...[...groups].map(([label, { shape, colour }]) => ({ label, shape, colour })),
      { label: "ceilings, measured in the same run", shape: "line", colour: COLOUR.before },
    ],
    height,
    panels: [chart(roofline, points, frame), list(points, height)],
  });
}
