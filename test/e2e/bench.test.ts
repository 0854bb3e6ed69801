import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { benchNetwork } from "../../src/model/bench-networks.js";
import { runBenchmark } from "../../src/native/bench.js";
import { expectError, temporaryFolder } from "../unit/io/support.js";
import { cli, fails, json, SLOW } from "./support.js";

const file = temporaryFolder();
const INTERRUPTED = 130;
const kPromptMs = 20_000;
const small = ["--batch", "4", "--rounds", "2", "--threads", "1"];
const lenet = ["bench", "fisher", "--net", "lenet", ...small];

/** The number at a path of keys, which must be there and above 0. */
function positiveAt(document: Record<string, unknown>, ...path: readonly string[]): number {
  const value = path.reduce<unknown>(
    (at, key) => (at as Record<string, unknown> | undefined)?.[key],
    document,
  );
  expect(value, path.join(".")).toBeTypeOf("number");
  expect(value as number, path.join(".")).toBeGreaterThan(0);
  return value as number;
}

function expectStandalone(path: string, title: string): void {
  const svg = readFileSync(path, "utf8");
  expect(svg).toMatch(/^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
  expect(svg).toMatch(/<\/svg>\n$/);
  expect(svg).not.toMatch(/<script|var\(|NaN/);
  expect(svg).toContain(`<title>${title}`);
}

describe("bench", { timeout: SLOW }, () => {
  it("fisher sets the passes beside the ceilings of the same run, and draws them", async () => {
    const document = await json([...lenet, "--roofline", file("lenet.svg")]);
    expect(document).toMatchObject({
      schemaVersion: 1,
      benchmark: "fisher",
      net: "lenet",
      batch: 4,
      rounds: 2,
      threads: 1,
      warmUpRounds: 1,
    });
    for (const pass of ["forward", "forwardBackward", "fisher"]) {
      const rate = positiveAt(document, pass, "samplesPerSecond");
      expect((1000 * 4) / positiveAt(document, pass, "milliseconds")).toBeCloseTo(rate, 3);
      const seconds = positiveAt(document, pass, "milliseconds") / 1e3;
      const gflops = (1e-9 * positiveAt(document, pass, "operations")) / seconds;
      expect(positiveAt(document, pass, "gflops")).toBeCloseTo(gflops, 6);
    }
    positiveAt(document, "trainingStep", "samplesPerSecond");
    const gemm = positiveAt(document, "ceilings", "gemmGflops");
    positiveAt(document, "ceilings", "copyGBps");
    expect(positiveAt(document, "fisher", "ofGemmCeiling")).toBeCloseTo(
      positiveAt(document, "fisher", "gflops") / gemm,
      9,
    );
    // Memory is known on Linux alone; a process of Node is never below 20 MiB.
    if (process.platform === "linux") {
      expect(positiveAt(document, "fisher", "peakRssBytes")).toBeGreaterThan(20 * 2 ** 20);
      positiveAt(document, "forwardBackward", "peakRssBytes");
    }
    expect(document["definitions"]).toHaveProperty("operations");
    expect(document["machine"]).toHaveProperty("cpu");
    expect(document["versions"]).toHaveProperty("oneDNN");
    expectStandalone(file("lenet.svg"), "lenet: passes under");
  });

  it("fisher prints a table without --json, messages apart", async () => {
    const { code, stdout, stderr } = await cli(lenet);
    expect({ code }, stderr).toEqual({ code: 0 });
    expect(stdout).toMatch(/^lenet +samples\/s/);
    expect(stdout).toMatch(/^Fisher, per sample +[\d.]+/m);
    expect(stdout).toContain("ceilings in the same run: GEMM");
    expect(stderr).toContain("Measuring lenet, batch 4, 1 thread");
  });

  it.each(["samples", "parameters"])("fisher --doubling %s gives a series", async (axis) => {
    const path = file(`${axis}.svg`);
    const args = [...lenet, "--doubling", axis, "--steps", "3", "--plot", path];
    const document = await json(args);
    expect(document).toMatchObject({ schemaVersion: 1, benchmark: "doubling", axis });
    const series = document["series"] as Record<string, number>[];
    expect(series).toHaveLength(3);
    for (const [i, row] of series.slice(1).entries()) {
      const factor =
        (row[axis] as number) / ((series[i] as Record<string, number>)[axis] as number);
      expect(factor).toBeGreaterThan(1.9);
      expect(factor).toBeLessThan(2.05);
      expect(row["seconds"]).toBeGreaterThan(0);
    }
    expect(document["logSlope"]).toBeTypeOf("number");
    expectStandalone(path, axis === "samples" ? "lenet: time" : "Networks of linear layers");
  });

  it("kernels and ops name what they measured", async () => {
    const path = file("kernels.svg");
    const kernels = await json([
      "bench",
      "kernels",
      "--only",
      "vectors",
      ...small,
      "--roofline",
      path,
    ]);
    expect(kernels["kernels"]).toHaveLength(1);
    const [kernel] = kernels["kernels"] as Record<string, unknown>[];
    expect(kernel).toMatchObject({
      kernel: expect.stringContaining("vectors"),
      operations: 2097152,
    });
    expectStandalone(path, "Squared-gradient kernels under");
    const ops = await json(["bench", "ops", "--net", "lenet", ...small]);
    expect(Object.keys(ops["evaluationMode"] as object)).toContain("conv2d");
  });
});

describe("what bench refuses", { timeout: SLOW }, () => {
  it.each([
    ["a network", ["fisher", "--net", "resnet19"], ["--net", "resnet18", "gpt6", "resnet19"]],
    ["a batch", ["fisher", "--batch", "0"], ["--batch", "whole number"]],
    ["an axis", ["fisher", "--doubling", "time"], ["--doubling", "samples", "parameters"]],
    [
      "too many sizes",
      ["fisher", "--net", "lenet", "--doubling", "samples", "--steps", "40"],
      ["--steps"],
    ],
    ["a plot of nothing", ["fisher", "--plot", "x.svg"], ["--plot", "--doubling"]],
    ["a roofline of sizes", ["fisher", "--doubling", "samples", "--roofline", "x.svg"], ["--plot"]],
    ["an unknown kernel", ["kernels", "--only", "nothing", ...small], ["--only", "nothing"]],
    ["no rounds", ["mask", "--rounds", "0"], ["--rounds", "from 1"]],
    ["what is no number", ["mask", "--rounds", "many"], ["--rounds", "many"]],
    ["another benchmark", ["nothing"], ["nothing"]],
  ])("%s ends with 2 and says what was expected", async (_, args, words) => {
    await fails(["bench", ...args], 2, ...words);
  });

  it("a place that cannot be written, before the work", async () => {
    await fails([...lenet, "--roofline", file("no/such/folder.svg")], 3, "no/such/folder.svg");
  });
});

describe("a benchmark under way", { timeout: SLOW }, () => {
  const long = ["bench", "fisher", "--net", "resnet20", "--batch", "16", "--rounds", "100000"];

  it("ends with 130 at Ctrl-C and leaves nothing", async () => {
    let sent = 0;
    const path = file("interrupted.svg");
    const ending = await cli([...long, "--json", "--roofline", path], (child, stderr) => {
      if (sent > 0 || !stderr.includes("Measuring resnet20")) return;
      sent = performance.now();
      setTimeout(() => child.kill("SIGINT"), 1500);
    });
    expect(ending).toMatchObject({ code: INTERRUPTED, signal: null, stdout: "" });
    expect(ending.stderr).toMatch(/\[ERR_FM_ABORTED\]\n$/);
    expect(performance.now() - sent).toBeLessThan(kPromptMs);
    expect(existsSync(path)).toBe(false);
  });

  it("leaves the event loop free, and the engine to what comes next", async () => {
    const graph = JSON.stringify(benchNetwork("lenet"));
    const controller = new AbortController();
    const options = { "graph-json": graph, batch: 4, threads: 1, rounds: 1_000_000 };
    let ticks = 0;
    const timer = setInterval(() => {
      ticks += 1;
      if (ticks === 20) controller.abort();
    }, 10);
    await expectError(() => runBenchmark("fisher", options, controller.signal), "ERR_FM_ABORTED");
    clearInterval(timer);
    expect(ticks).toBeGreaterThanOrEqual(20);
    const next = await runBenchmark("fisher", { ...options, rounds: 1 });
    expect(next.rounds).toBe(1);
  });

  it("does not begin where the signal has fired already", async () => {
    const signal = AbortSignal.abort();
    await expectError(() => runBenchmark("kernels", {}, signal), "ERR_FM_ABORTED");
  });

  it("says which option it does not know", async () => {
    await expectError(
      () => runBenchmark("ops", { bacth: 1 }),
      "ERR_FM_ARGUMENT",
      "--bacth",
      "batch",
    );
  });
});
