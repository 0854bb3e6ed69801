import { dot, gridY, line } from "@observablehq/plot";
import type { EpochMetrics, RunMetrics } from "../evaluate/run-metrics.js";
import { GRID, X_AXIS, X_AXIS_HEIGHT, Y_AXIS } from "./axes.js";
import { formatNumber, formatPercent } from "./format.js";
import { COLOUR } from "./palette.js";
import { drawPlot, type Panel } from "./svg.js";

const kPanelWidth = 440;
const kMaxEpochTicks = 10;

// Whole epochs only: half an epoch is no tick.
function epochTicks(epochs: readonly EpochMetrics[]): number[] {
  const step = Math.max(1, Math.ceil(epochs.length / kMaxEpochTicks));
  return epochs.filter((_, index) => index % step === 0).map(({ epoch }) => epoch);
}

function panel(
  epochs: readonly EpochMetrics[],
  x: number,
  label: string,
  colour: string,
  value: (epoch: EpochMetrics) => number,
): Panel {
  const finite = epochs.filter((epoch) => Number.isFinite(value(epoch)));
  const options = { x: "epoch", y: value, ariaLabel: () => label };
  return {
    x,
    width: kPanelWidth,
    options: {
      marginLeft: 58,
      marginRight: 16,
      marginTop: 12,
      marginBottom: X_AXIS_HEIGHT,
      x: {
        label: "epoch",
        ...X_AXIS,
        ticks: epochTicks(epochs),
        tickFormat: String,
      },
      y: { label, ...Y_AXIS, nice: true, ticks: 5, inset: 6 },
      marks: [
        gridY({ ...GRID, ticks: 5 }),
        line(finite, { ...options, stroke: colour, strokeWidth: 2 }),
        dot(finite, { ...options, fill: colour, r: 4 }),
      ],
    },
  };
}

/** Loss and accuracy on the fine-tuning samples by epoch, side by side; null when nothing was fine-tuned. */
export function plotFineTuning(metrics: RunMetrics): string | null {
  const epochs = metrics.fineTuning;
  if (epochs.length === 0) {
    return null;
  }
  return drawPlot({
    title: "Fine-tuning on the remain set, by epoch",
    description: epochs
      .map(
        (epoch) =>
          `epoch ${epoch.epoch}: loss ${formatNumber(epoch.loss)}, accuracy ${formatPercent(epoch.accuracy)}`,
      )
      .join("; "),
    legend: [
      { label: "loss", shape: "line", colour: COLOUR.masked },
      { label: "accuracy", shape: "line", colour: COLOUR.after },
    ],
    height: 240,
    panels: [
      panel(epochs, 0, "loss (nats per sample)", COLOUR.masked, (epoch) => epoch.loss),
      panel(epochs, 460, "accuracy (%)", COLOUR.after, (epoch) => 100 * epoch.accuracy),
    ],
  });
}
