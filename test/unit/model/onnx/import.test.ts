import { describe, expect, it } from "vitest";
import type { OnnxFunction } from "../../../../src/io/onnx/model.js";
import {
  counting,
  float,
  floats,
  graph,
  importParts,
  info,
  int,
  int64s,
  ints,
  node,
  text,
} from "./model-parts.js";

const unsupported = (message: RegExp) =>
  expect.objectContaining({
    code: "ERR_FM_UNSUPPORTED",
    message: expect.stringMatching(message),
  });

describe("importOnnx", () => {
  it("leaves out nodes that no output needs, even those that it does not know", async () => {
    const { graph: made } = await importParts(
      {
        nodes: [node("Relu", ["x"], ["y"]), node("NobodyKnowsThis", ["y"], ["z"])],
        inputs: [info("x", [2])],
        outputs: ["y"],
      },
      { x: floats([2], [1, -1]) },
    );
    expect(made.nodes.map(({ op }) => op)).toEqual(["relu"]);
  });

  it("refuses an operator that it does not know, naming node, operator and reason", async () => {
    const work = importParts(
      {
        nodes: [node("NobodyKnowsThis", ["x"], ["y"])],
        inputs: [info("x", [2])],
        outputs: ["y"],
      },
      { x: floats([2], [1, -1]) },
    );
    await expect(work).rejects.toEqual(
      unsupported(/the NobodyKnowsThis \(NobodyKnowsThis\).*does not know/),
    );
  });

  it.each([
    ["another domain", { domain: "com.microsoft", opset: 17 }, /the domain com\.microsoft/],
    ["a newer opset", { domain: "", opset: 99 }, /opset 99/],
  ])("refuses %s", async (_, { domain, opset }, message) => {
    const work = importParts(
      {
        nodes: [node("Relu", ["x"], ["y"], {}, domain)],
        inputs: [info("x", [2])],
        outputs: ["y"],
        opset,
      },
      { x: floats([2], [1, -1]) },
    );
    await expect(work).rejects.toEqual(unsupported(message));
  });

  it("puts a function's body in the place of its node, with the caller's attributes", async () => {
    const scale: OnnxFunction = {
      name: "Leak",
      domain: "mine",
      overload: "",
      inputs: ["a", "unused"],
      outputs: ["b"],
      attributes: ["slope"],
      defaults: new Map(),
      nodes: [node("LeakyRelu", ["a"], ["b"], { alpha: { kind: "reference", value: "slope" } })],
      opsets: new Map([["", 17]]),
    };
    const { graph: made } = await importParts(
      {
        nodes: [node("Leak", ["x"], ["y"], { slope: float(0.25) }, "mine")],
        inputs: [info("x", [2])],
        outputs: ["y"],
        functions: [scale],
      },
      { x: floats([2], [1, -1]) },
    );
    expect(made.nodes.map(({ op, attributes }) => [op, attributes])).toEqual([
      ["leaky_relu", { alpha: 0.25 }],
    ]);
  });

  it("refuses functions that call themselves", async () => {
    const loop: OnnxFunction = {
      name: "Loop",
      domain: "mine",
      overload: "",
      inputs: ["a"],
      outputs: ["b"],
      attributes: [],
      defaults: new Map(),
      nodes: [node("Loop", ["a"], ["b"], {}, "mine")],
      opsets: new Map([["", 17]]),
    };
    const work = importParts(
      {
        nodes: [node("Loop", ["x"], ["y"], {}, "mine")],
        inputs: [info("x", [2])],
        outputs: ["y"],
        functions: [loop],
      },
      { x: floats([2], [1, -1]) },
    );
    await expect(work).rejects.toEqual(unsupported(/nested without measure/));
  });

  it("takes the branch of a known condition and refuses one that is computed", async () => {
    const branch = (op: string) =>
      ({
        kind: "graph",
        value: graph({ nodes: [node(op, ["x"], ["out"])], inputs: [], outputs: ["out"] }),
      }) as const;
    const parts = {
      nodes: [
        node("If", ["c"], ["y"], { then_branch: branch("Relu"), else_branch: branch("Sigmoid") }),
      ],
      inputs: [info("x", [2]), info("c", [1], "bool")],
      outputs: ["y"],
    };
    const x = floats([2], [1, -1]);
    const taken = async (value: number) => {
      const c = { dtype: "bool", dims: [1], data: Uint8Array.of(value) } as const;
      return (await importParts(parts, { x, c })).graph.nodes.map(({ op }) => op);
    };
    expect(await taken(1)).toEqual(["relu"]);
    expect(await taken(0)).toEqual(["sigmoid"]);
    await expect(importParts(parts, { x, c: floats([1], [1]) })).rejects.toEqual(
      unsupported(/the If \(If\).*computed at run time/),
    );
  });

  it("folds what is known: a shape computed by nodes", async () => {
    const { graph: made, outputs } = await importParts(
      {
        nodes: [
          node("Shape", ["x"], ["s"]),
          node("Gather", ["s", "zero"], ["n"], { axis: int(0) }),
          node("Unsqueeze", ["n", "zeroAxis"], ["first"]),
          node("Concat", ["first", "rest"], ["shape"], { axis: int(0) }),
          node("Reshape", ["x", "shape"], ["y"]),
        ],
        inputs: [info("x", [2, 3, 4])],
        outputs: ["y"],
        initializers: {
          zero: int64s([], [0]),
          zeroAxis: int64s([1], [0]),
          rest: int64s([1], [-1]),
        },
      },
      { x: counting([2, 3, 4]) },
    );
    expect(outputs[0]?.dims).toEqual([2, 12]);
    expect(made.nodes.map(({ op }) => op)).toEqual(["reshape"]);
  });

  it("gives initializers their roles, and a matrix (in, out) as (out, in)", async () => {
    const {
      graph: made,
      parameters,
      weights,
    } = await importParts(
      {
        nodes: [
          node("Conv", ["x", "w", "b"], ["c"], { kernel_shape: ints(1, 1) }),
          node("BatchNormalization", ["c", "s", "h", "m", "v"], ["n"]),
          node("GlobalAveragePool", ["n"], ["g"]),
          node("Flatten", ["g"], ["f"]),
          node("MatMul", ["f", "k"], ["y"]),
        ],
        inputs: [info("x", [1, 1, 2, 2])],
        outputs: ["y"],
        initializers: {
          w: counting([2, 1, 1, 1]),
          b: counting([2]),
          s: counting([2]),
          h: counting([2]),
          m: counting([2]),
          v: counting([2]),
          k: counting([2, 3]),
        },
      },
      { x: counting([1, 1, 2, 2]) },
    );
    expect(Object.fromEntries(made.parameters.map(({ name, role }) => [name, role]))).toEqual({
      w: "weight",
      b: "bias",
      s: "norm",
      h: "norm",
      m: "buffer",
      v: "buffer",
      k: "weight",
    });
    expect(made.parameters.find(({ name }) => name === "k")?.shape).toEqual([3, 2]);
    expect([...(weights.get("k") ?? [])]).toEqual([1, 4, 2, 5, 3, 6]);
    expect(parameters.get("k")).toEqual({ initializer: "k", transposed: true });
    expect(parameters.get("w")).toEqual({ initializer: "w", transposed: false });
  });

  it("shares one parameter between an embedding and the transposed matrix of the head", async () => {
    const { graph: made } = await importParts(
      {
        nodes: [
          node("Relu", ["x"], ["r"]),
          node("Transpose", ["w"], ["t"], { perm: ints(1, 0) }),
          node("MatMul", ["r", "t"], ["a"]),
          node("Gemm", ["r", "w"], ["b"], { transB: int(1) }),
          node("Add", ["a", "b"], ["y"]),
        ],
        inputs: [info("x", [1, 2])],
        outputs: ["y"],
        initializers: { w: counting([3, 2]) },
      },
      { x: counting([1, 2]) },
    );
    expect(made.parameters.map(({ name, shape }) => [name, shape])).toEqual([["w", [3, 2]]]);
    expect(made.nodes.filter(({ op }) => op === "linear")).toHaveLength(2);
  });

  it("keeps a chain of image layers in channels-last", async () => {
    const { graph: made } = await importParts(
      {
        nodes: [
          node("Conv", ["x", "w"], ["c"], { pads: ints(1, 1, 1, 1) }),
          node("Relu", ["c"], ["r"]),
          node("MaxPool", ["r"], ["p"], { kernel_shape: ints(2, 2), strides: ints(2, 2) }),
          node("Conv", ["p", "v"], ["d"], { auto_pad: text("SAME_UPPER") }),
          node("GlobalAveragePool", ["d"], ["g"]),
          node("Flatten", ["g"], ["y"]),
        ],
        inputs: [info("x", [1, 2, 4, 4])],
        outputs: ["y"],
        initializers: { w: counting([3, 2, 3, 3]), v: counting([2, 3, 3, 3]) },
      },
      { x: counting([1, 2, 4, 4]) },
    );
    const moves = made.nodes.filter(({ op }) => op === "transpose");
    expect(moves).toHaveLength(1);
  });

  it("refuses a weight that is computed and training mode", async () => {
    const x = counting([1, 1, 3, 3]);
    const conv = importParts(
      {
        nodes: [node("Relu", ["w"], ["v"]), node("Conv", ["x", "v"], ["y"])],
        inputs: [info("x", [1, 1, 3, 3]), info("w", [1, 1, 1, 1])],
        outputs: ["y"],
      },
      { x, w: counting([1, 1, 1, 1]) },
      true,
    );
    await expect(conv).rejects.toEqual(unsupported(/the Conv \(Conv\).*run time/));
    const norm = importParts(
      {
        nodes: [
          node("BatchNormalization", ["x", "s", "s", "s", "s"], ["y", "", ""], {
            training_mode: int(1),
          }),
        ],
        inputs: [info("x", [1, 1, 3, 3])],
        outputs: ["y"],
        initializers: { s: counting([1]) },
      },
      { x },
    );
    await expect(norm).rejects.toEqual(unsupported(/training mode/));
  });
});
