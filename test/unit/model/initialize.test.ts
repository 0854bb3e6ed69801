import { describe, expect, it } from "vitest";
import { getArchitecture } from "../../../src/model/architectures.js";
import { GraphBuilder } from "../../../src/model/builder.js";
import type { Graph, Initializer } from "../../../src/model/graph.js";
import { fanOf, initialize, streamOfName } from "../../../src/model/initialize.js";
import { expectError } from "./errors.js";

function graphOf(shape: readonly number[], init: Initializer, name = "w"): Graph {
  const b = new GraphBuilder("one");
  const x = b.input("input", [1]);
  b.parameter(name, shape, "weight", init);
  return b.build([x]);
}

function valuesOf(shape: readonly number[], init: Initializer, seed = 1): Float32Array {
  return initialize(graphOf(shape, init), seed).get("w") as Float32Array;
}

function moments(values: Float32Array): { mean: number; std: number; kurtosis: number } {
  const n = values.length;
  const mean = values.reduce((sum, v) => sum + v, 0) / n;
  const power = (p: number): number => values.reduce((sum, v) => sum + (v - mean) ** p, 0) / n;
  return { mean, std: Math.sqrt(power(2)), kurtosis: power(4) / power(2) ** 2 };
}

const kShape = [64, 32, 3, 3]; // 18,432 values: the deviation is known to about 0.5 %

describe("initialize", () => {
  it("matches torch.nn.init.kaiming_normal_", () => {
    const gain = Math.SQRT2;
    for (const [mode, fan] of [
      ["fan-in", 32 * 9],
      ["fan-out", 64 * 9],
    ] as const) {
      const { mean, std, kurtosis } = moments(
        valuesOf(kShape, { kind: "kaiming-normal", mode, gain }),
      );
      const wanted = gain / Math.sqrt(fan);
      expect(Math.abs(mean)).toBeLessThan(0.03 * wanted);
      expect(std / wanted).toBeCloseTo(1, 1.5);
      expect(Math.abs(kurtosis - 3)).toBeLessThan(0.15);
    }
  });

  it("matches PyTorch's default of conv and linear layers: uniform within 1/sqrt(fan-in)", () => {
    const b = new GraphBuilder("default");
    const x = b.input("input", [4, 4, 32]);
    const graph = b.build([b.conv2d("c", x, { out: 64, kernel: 3 })]);
    const bound = 1 / Math.sqrt(32 * 9);
    const values = initialize(graph, 3);
    const weight = values.get("c.weight") as Float32Array;
    const { mean, std, kurtosis } = moments(weight);
    expect(Math.abs(mean)).toBeLessThan(0.03 * bound);
    expect((std * Math.sqrt(3)) / bound).toBeCloseTo(1, 1.5);
    expect(Math.abs(kurtosis - 1.8)).toBeLessThan(0.1);
    const largest = weight.reduce((a, v) => Math.max(a, Math.abs(v)), 0);
    expect(largest).toBeLessThanOrEqual(Math.fround(bound));
    expect(largest).toBeGreaterThan(0.99 * bound);
    const bias = values.get("c.bias") as Float32Array;
    expect(bias).toHaveLength(64);
    expect(bias.every((v) => v !== 0 && Math.abs(v) <= bound)).toBe(true);
  });

  it("fills constants, plain normals and odd lengths", () => {
    expect([...valuesOf([3], { kind: "ones" })]).toEqual([1, 1, 1]);
    expect([...valuesOf([3], { kind: "zeros" })]).toEqual([0, 0, 0]);
    const long = valuesOf([100_001], { kind: "normal", std: 0.01 });
    expect(moments(long).std / 0.01).toBeCloseTo(1, 1.9);
    expect(long.at(-1)).not.toBe(0);
    expect([...valuesOf([5], { kind: "normal", std: 0.01 })]).toEqual([...long.slice(0, 5)]);
  });

  it("depends on seed and name alone, not on the order of the parameters", () => {
    const init: Initializer = { kind: "normal", std: 1 };
    const build = (names: readonly string[]): Graph => {
      const b = new GraphBuilder("order");
      const x = b.input("input", [1]);
      for (const name of names) b.parameter(name, [10], "weight", init);
      return b.build([x]);
    };
    const one = initialize(build(["a", "b"]), 7);
    const two = initialize(build(["b", "other", "a"]), 7);
    expect(two.get("a")).toEqual(one.get("a"));
    expect(two.get("b")).toEqual(one.get("b"));
    expect(one.get("a")).not.toEqual(one.get("b"));
    expect(initialize(build(["a"]), 8).get("a")).not.toEqual(one.get("a"));
  });

  it("keeps its streams, and so published seeds, as they are", () => {
    expect(streamOfName("conv1.weight")).toBe(8146719446510839);
    expect(streamOfName("conv1.weight")).toBeGreaterThanOrEqual(2 ** 52);
    expect(Number.isSafeInteger(streamOfName("é"))).toBe(true);
  });

  it("counts fans as PyTorch does", () => {
    expect(fanOf([64, 32, 3, 5], "fan-in")).toBe(480);
    expect(fanOf([64, 32, 3, 5], "fan-out")).toBe(960);
    expect(fanOf([10, 84], "fan-out")).toBe(10);
  });

  it("fills every tensor of a network with finite numbers", () => {
    const graph = getArchitecture("resnet20").build({ inputShape: [32, 32, 3], classes: 10 });
    const values = initialize(graph, 1);
    expect([...values.keys()]).toEqual(graph.parameters.map((p) => p.name));
    expect([...values.values()].every((tensor) => tensor.every(Number.isFinite))).toBe(true);
    expect(values.get("bn1.running_var")?.every((v) => v === 1)).toBe(true);
  });

  it("refuses a seed that is no whole number from 0", () => {
    for (const seed of [-1, 0.5, Number.NaN, 2 ** 53]) {
      expectError(
        () => initialize(graphOf([1], { kind: "ones" }), seed),
        "ERR_FM_ARGUMENT",
        "seed",
      );
    }
  });
});
