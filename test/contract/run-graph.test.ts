import { describe, expect, it } from "vitest";
import type { Graph } from "../../src/model/graph.js";
import { EngineNetwork } from "../../src/native/network.js";
import { expectError } from "../unit/io/support.js";

const GRAPH: Graph = {
  version: 1,
  name: "two-inputs",
  inputs: [
    { name: "a", shape: [2], dtype: "f32" },
    { name: "b", shape: [2], dtype: "f32" },
  ],
  parameters: [],
  nodes: [
    { name: "n", op: "add", inputs: ["a", "b"], outputs: ["sum"], parameters: {}, attributes: {} },
  ],
  outputs: ["sum"],
};
const A = new Float32Array([1, 2, 3, 4]);
const B = new Float64Array([0.5, 0.25, 1e-3, -4]);

describe("running a graph of several inputs", () => {
  it("gives the values asked for, for every sample, in the engine's precision", async () => {
    using network = new EngineNetwork(JSON.stringify(GRAPH), { threads: 1, real: "f64" });
    const inputs = new Map([
      ["a", A],
      ["b", B],
    ]);
    const values = await network.run(inputs, ["sum", "b"], 2);
    expect([...values.keys()]).toEqual(["sum", "b"]);
    expect(values.get("sum")).toEqual(Float64Array.from(A, (a, i) => a + (B[i] as number)));
    expect(values.get("b")).toEqual(B);
  });

  it.each([
    ["an input without values", { a: A }, "ERR_FM_ARGUMENT", "'b'"],
    ["a name that is no input", { a: A, b: A, sum: A }, "ERR_FM_ARGUMENT", "'sum'"],
    ["an unknown name", { a: A, b: A, z: A }, "ERR_FM_ARGUMENT", "'z'"],
    ["too few values", { a: A, b: A.slice(1) }, "ERR_FM_SHAPE", "4 values for input 'b'"],
  ] as const)("refuses %s", async (_, inputs, code, part) => {
    using network = new EngineNetwork(JSON.stringify(GRAPH), { threads: 1 });
    await expectError(() => network.run(new Map(Object.entries(inputs)), ["sum"], 2), code, part);
  });

  it("gives no gradient to ids, and the process lives", async () => {
    const graph: Graph = {
      ...GRAPH,
      inputs: [{ name: "ids", shape: [2], dtype: "i32" }],
      parameters: [{ name: "w", shape: [3, 2], role: "embedding", init: { kind: "zeros" } }],
      nodes: [
        {
          name: "e",
          op: "embedding",
          inputs: ["ids"],
          outputs: ["rows"],
          parameters: { weight: "w" },
          attributes: {},
        },
      ],
      outputs: ["rows"],
    };
    using network = new EngineNetwork(JSON.stringify(graph), { threads: 1 });
    const batch = { data: Int32Array.of(2, 2), count: 1 };
    const { gradInput, gradients } = await network.vjp(batch, Float64Array.of(1, 2, 3, 4));
    expect(gradInput.length).toBe(0);
    expect([...(gradients["w"] as Float64Array)]).toEqual([0, 0, 0, 0, 4, 6]);
  });

  it("refuses a value that the graph does not have, and less than one sample", async () => {
    using network = new EngineNetwork(JSON.stringify(GRAPH), { threads: 1 });
    const inputs = new Map(Object.entries({ a: A, b: A }));
    await expectError(() => network.run(inputs, ["z"], 2), "ERR_FM_ARGUMENT", "'z'");
    await expectError(() => network.run(inputs, ["sum"], 0), "ERR_FM_ARGUMENT", "count");
  });
});
