import { describe, expect, it } from "vitest";
import { plotRounds } from "../../../src/report/plot-rounds.js";
import { renderReport } from "../../../src/report/report.js";
import { binsOnAxis, scoreAxis, scoreBins } from "../../../src/report/score-bins.js";
import { summaryParagraph } from "../../../src/report/summary.js";
import { sampleMetrics } from "./sample-run.js";

function binsOf(edges: readonly number[]) {
  const counts = edges.slice(1).map(() => 1);
  return scoreBins({ edges, counts, maskedCounts: counts, threshold: null });
}

describe("the axis of the scores", () => {
  it.each([
    ["from 0 on, over many decades", [0, 1e-3, 1, 1e3], "log"],
    ["positive, over many decades", [1e-3, 1, 10, 1e3], "log"],
    ["from 0 on, over few decades", [0, 1, 2, 3], "linear"],
    ["with negative scores", [-1e3, 1e-3, 1, 1e3], "linear"],
  ])("%s", (_, edges, axis) => {
    expect(scoreAxis(binsOf(edges))).toBe(axis);
  });

  it("gives a first column that begins at 0 its neighbour's width, on a log axis alone", () => {
    const bins = binsOf([0, 1e-3, 1e-1, 1e3]);
    const [first, ...rest] = binsOnAxis(bins, "log");
    expect(first?.from).toBeCloseTo(1e-5, 12);
    expect(first?.count).toBe(1);
    expect(rest).toEqual(bins.slice(1));
    expect(binsOnAxis(bins, "linear")).toBe(bins);
  });
});

describe("the rounds", () => {
  const still = sampleMetrics().rounds.map((round, i) => ({
    ...round,
    round: i,
    forgetAccuracy: i < 6 ? 0.9 : 0.01,
  }));

  it("label no two marks that lie on each other", () => {
    const svg = plotRounds(sampleMetrics({ rounds: still })) ?? "";
    const labels = svg.split('aria-label="share masked"').length - 1;
    expect(labels).toBeGreaterThan(0);
    expect(svg.match(/>\d\.\d+ %</g)?.length).toBe(2);
  });

  it("are counted without the look before the first", () => {
    const { markup } = summaryParagraph(sampleMetrics({ rounds: still }));
    expect(markup).toContain(`in ${still.length - 1} rounds`);
  });
});

it("the report judges the target that the configuration states", () => {
  const config = { target: { accuracy: 0.005, samples: 500 } };
  const text = renderReport(sampleMetrics({ config }), []);
  expect(text).toContain("the target of the configuration is 0.5 %");
});
