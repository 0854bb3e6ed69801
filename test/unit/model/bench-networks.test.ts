import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  BENCH_NETWORKS,
  benchNetwork,
  doublingNetworks,
} from "../../../src/model/bench-networks.js";
import type { Graph } from "../../../src/model/graph.js";
import { expectError } from "../io/support.js";

function parameterCount(graph: Graph): number {
  return graph.parameters
    .filter(({ role }) => role !== "buffer")
    .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
}

describe("the networks of the benchmarks", () => {
  it.each(BENCH_NETWORKS)("bench/graphs/%s.json is the one that the verb runs", (name) => {
    const text = readFileSync(`bench/graphs/${name}.json`, "utf8");
    expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(benchNetwork(name))));
  });

  it("have the sizes of those they are compared with", () => {
    // Counted from the layers of bench/compare.py; ResNet-18 and VGG-16 are the usual CIFAR forms.
    expect(parameterCount(benchNetwork("resnet18"))).toBe(11_173_962);
    expect(parameterCount(benchNetwork("resnet20"))).toBe(269_722);
    expect(parameterCount(benchNetwork("gpt6_tied"))).toBe(
      parameterCount(benchNetwork("gpt6")) - 8192 * 384,
    );
  });

  it("refuses another name and lists the known ones", async () => {
    await expectError(() => benchNetwork("resnet19"), "ERR_FM_ARGUMENT", "resnet19", "resnet20");
  });

  it("doubles the parameters from step to step, within a twentieth", () => {
    const counts = doublingNetworks(6).map(parameterCount);
    for (const [i, count] of counts.slice(1).entries()) {
      expect(count / (counts[i] as number)).toBeGreaterThan(1.9);
      expect(count / (counts[i] as number)).toBeLessThan(2.05);
    }
  });
});
