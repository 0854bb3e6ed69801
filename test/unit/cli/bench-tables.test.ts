import { describe, expect, it } from "vitest";
import {
  doublingTable,
  fisherTable,
  kernelTable,
  opTable,
  plainTable,
} from "../../../src/cli/bench-tables.js";
import type {
  DoublingBenchmark,
  FisherBenchmark,
  KernelBenchmark,
} from "../../../src/native/bench.js";

const settings = { threads: 2, rounds: 9, warmUpRounds: 1, clock: "wall" } as const;
const ceilings = { gemmGflops: 187.5, gemmSpread: 0.01, copyGBps: 28, copySpread: 0.02 };
const times = { milliseconds: 20, bestMilliseconds: 19, spread: 0.05 };
const work = {
  ...times,
  gflops: 150,
  ofGemmCeiling: 0.8,
  operations: 3e9,
  bytes: 2e8,
  intensity: 15,
};
const memory = { peakRssBytes: 200 * 2 ** 20, peakRssAboveStartBytes: 120 * 2 ** 20 };

const fisher: FisherBenchmark = {
  ...settings,
  network: "resnet20",
  parameters: 269722,
  batch: 64,
  forward: { ...work, samplesPerSecond: 3200 },
  forwardBackward: { ...work, ...memory, samplesPerSecond: 1000 },
  fisher: { ...work, ...memory, samplesPerSecond: 900 },
  trainingStep: { ...times, samplesPerSecond: 950 },
  ceilings,
  startRssBytes: 80 * 2 ** 20,
  fisherOverForwardBackward: { time: 1.111, peakRssAboveStart: 1.02 },
  definitions: {},
};

describe("the tables of bench", () => {
  it("set the Fisher beside the plain passes, and say the ceilings of the run", () => {
    const text = fisherTable(fisher);
    expect(text).toMatch(/Fisher, per sample +900 +20 +5\.0 % +150 +80\.0 % +120 MiB/);
    expect(text).toMatch(/training step +950 +20 +5\.0 % +– +– +–/);
    expect(text).toContain("GEMM 188 GFLOP/s, copy 28 GB/s");
    expect(text).toContain("takes 1.11 × the time of forward + backward, 1.02 × its memory");
    expect(text).toContain("269,722 parameters, batch 64, threads: 2, rounds: 9");
  });

  it("say that memory is not known instead of a number", () => {
    const unknown = { peakRssBytes: null, peakRssAboveStartBytes: null };
    const text = fisherTable({
      ...fisher,
      fisher: { ...fisher.fisher, ...unknown },
      fisherOverForwardBackward: { time: 1, peakRssAboveStart: null },
    });
    expect(text).toMatch(/Fisher, per sample .* –$/m);
    expect(text).toContain("its memory is not known here");
  });

  it("list kernels, sizes and ops", () => {
    const kernels: KernelBenchmark = {
      ...settings,
      batch: 64,
      kernels: [{ ...work, kernel: "conv 3x3", gemmGflops: 188 }],
      ceilings,
      definitions: {},
    };
    expect(kernelTable(kernels)).toMatch(/conv 3x3 +20 +5\.0 % +150 +80\.0 % +15$/m);
    const doubling: DoublingBenchmark = {
      ...settings,
      axis: "samples",
      batch: 64,
      series: [{ ...times, network: "n", samples: 1024, parameters: 5000, seconds: 0.02 }],
      logSlope: 0.987,
      definitions: {},
    };
    expect(doublingTable(doubling)).toMatch(/n +1,024 +5,000 +20 +5\.0 %/);
    expect(doublingTable(doubling)).toContain("log slope over samples: 0.987");
    const ops = opTable({
      evaluationMode: { conv2d: { nodes: 19, forwardMilliseconds: 1.5, squaresMilliseconds: 2 } },
      trainingMode: { relu: { nodes: 19, forwardMilliseconds: 0.25 } },
    });
    expect(ops).toMatch(/evaluation +conv2d +19 +1\.5 +– +– +2$/m);
    expect(ops).toMatch(/training +relu +19 +0\.25 +– +– +–$/m);
  });

  it("show a document's own figures and leave its lists to --json", () => {
    const text = plainTable({ seconds: 0.1234567, exact: true, dump: null, results: { a: 1 } });
    expect(text).toMatch(/seconds +0\.1235/);
    expect(text).toMatch(/exact +true/);
    expect(text).toMatch(/dump +–/);
    expect(text).not.toContain("results");
  });
});
