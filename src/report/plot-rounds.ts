import { dot, gridX, gridY, line, type Markish, text } from "@observablehq/plot";
import type { RoundMetrics, RunMetrics } from "../evaluate/run-metrics.js";
import { GRID, X_AXIS, X_AXIS_HEIGHT, Y_AXIS } from "./axes.js";
import { formatPercent, formatShare } from "./format.js";
import { COLOUR } from "./palette.js";
import { drawPlot, type LegendEntry, type Panel, PLOT_WIDTH } from "./svg.js";

const kHeight = 300;
const kPanelWidth = 440;
const kMaxLabels = 6;
// In points of the forgotten accuracy: the width of a label.
const kLabelDistance = 14;
const kMinRemainSpan = 10;

const shareOf = (round: RoundMetrics) => 100 * round.ratio;
const forgetOf = (round: RoundMetrics) => 100 * round.forgetAccuracy;
const remainOf = (round: RoundMetrics) =>
  round.remainAccuracy === null ? null : 100 * round.remainAccuracy;

function grids(): Markish[] {
  return [gridX({ ...GRID }), gridY({ ...GRID })];
}

function series(
  rounds: readonly RoundMetrics[],
  x: (round: RoundMetrics) => number,
  y: (round: RoundMetrics) => number | null,
  colour: string,
  ariaLabel: string,
  symbol: "circle" | "triangle" = "circle",
): Markish[] {
  return [
    line(rounds, { x, y, stroke: colour, strokeWidth: 2, ariaLabel: () => ariaLabel }),
    dot(rounds, { x, y, fill: colour, r: 4, symbol, ariaLabel: () => ariaLabel }),
  ];
}

// Labels collide where the rounds crowd. The last round goes first, then each that keeps its distance from those before.
function labelled(rounds: readonly RoundMetrics[]): RoundMetrics[] {
  const chosen: RoundMetrics[] = [];
  for (const round of rounds.toReversed()) {
    const apart = (other: RoundMetrics): boolean =>
      Math.abs(forgetOf(round) - forgetOf(other)) >= kLabelDistance;
    if (chosen.every(apart)) chosen.push(round);
  }
  return chosen.slice(0, kMaxLabels);
}

// Rounds that differ by a tenth of a point should look as alike as they are.
function remainDomain(rounds: readonly RoundMetrics[]): [number, number] {
  const values = rounds.map((round) => remainOf(round) ?? 0);
  const least = Math.min(...values);
  const most = Math.max(...values);
  const missing = Math.max(0, kMinRemainSpan - (most - least)) / 2;
  const top = Math.min(100, most + missing);
  return [Math.max(0, Math.min(least - missing, top - kMinRemainSpan)), top];
}

function byShare(rounds: readonly RoundMetrics[], x: number, width: number): Panel {
  const remain = rounds.filter((round) => round.remainAccuracy !== null);
  return {
    x,
    width,
    options: {
      marginLeft: 52,
      marginRight: 20,
      marginTop: 12,
      marginBottom: X_AXIS_HEIGHT,
      x: {
        label: "masked so far (% of the candidates)",
        ...X_AXIS,
        nice: true,
        ticks: 5,
      },
      y: {
        domain: [0, 100],
        label: "accuracy (%)",
        ...Y_AXIS,
        ticks: 5,
      },
      marks: [
        ...grids(),
        ...series(remain, shareOf, remainOf, COLOUR.after, "remaining by share masked"),
        ...series(
          rounds,
          shareOf,
          forgetOf,
          COLOUR.forgotten,
          "forgotten by share masked",
          "triangle",
        ),
      ],
    },
  };
}

function tradeOff(rounds: readonly RoundMetrics[]): Panel {
  return {
    x: 460,
    width: kPanelWidth,
    options: {
      marginLeft: 58,
      marginRight: 20,
      marginTop: 12,
      marginBottom: X_AXIS_HEIGHT,
      x: {
        label: "forgotten accuracy (%), better to the left",
        insetLeft: 8,
        insetRight: 48,
        ...X_AXIS,
        nice: true,
        ticks: 5,
      },
      y: {
        domain: remainDomain(rounds),
        label: "remaining accuracy (%), better upwards",
        ...Y_AXIS,
        nice: true,
        ticks: 5,
        insetTop: 6,
        insetBottom: 20,
      },
      marks: [
        ...grids(),
        ...series(rounds, forgetOf, remainOf, COLOUR.before, "trade-off"),
        text(labelled(rounds), {
          x: forgetOf,
          y: remainOf,
          dx: 8,
          dy: 12,
          textAnchor: "start",
          fontSize: 11,
          text: (round: RoundMetrics) => formatShare(round.ratio),
          ariaLabel: () => "share masked",
        }),
      ],
    },
  };
}

/**
 * How the accuracies moved from round to round: against the share masked, and against each other where the remaining accuracy
 * was measured. Null without rounds.
 */
export function plotRounds(metrics: RunMetrics): string | null {
  const rounds = metrics.rounds.filter((round) => Number.isFinite(round.forgetAccuracy));
  if (rounds.length === 0) {
    return null;
  }
  const traded = rounds.filter((round) => round.remainAccuracy !== null);
  const legend: LegendEntry[] = [
    { label: "forgotten", shape: "triangle", colour: COLOUR.forgotten },
  ];
  if (traded.length > 0) {
    legend.push({ label: "remaining", shape: "dot", colour: COLOUR.after });
    legend.push({
      label: "one against the other, with the share masked",
      shape: "dot",
      colour: COLOUR.before,
    });
  }
  return drawPlot({
    title: "Accuracy by round, on the samples that the stopping rule looks at",
    description: rounds
      .map(
        (round) =>
          `round ${round.round}: ${formatShare(round.ratio)} masked, forgotten ${formatPercent(round.forgetAccuracy)}, ` +
          `remaining ${formatPercent(round.remainAccuracy)}`,
      )
      .join("; "),
    legend,
    height: kHeight,
    panels:
      traded.length > 0
        ? [byShare(rounds, 0, kPanelWidth), tradeOff(traded)]
        : [byShare(rounds, 0, PLOT_WIDTH)],
  });
}
