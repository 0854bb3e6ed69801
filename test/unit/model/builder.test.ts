import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { GraphBuilder } from "../../../src/model/builder.js";
import { expectError } from "./errors.js";

function fixture(name: string): unknown {
  return JSON.parse(readFileSync(`test/fixtures/parity/fisher/${name}.graph.json`, "utf8"));
}

/** Equal but for the last bits of initialisers' numbers. */
function expectSameGraph(actual: unknown, wanted: unknown): void {
  const rounded = (_key: string, value: unknown): unknown =>
    typeof value === "number" ? Number(value.toPrecision(14)) : value;
  expect(JSON.parse(JSON.stringify(actual, rounded))).toEqual(
    JSON.parse(JSON.stringify(wanted, rounded)),
  );
}

describe("GraphBuilder", () => {
  it("builds the graph that the oracle wrote down", () => {
    const b = new GraphBuilder("tiny-cnn");
    let x = b.input("input", [6, 5, 2]);
    x = b.conv2d("conv1", x, { out: 3, kernel: 3, padding: 1, bias: false });
    x = b.relu("relu1", b.batchNorm("bn1", x));
    x = b.relu("relu2", b.conv2d("conv2", x, { out: 4, kernel: 3, padding: 1, stride: 2 }));
    x = b.globalAvgPool("pool", x, { output: "features" });
    const logits = b.linear("linear", x, { out: 3, output: "logits" });
    expectSameGraph(b.build([logits, "features"]), fixture("tiny-cnn"));
  });

  it("shares a parameter between nodes", () => {
    const b = new GraphBuilder("tied");
    const x = b.input("input", [5]);
    const first = b.relu("relu1", b.linear("first", x, { out: 5 }));
    const shared = { weight: "first.weight", bias: "first.bias" };
    const second = b.node("linear", first, { name: "second", parameters: shared });
    expect(b.shapeOf(second)).toEqual([5]);
    const graph = b.build([second]);
    expect(graph.parameters.map((p) => p.name)).toEqual(["first.weight", "first.bias"]);
    expect(graph.nodes.at(-1)?.parameters).toEqual(shared);
  });

  it("follows shapes", () => {
    const b = new GraphBuilder("shapes");
    const x = b.input("input", [7, 9, 4]);
    const c = b.conv2d("c", x, { out: 6, kernel: [3, 5], stride: [2, 1], padding: [1, 0, 2, 3] });
    expect(b.shapeOf(c)).toEqual([4, 8, 6]);
    expect(b.shapeOf(b.conv2d("g", x, { out: 8, kernel: 3, groups: 2, dilation: 2 }))).toEqual([
      3, 5, 8,
    ]);
    expect(b.shapeOf("input")).toEqual([7, 9, 4]);
    expect(b.shapeOf(b.maxPool2d("m", x, { kernel: 2 }))).toEqual([3, 4, 4]);
    expect(b.shapeOf(b.avgPool2d("a", x, { kernel: 3, stride: 2, padding: 1 }))).toEqual([4, 5, 4]);
    const p = b.pad2d("p", x, { step: 2, channels: [1, 2], padding: [0, 1, 0, 0] });
    expect(b.shapeOf(p)).toEqual([4, 6, 7]);
    expect(b.shapeOf(b.concat("k", [x, x], { axis: -1 }))).toEqual([7, 9, 8]);
    expect(b.shapeOf(b.flatten("f", b.dropout("d", b.add("s", [x, x]), { rate: 0.5 })))).toEqual([
      252,
    ]);
    const graph = b.build([p]);
    expect(graph.parameters.find((q) => q.name === "g.weight")?.shape).toEqual([8, 2, 3, 3]);
    expect(graph.nodes.find((n) => n.name === "a")?.attributes).toEqual({
      kernel: [3, 3],
      stride: [2, 2],
      padding: [1, 1, 1, 1],
      count_include_pad: true,
    });
  });

  it("takes ops that it has no rule for, with or without shapes", () => {
    const b = new GraphBuilder("generic");
    const x = b.input("tokens", [4], "i32");
    const table = b.parameter("table", [9, 3], "embedding", { kind: "normal", std: 1 });
    const parameters = { weight: table };
    const known = b.node("hash", x, { parameters, shapes: [[4, 3]] });
    expect(known).toBe("hash_1");
    expect(b.shapeOf(b.linear("fc", known, { out: 2 }))).toEqual([4, 2]);
    const unknown = b.node("hash", [x], { parameters });
    expect(unknown).not.toBe(known);
    expectError(() => b.shapeOf(unknown), "ERR_FM_GRAPH", "without a shape rule");
    expectError(() => b.shapeOf("nowhere"), "ERR_FM_GRAPH", "nowhere");
  });

  it("builds a decoder's block of grouped attention, with a head tied to the embedding", () => {
    const b = new GraphBuilder("decoder");
    const ids = b.input("ids", [6], "i32");
    const x = b.embedding("embed", ids, { count: 11, width: 8 });
    const y = b.rmsNorm("norm", x);
    const rope = { frequencies: [1], scale: 1 };
    const query = b.rope("rq", b.linear("q", y, { out: 8, bias: false }), { heads: 4, ...rope });
    const key = b.rope("rk", b.linear("k", y, { out: 4, bias: false }), { heads: 2, ...rope });
    const value = b.linear("v", y, { out: 6, bias: false });
    const inputs = { query, key, value, mask: b.padMask("mask", ids) };
    const seen = b.attention("attention", inputs, { heads: 4, kvHeads: 2, causal: true });
    expect(b.shapeOf(seen)).toEqual([6, 12]);
    const gate = b.silu("gate", b.linear("up", seen, { out: 8 }));
    const sum = b.binaryAdd("residual", x, b.mul("gated", gate, y));
    const head = b.linear("head", sum, { out: 11, weight: "embed.weight", bias: false });
    const graph = b.build([head]);
    expect(graph.parameters.find((p) => p.name === "head.weight")).toBeUndefined();
    expect(graph.nodes.at(-1)?.parameters).toEqual({ weight: "embed.weight" });
    expect(graph.nodes.find((n) => n.name === "attention")?.attributes).toEqual({
      heads: 4,
      kv_heads: 2,
      causal: true,
    });
    expect(graph.parameters.find((p) => p.name === "norm.weight")).toMatchObject({
      shape: [8],
      role: "norm",
      init: { kind: "ones" },
    });
  });

  it("takes declared parameters as second operands and as values", () => {
    const b = new GraphBuilder("operands");
    const x = b.input("input", [3, 4]);
    b.parameter("table", [3, 4], "embedding", { kind: "zeros" });
    b.parameter("w", [4, 5], "weight", { kind: "zeros" });
    b.parameter("class", [1, 4], "embedding", { kind: "zeros" });
    const placed = b.binaryAdd("placed", x, { parameter: "table" });
    expect(b.shapeOf(b.matmul("product", placed, { parameter: "w" }))).toEqual([3, 5]);
    const rows = b.concat("rows", [b.parameterValue("token", "class"), placed], { axis: 0 });
    expect(b.shapeOf(rows)).toEqual([4, 4]);
    const first = b.slice("first", rows, { starts: [0, 0], sizes: [1, 4] });
    expect(b.shapeOf(b.reshape("row", first, { shape: [4] }))).toEqual([4]);
    const graph = b.build([b.softmax("p", b.transpose("t", rows, { perm: [1, 0] }))]);
    expect(graph.nodes.map((n) => [n.op, n.inputs, n.parameters])).toEqual([
      ["binary_add", ["input"], { other: "table" }],
      ["matmul", ["placed"], { other: "w" }],
      ["parameter", [], { value: "class" }],
      ["concat", ["token", "placed"], {}],
      ["slice", ["rows"], {}],
      ["reshape", ["first"], {}],
      ["transpose", ["rows"], {}],
      ["softmax", ["t"], {}],
    ]);
    expect(graph.nodes[4]?.attributes).toEqual({ starts: [0, 0], steps: [1, 1], sizes: [1, 4] });
  });

  it("declares what norms and transposed convolutions own", () => {
    const b = new GraphBuilder("own");
    const x = b.input("input", [5, 4, 6]);
    b.layerNorm("ln", x, { dims: 2, epsilon: 1e-6 });
    b.layerNorm("plain", x, { affine: false });
    b.groupNorm("gn", x, { groups: 3 });
    const up = { out: 4, kernel: 3, stride: 2, padding: 1, outputPadding: 1, groups: 2 };
    expect(b.shapeOf(b.convTranspose2d("up", x, up))).toEqual([10, 8, 4]);
    const { parameters } = b.build([x]);
    expect(Object.fromEntries(parameters.map((p) => [p.name, p.shape]))).toEqual({
      "ln.weight": [4, 6],
      "ln.bias": [4, 6],
      "gn.weight": [6],
      "gn.bias": [6],
      "up.weight": [6, 2, 3, 3],
      "up.bias": [4],
    });
  });

  it("freezes the graph and keeps later changes out of it", () => {
    const b = new GraphBuilder("frozen");
    const graph = b.build([b.linear("fc", b.input("input", [2]), { out: 3 })]);
    b.relu("later", "fc");
    expect(graph.nodes).toHaveLength(1);
    expect(Object.isFrozen(graph.parameters[0]?.shape)).toBe(true);
    expect(JSON.parse(JSON.stringify(graph))).toEqual(graph);
  });

  it("refuses names that are taken or unknown", () => {
    const b = new GraphBuilder("names");
    const x = b.input("input", [4]);
    b.linear("fc", x, { out: 3 });
    expectError(() => b.input("input", [4]), "ERR_FM_GRAPH", "input");
    expectError(() => b.linear("fc", x, { out: 3 }), "ERR_FM_GRAPH", "fc.weight");
    expectError(() => b.node("relu", x, { name: "fc" }), "ERR_FM_GRAPH", '"fc"');
    expectError(() => b.relu("r", x, { output: "fc" }), "ERR_FM_GRAPH", '"fc"');
    expectError(() => b.relu("r", "nowhere"), "ERR_FM_GRAPH", "nowhere");
    const missing = { parameters: { weight: "w" }, shapes: [[1]] };
    expectError(() => b.node("linear", x, missing), "ERR_FM_GRAPH", '"w"');
    expectError(() => b.build(["nowhere"]), "ERR_FM_GRAPH", "nowhere");
    expectError(() => b.build([]), "ERR_FM_GRAPH", "none");
  });

  it("refuses sizes that do not fit, naming the node", () => {
    const b = new GraphBuilder("sizes");
    const image = b.input("image", [4, 4, 3]);
    const row = b.input("row", [4]);
    expectError(() => b.conv2d("c1", image, { out: 2, kernel: 5 }), "ERR_FM_SHAPE", "c1", "5");
    expectError(() => b.maxPool2d("m1", row, { kernel: 2 }), "ERR_FM_SHAPE", "m1", "(H, W, C)");
    expectError(() => b.add("s1", [image, row]), "ERR_FM_SHAPE", "s1", "(4)");
    expectError(() => b.concat("k1", [row, row], { axis: 1 }), "ERR_FM_SHAPE", "k1", "axis");
    expectError(() => b.concat("k2", [image, row], { axis: 0 }), "ERR_FM_SHAPE", "k2");
    const weight = b.parameter("w", [2, 3], "weight", { kind: "zeros" });
    const wrong = { name: "l1", parameters: { weight } };
    expectError(() => b.node("linear", row, wrong), "ERR_FM_SHAPE", "l1", "ending in 3");
    expectError(() => b.linear("l2", row, { out: 0 }), "ERR_FM_ARGUMENT", "l2.weight");
    expectError(() => b.conv2d("c2", image, { out: 4, kernel: 1, groups: 2 }), "ERR_FM_ARGUMENT");
    const shared = { out: 3, weight: "w" };
    expectError(() => b.linear("l3", row, shared), "ERR_FM_SHAPE", "(3, 4)", "(2, 3)");
    expectError(() => b.linear("l4", row, { out: 2, weight: "none" }), "ERR_FM_GRAPH", "none");
    expectError(() => b.dropout("d1", row, { rate: 1 }), "ERR_FM_ARGUMENT", "d1.rate");
    expectError(() => b.input("bad", [2, 1.5]), "ERR_FM_ARGUMENT", "1.5");
  });
});
