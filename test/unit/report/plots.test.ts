/// <reference lib="dom" />
import { parseHTML } from "linkedom";
import { describe, expect, it } from "vitest";
import type { RunMetrics } from "../../../src/evaluate/run-metrics.js";
import {
  plotClasses,
  plotFineTuning,
  plotRounds,
  plotScores,
  plotTensors,
} from "../../../src/report/plots.js";
import { emptyMetrics, sampleMetrics } from "./sample-run.js";

type Plot = (metrics: RunMetrics) => string | null;

const kPlots: readonly (readonly [string, Plot])[] = [
  ["classes", plotClasses],
  ["tensors", plotTensors],
  ["scores", plotScores],
  ["rounds", plotRounds],
  ["fine-tuning", plotFineTuning],
];

function draw(plot: Plot, metrics: RunMetrics = sampleMetrics()) {
  const { document } = parseHTML(
    `<!doctype html><html><head></head><body>${plot(metrics)}</body></html>`,
  );
  const count = (label: string) => document.querySelectorAll(`[aria-label="${label}"]`).length;
  return { document, count, text: document.body.textContent ?? "" };
}

describe.each(kPlots)("the plot of %s", (_, plot) => {
  it("is a titled image for those who cannot see it", () => {
    const { document } = draw(plot);
    const svg = document.querySelector("svg");
    expect(svg?.getAttribute("role")).toBe("img");
    expect(svg?.getAttribute("aria-label")).toBe(svg?.querySelector("title")?.textContent);
    expect(svg?.querySelector("desc")?.textContent?.length).toBeGreaterThan(20);
    expect(svg?.getAttribute("viewBox")).toMatch(/^0 0 900 \d+$/);
  });

  it("has no coordinate that is not a number", () => {
    expect(plot(sampleMetrics())).not.toMatch(/NaN|undefined|Infinity/);
  });

  it("is null when there is nothing to draw", () => {
    expect(plot(emptyMetrics())).toBeNull();
  });
});

describe("plotClasses", () => {
  it("marks every class in every network", () => {
    const { count, text } = draw(plotClasses);
    expect(["before", "masked only", "after", "retrained"].map(count)).toEqual([10, 10, 10, 10]);
    expect(count("forgotten class")).toBe(1);
    expect(text).toContain("83.6 % → 1.1 %");
    expect(text).toContain("automobile");
  });

  it("puts the marks where the accuracies are", () => {
    const { document } = draw(plotClasses);
    const at = (label: string) =>
      Array.from(document.querySelectorAll(`[aria-label="${label}"]`), (dot) =>
        Number(dot.getAttribute("cx")),
      );
    const [before, after] = [at("before"), at("after")];
    // 175 and 132 are the margins: the frame is 593 wide, for 0 to 100 %.
    expect(before[3]).toBeCloseTo(175 + 593 * 0.836, 1);
    expect(after[3]).toBeCloseTo(175 + 593 * 0.011, 1);
  });

  it("leaves out networks that there are not", () => {
    const { count, text } = draw(plotClasses, sampleMetrics({ maskedOnly: null, retrained: null }));
    expect(["masked only", "retrained"].map(count)).toEqual([0, 0]);
    expect(text).not.toContain("retrained");
  });

  it("draws the forgotten and the most changed of a thousand classes", () => {
    const base = sampleMetrics();
    const classes = Array.from({ length: 1000 }, (_, i) => `class ${i}`);
    const scores = (correct: (i: number) => number) =>
      classes.map((name, i) => ({ name, correct: correct(i), total: 100 }));
    const { count, text } = draw(
      plotClasses,
      sampleMetrics({
        data: { ...base.data, classes, forgetClasses: [700] },
        before: { ...base.before, perClass: { train: [], test: scores(() => 90) } },
        after: {
          ...base.after,
          perClass: { train: [], test: scores((i) => (i === 900 ? 40 : 90)) },
        },
        maskedOnly: null,
        retrained: null,
      }),
    );
    expect(count("after")).toBe(40);
    expect(text).toContain("class 700");
    expect(text).toContain("class 900");
    expect(text).toContain("40 of 1000 classes");
  });
});

describe("plotTensors", () => {
  it("has one bar and one pair of figures per tensor", () => {
    const { count, text } = draw(plotTensors);
    expect(count("share masked")).toBe(20);
    expect(text).toContain("252 of 36,864");
    expect(text).toContain("0 of 640");
  });
});

describe("plotScores", () => {
  it("draws all columns, the masked ones and the threshold", () => {
    const metrics = sampleMetrics();
    const { count, text } = draw(plotScores, metrics);
    const filled = (counts: readonly number[]) => counts.filter((n) => n > 0).length;
    expect(count("all candidates")).toBe(filled(metrics.scores!.counts));
    expect(count("masked")).toBe(filled(metrics.scores!.maskedCounts));
    expect(count("threshold")).toBe(1);
    expect(text).toContain("threshold 0.01778");
  });

  it("takes scores of both signs, and many bins", () => {
    const edges = Array.from({ length: 4097 }, (_, i) => -2 + i / 1024);
    const counts = Array.from({ length: 4096 }, () => 2);
    const scores = {
      edges,
      counts,
      maskedCounts: counts.map((n, i) => (i > 4000 ? n : 0)),
      threshold: 1.9,
    };
    const { count, document } = draw(plotScores, sampleMetrics({ scores }));
    expect(count("all candidates")).toBeLessThanOrEqual(150);
    expect(count("all candidates")).toBeGreaterThan(100);
    expect(document.querySelector("svg")?.outerHTML).not.toMatch(/NaN/);
  });
});

describe("plotRounds", () => {
  it("draws both accuracies by share and the trade-off", () => {
    const { document, text } = draw(plotRounds);
    const dots = (label: string) =>
      document.querySelectorAll(`circle[aria-label="${label}"], path[aria-label="${label}"]`)
        .length;
    // A line and twelve marks each.
    expect(dots("remaining by share masked")).toBe(13);
    expect(dots("forgotten by share masked")).toBe(13);
    expect(dots("trade-off")).toBe(13);
    expect(text).toContain("0.53 %");
  });

  it("draws the forgotten accuracy alone when the other was not measured", () => {
    const rounds = sampleMetrics().rounds.map((round) => ({ ...round, remainAccuracy: null }));
    const { count } = draw(plotRounds, sampleMetrics({ rounds }));
    expect(count("forgotten by share masked")).toBe(13);
    expect(count("trade-off")).toBe(0);
  });
});

describe("plotRounds of a guarded run", () => {
  const guarded = (changes: Partial<RunMetrics> = {}) =>
    sampleMetrics({
      config: { selection: { kind: "guarded" } },
      rounds: sampleMetrics().rounds.map((round, i) => ({
        ...round,
        lost: 0.01,
        gained: 0.002,
        rejected: i === 2 || i === 7,
        probe: i % 2 === 0 ? { forget: 0.9 - 0.01 * i, remain: 0.9 } : null,
      })),
      ...changes,
    });

  it("draws undone trials as hollow marks that no line joins", () => {
    const { document, count } = draw(plotRounds, guarded());
    const label = "forgotten by share masked";
    // Ten accepted marks and their line.
    expect(count(label)).toBe(11);
    expect(count(`${label}, undone`)).toBe(2);
    expect(count("trade-off, undone")).toBe(2);
    // The marks stand in a group that holds their fill.
    const fill = (name: string) => {
      const mark = document.querySelector(`path[transform][aria-label="${name}"]`);
      return mark?.getAttribute("fill") ?? mark?.parentElement?.getAttribute("fill");
    };
    expect(fill(`${label}, undone`)).toContain("--fm-surface");
    expect(fill(label)).toContain("--fm-forgotten");
    const lineOf = Array.from(document.querySelectorAll(`path[aria-label="${label}"]`), (path) =>
      path.getAttribute("d"),
    ).find((d) => d?.includes("L"));
    expect(lineOf?.match(/[ML]/g)?.length).toBe(10);
  });

  it("draws the probe as a dashed series, over the rounds that were probed", () => {
    const { document, count, text } = draw(plotRounds, guarded());
    const label = "forgotten, by the probe";
    // Rounds 1, 5, 7, 9, 11 and their line; round 3 was undone.
    expect(count(label)).toBe(6);
    expect(count(`${label}, undone`)).toBe(1);
    expect(text).toContain(label);
    const dashes = Array.from(
      document.querySelectorAll("[stroke-dasharray]"),
      (node) => [node.getAttribute("stroke-dasharray"), node.getAttribute("stroke")] as const,
    );
    expect(dashes).toContainEqual(["4,3", expect.stringContaining("--fm-probe")]);
  });

  it("says that the remaining accuracy is of occluded copies, and what each round cost", () => {
    const { text } = draw(plotRounds, guarded());
    expect(text).toContain("remaining accuracy on occluded copies (%)");
    expect(text).toContain("remaining, on occluded copies");
    expect(text).toContain("round 3 (undone): 0.13 % masked");
    expect(text).toContain("lost 1.0 %, gained 0.2 %");
    const plain = draw(plotRounds).text;
    expect(plain).not.toMatch(/occluded|undone|by the probe|lost/);
  });

  it("draws a run whose every trial was undone, and that moved nothing", () => {
    const rounds = sampleMetrics().rounds.map((round) => ({
      ...round,
      forgetAccuracy: 296 / 300,
      rejected: true,
    }));
    // A frame of its own, not the one value as a tick with all its digits.
    expect(draw(plotRounds, guarded({ rounds })).text).not.toContain("98.6");
    const { count } = draw(plotRounds, guarded({ rounds }));
    expect(count("forgotten by share masked, undone")).toBe(12);
    expect(plotRounds(guarded({ rounds }))).not.toMatch(/NaN|undefined|Infinity/);
  });
});

describe("plotFineTuning", () => {
  it("draws loss and accuracy of every epoch", () => {
    const { count, text } = draw(plotFineTuning);
    expect(count("loss (nats per sample)")).toBe(6);
    expect(count("accuracy (%)")).toBe(6);
    expect(text).toContain("epoch 5: loss 0.0391");
  });
});
