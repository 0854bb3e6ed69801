import { dot, gridX, gridY, line, type Markish, text } from "@observablehq/plot";
import type { RunMetrics } from "../evaluate/run-metrics.js";
import { GRID, X_AXIS, X_AXIS_HEIGHT, Y_AXIS } from "./axes.js";
import { formatPercent, formatShare } from "./format.js";
import { COLOUR } from "./palette.js";
import { isAccepted, occludedCopies, type Round } from "./rounds.js";
import { drawPlot, type LegendEntry, type Panel, PLOT_WIDTH } from "./svg.js";

const kHeight = 300;
const kPanelWidth = 440;
const kMaxLabels = 6;
// In points of the forgotten accuracy: the width of a label.
const kLabelDistance = 14;
const kMinSpan = 10;

const shareOf = (round: Round) => 100 * round.ratio;
const forgetOf = (round: Round) => 100 * round.forgetAccuracy;
const remainOf = (round: Round) =>
  round.remainAccuracy === null ? null : 100 * round.remainAccuracy;
const probeOf = (round: Round) => {
  const found = round.probe?.forget;
  return found !== undefined && Number.isFinite(found) ? 100 * found : null;
};

function grids(): Markish[] {
  return [gridX({ ...GRID }), gridY({ ...GRID })];
}

interface Series {
  readonly x: (round: Round) => number;
  readonly y: (round: Round) => number | null;
  readonly colour: string;
  readonly label: string;
  readonly symbol: "circle" | "triangle" | "diamond";
  readonly dashed?: boolean;
}

// The path to the written network is joined; a trial that was undone stands off it as a hollow mark.
function series(
  rounds: readonly Round[],
  { x, y, colour, label, symbol, dashed = false }: Series,
): Markish[] {
  const measured = rounds.filter((round) => y(round) !== null);
  const accepted = measured.filter(isAccepted);
  const undone = measured.filter((round) => !isAccepted(round));
  const ariaLabel = () => label;
  const strokeDasharray = dashed ? "4,3" : "none";
  return [
    line(accepted, { x, y, stroke: colour, strokeWidth: 2, strokeDasharray, ariaLabel }),
    dot(undone, {
      x,
      y,
      r: 4,
      symbol,
      stroke: colour,
      strokeWidth: 1.5,
      fill: COLOUR.surface,
      ariaLabel: () => `${label}, undone`,
    }),
    dot(accepted, { x, y, fill: colour, r: 4, symbol, ariaLabel }),
  ];
}

// Labels collide where the rounds crowd. The last round goes first, then each that keeps its distance from those before.
function labelled(rounds: readonly Round[]): Round[] {
  const chosen: Round[] = [];
  for (const round of rounds.filter(isAccepted).toReversed()) {
    const apart = (other: Round): boolean =>
      Math.abs(forgetOf(round) - forgetOf(other)) >= kLabelDistance;
    if (chosen.every(apart)) chosen.push(round);
  }
  return chosen.slice(0, kMaxLabels);
}

// Rounds that differ by a tenth of a point should look as alike as they are.
function spanOf(values: readonly number[]): [number, number] {
  const least = Math.min(...values);
  const most = Math.max(...values);
  const missing = Math.max(0, kMinSpan - (most - least)) / 2;
  const top = Math.min(100, most + missing);
  return [Math.max(0, Math.min(least - missing, top - kMinSpan)), top];
}

function byShare(rounds: readonly Round[], x: number, width: number): Panel {
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
        ...series(rounds, {
          x: shareOf,
          y: remainOf,
          colour: COLOUR.after,
          label: "remaining by share masked",
          symbol: "circle",
        }),
        ...series(rounds, {
          x: shareOf,
          y: probeOf,
          colour: COLOUR.probe,
          label: "forgotten, by the probe",
          symbol: "diamond",
          dashed: true,
        }),
        ...series(rounds, {
          x: shareOf,
          y: forgetOf,
          colour: COLOUR.forgotten,
          label: "forgotten by share masked",
          symbol: "triangle",
        }),
      ],
    },
  };
}

function tradeOff(rounds: readonly Round[], occluded: boolean): Panel {
  return {
    x: 460,
    width: kPanelWidth,
    options: {
      marginLeft: 58,
      marginRight: 20,
      marginTop: 12,
      marginBottom: X_AXIS_HEIGHT,
      x: {
        domain: spanOf(rounds.map(forgetOf)),
        label: "forgotten accuracy (%), better to the left",
        insetLeft: 8,
        insetRight: 48,
        ...X_AXIS,
        nice: true,
        ticks: 5,
      },
      y: {
        domain: spanOf(rounds.map((round) => remainOf(round) ?? 0)),
        label: occluded
          ? "remaining accuracy on occluded copies (%)"
          : "remaining accuracy (%), better upwards",
        ...Y_AXIS,
        nice: true,
        ticks: 5,
        insetTop: 6,
        insetBottom: 20,
      },
      marks: [
        ...grids(),
        ...series(rounds, {
          x: forgetOf,
          y: remainOf,
          colour: COLOUR.before,
          label: "trade-off",
          symbol: "circle",
        }),
        text(labelled(rounds), {
          x: forgetOf,
          y: remainOf,
          dx: 8,
          dy: 12,
          textAnchor: "start",
          fontSize: 11,
          text: (round: Round) => formatShare(round.ratio),
          ariaLabel: () => "share masked",
        }),
      ],
    },
  };
}

function legendOf(rounds: readonly Round[], occluded: boolean): LegendEntry[] {
  const legend: LegendEntry[] = [
    { label: "forgotten", shape: "triangle", colour: COLOUR.forgotten },
  ];
  if (rounds.some((round) => probeOf(round) !== null)) {
    legend.push({ label: "forgotten, by the probe", shape: "dash", colour: COLOUR.probe });
  }
  if (rounds.some((round) => round.remainAccuracy !== null)) {
    legend.push({
      label: occluded ? "remaining, on occluded copies" : "remaining",
      shape: "dot",
      colour: COLOUR.after,
    });
    legend.push({ label: "one against the other", shape: "dot", colour: COLOUR.before });
  }
  if (!rounds.every(isAccepted)) {
    legend.push({ label: "hollow: undone", shape: "ring", colour: COLOUR.before });
  }
  return legend;
}

function describe(round: Round): string {
  const { ratio, forgetAccuracy, remainAccuracy, lost, gained } = round;
  const probe = probeOf(round);
  const parts = [
    `${formatShare(ratio)} masked`,
    `forgotten ${formatPercent(forgetAccuracy)}`,
    `remaining ${formatPercent(remainAccuracy)}`,
    ...(typeof lost === "number" ? [`lost ${formatPercent(lost)}`] : []),
    ...(typeof gained === "number" ? [`gained ${formatPercent(gained)}`] : []),
    ...(probe === null ? [] : [`by the probe ${formatPercent(probe / 100)}`]),
  ];
  return `round ${round.round}${isAccepted(round) ? "" : " (undone)"}: ${parts.join(", ")}`;
}

/**
 * How the accuracies moved from round to round: against the share masked, and against each other where the remaining accuracy
 * was measured. Trials that were undone are hollow marks off the line; what a probe found is dashed. Null without rounds.
 */
export function plotRounds(metrics: RunMetrics): string | null {
  const all: readonly Round[] = metrics.rounds;
  const rounds = all.filter((round) => Number.isFinite(round.forgetAccuracy));
  if (rounds.length === 0) {
    return null;
  }
  const occluded = occludedCopies(metrics) !== null;
  const traded = rounds.filter((round) => round.remainAccuracy !== null);
  return drawPlot({
    title: "Accuracy by round, on the samples that the stopping rule looks at",
    description: rounds.map(describe).join("; "),
    legend: legendOf(rounds, occluded),
    height: kHeight,
    panels:
      traded.length > 0
        ? [byShare(rounds, 0, kPanelWidth), tradeOff(traded, occluded)]
        : [byShare(rounds, 0, PLOT_WIDTH)],
  });
}
