import { describe, expect, it } from "vitest";
import { EngineGraph, type EngineValue } from "../../../../src/model/onnx/engine-graph.js";
import { markUntrained } from "../../../../src/model/onnx/untrained.js";
import { counting, floats } from "./model-parts.js";

function learnt(
  graph: EngineGraph,
  initializer: string,
  values: readonly number[],
  dims = [values.length],
): EngineValue {
  const array = floats(dims, values);
  return graph.parameterValue({ initializer, stored: true, array, role: "bias" });
}

function roles(graph: EngineGraph): Record<string, string> {
  return Object.fromEntries([...graph.parameters.values()].map(({ name, role }) => [name, role]));
}

describe("markUntrained", () => {
  it("makes buffers of frequencies, not of a table of positions that is added", () => {
    const graph = new EngineGraph();
    const x = graph.input("x", [2], "f32");
    const angles = graph.affine("angles", learnt(graph, "inv_freq", [1, 0.1]), 3);
    const turned = graph.binary("turned", "mul", x, graph.unary("cos", "cos", angles));
    const places = graph.affine("places", learnt(graph, "wpe", [0.5, 0.25]), 2);
    graph.binary("y", "binary_add", turned, places);
    markUntrained(graph);
    expect(roles(graph)).toEqual({ inv_freq: "buffer", wpe: "bias" });
  });

  it("leaves what meets a sample before the sine", () => {
    const graph = new EngineGraph();
    const x = graph.input("x", [2], "f32");
    const scaled = graph.binary("scaled", "mul", x, learnt(graph, "frequency", [1, 2]));
    graph.unary("y", "sin", scaled);
    markUntrained(graph);
    expect(roles(graph)).toEqual({ frequency: "bias" });
  });

  it("makes buffers of a rotation's cosines and sines", () => {
    const graph = new EngineGraph();
    const angles = [0, 0.3, 1, 2, 3, 4];
    learnt(graph, "cos", angles.map(Math.cos), [3, 2]);
    learnt(graph, "sin", angles.map(Math.sin), [3, 2]);
    learnt(graph, "other", [...counting([6], 6).data].map(Number), [3, 2]);
    learnt(graph, "zeros", [0, 0, 0, 0, 0, 0], [3, 2]);
    learnt(graph, "ones", [1, 1, 1, 1, 1, 1], [3, 2]);
    markUntrained(graph);
    expect(roles(graph)).toEqual({
      cos: "buffer",
      sin: "buffer",
      other: "bias",
      zeros: "bias",
      ones: "bias",
    });
  });
});
