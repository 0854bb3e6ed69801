import { dot, gridX, gridY, line } from "@observablehq/plot";
import { GRID, X_AXIS, X_AXIS_HEIGHT, Y_AXIS } from "./axes.js";
import { formatNumber, formatSeconds } from "./format.js";
import { COLOUR } from "./palette.js";
import { drawPlot, PLOT_WIDTH } from "./svg.js";

export interface DoublingPoint {
  readonly size: number;
  readonly seconds: number;
}

export interface DoublingPlot {
  readonly title: string;
  /** What grows, for the axis: "samples". */
  readonly axis: string;
  readonly points: readonly DoublingPoint[];
  /** Of log seconds over log size. */
  readonly logSlope: number | null;
}

const kHeight = 320;

function shortCount(size: number): string {
  if (size >= 1e9) return `${formatNumber(size / 1e9, 3)} G`;
  if (size >= 1e6) return `${formatNumber(size / 1e6, 3)} M`;
  return size >= 1e4 ? `${formatNumber(size / 1e3, 3)} k` : formatNumber(size);
}

function domainOf(values: readonly number[]): [number, number] {
  return [Math.min(...values) / 1.3, Math.max(...values) * 1.3];
}

// 1, 2, 5, 10, … within the domain.
function ticksWithin([least, most]: readonly [number, number]): number[] {
  const first = Math.floor(Math.log10(least));
  const decades = Array.from(
    { length: Math.ceil(Math.log10(most)) - first + 1 },
    (_, i) => first + i,
  );
  const ticks = decades.flatMap((decade) => [1, 2, 5].map((digit) => digit * 10 ** decade));
  return ticks.filter((tick) => tick >= least && tick <= most);
}

/** Time against size on log axes, beside the line of linear cost through the first point. Null below two sizes. */
export function plotDoubling({ title, axis, points, logSlope }: DoublingPlot): string | null {
  const [first] = points;
  if (first === undefined || points.length < 2) return null;
  const linear = points.map(({ size }) => ({ size, seconds: (first.seconds * size) / first.size }));
  const sizes = points.map(({ size }) => size);
  const yDomain = domainOf([...points, ...linear].map(({ seconds }) => seconds));
  const yTicks = ticksWithin(yDomain);
  // Base 2: of a log axis of base 10 the library leaves labels out.
  const log = { type: "log", base: 2 } as const;
  const shared = { x: "size", y: "seconds" } as const;
  return drawPlot({
    title,
    description: points
      .map(({ size, seconds }) => `${shortCount(size)} ${axis}: ${formatSeconds(seconds)}`)
      .join("; "),
    legend: [
      {
        label: `measured${logSlope === null ? "" : `, log slope ${formatNumber(logSlope, 3)}`}`,
        shape: "dot",
        colour: COLOUR.after,
      },
      { label: "linear from the first", shape: "dash", colour: COLOUR.before },
    ],
    height: kHeight,
    panels: [
      {
        x: 0,
        width: PLOT_WIDTH,
        options: {
          marginLeft: 76,
          marginRight: 20,
          marginTop: 12,
          marginBottom: X_AXIS_HEIGHT,
          x: {
            ...log,
            domain: domainOf(sizes),
            label: `${axis} (log axis)`,
            ...X_AXIS,
            ticks: sizes,
            tickFormat: shortCount,
          },
          y: {
            ...log,
            domain: yDomain,
            label: "time (log axis)",
            ...Y_AXIS,
            ticks: yTicks,
            tickFormat: (seconds: number) => formatSeconds(seconds),
          },
          marks: [
            gridX(sizes, { ...GRID }),
            gridY(yTicks, { ...GRID }),
            line(linear, {
              ...shared,
              stroke: COLOUR.before,
              strokeWidth: 1.5,
              strokeDasharray: "4,3",
              ariaLabel: () => "linear cost",
            }),
            line([...points], { ...shared, stroke: COLOUR.after, strokeWidth: 2 }),
            dot([...points], {
              ...shared,
              fill: COLOUR.after,
              r: 4.5,
              ariaLabel: () => "measured",
            }),
          ],
        },
      },
    ],
  });
}
