import type { ScoreHistogram } from "../evaluate/run-metrics.js";

/** One column of the drawn histogram: scores in [from, to). */
export interface ScoreBin {
  readonly from: number;
  readonly to: number;
  readonly count: number;
  readonly masked: number;
}

export type ScoreAxis = "linear" | "log";

const kMaxBins = 150;
// Scores of a Fisher span many decades: beyond this ratio a linear axis would put them all in one column.
const kLogRatio = 1e3;

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** The histogram with neighbours merged to at most 150 columns; bins without finite edges are left out. */
export function scoreBins(histogram: ScoreHistogram): ScoreBin[] {
  const { edges, counts, maskedCounts } = histogram;
  const size = Math.min(counts.length, edges.length - 1);
  const step = Math.max(1, Math.ceil(size / kMaxBins));
  const bins: ScoreBin[] = [];
  for (let first = 0; first < size; first += step) {
    const last = Math.min(size, first + step);
    bins.push({
      from: edges[first]!,
      to: edges[last]!,
      count: sum(counts.slice(first, last)),
      masked: sum(maskedCounts.slice(first, last)),
    });
  }
  return bins.filter(
    (bin) => Number.isFinite(bin.from) && Number.isFinite(bin.to) && bin.to > bin.from,
  );
}

/** `log` where no edge is negative, only the first may be 0, and the others span more than three decades. */
export function scoreAxis(bins: readonly ScoreBin[]): ScoreAxis {
  const [first, second] = bins;
  if (first === undefined || first.from < 0) return "linear";
  const least = first.from > 0 ? first.from : (second?.from ?? 0);
  return least > 0 && (bins.at(-1)?.to ?? 0) / least > kLogRatio ? "log" : "linear";
}

/** The bins with a place on the axis: on a log axis a first bin that begins at 0 becomes as wide as its neighbour. */
export function binsOnAxis(bins: readonly ScoreBin[], axis: ScoreAxis): readonly ScoreBin[] {
  const [first, second] = bins;
  if (axis === "linear" || first === undefined || second === undefined || first.from > 0)
    return bins;
  return [{ ...first, from: (first.to * second.from) / second.to }, ...bins.slice(1)];
}
