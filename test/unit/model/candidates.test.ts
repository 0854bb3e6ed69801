import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { getArchitecture } from "../../../src/model/architectures.js";
import { GraphBuilder } from "../../../src/model/builder.js";
import { candidateTensors, headParameters } from "../../../src/model/candidates.js";
import type { Graph } from "../../../src/model/graph.js";
import { expectError } from "./errors.js";

function build(name: string, inputShape: readonly number[] = [32, 32, 3]): Graph {
  return getArchitecture(name).build({ inputShape, classes: 10 });
}

function tied(): Graph {
  return JSON.parse(readFileSync("test/fixtures/parity/fisher/tied.graph.json", "utf8")) as Graph;
}

const kResNet = build("resnet20");

describe("headParameters", () => {
  it.each([
    ["resnet20", ["linear.weight", "linear.bias"]],
    ["vgg16_bn", ["classifier.0.weight", "classifier.0.bias"]],
    ["lenet", ["fc3.weight", "fc3.bias"]],
    ["mlp", ["fc2.weight", "fc2.bias"]],
  ])("of %s is its last layer", (name, head) => {
    expect(headParameters(build(name))).toEqual(head);
  });

  it("passes dropout but not relu at 224 × 224", () => {
    const head = headParameters(build("vgg16_bn", [224, 224, 3]));
    expect(head).toEqual(["classifier.6.weight", "classifier.6.bias"]);
  });

  it("goes on through everything that is linear, without buffers", () => {
    const b = new GraphBuilder("linear-end");
    const x = b.relu(
      "relu1",
      b.conv2d("conv1", b.input("input", [4, 4, 2]), { out: 3, kernel: 1 }),
    );
    const y = b.batchNorm("bn", b.conv2d("conv2", x, { out: 3, kernel: 1, bias: false }));
    const z = b.concat("cat", [b.add("sum", [x, y]), b.pad2d("pad", x, {})], { axis: 2 });
    const rows = b.flatten("flat", b.avgPool2d("pool", z, { kernel: 2 }));
    const graph = b.build([b.linear("fc", rows, { out: 2 })]);
    expect(headParameters(graph)).toEqual([
      "conv2.weight",
      "bn.weight",
      "bn.bias",
      "fc.weight",
      "fc.bias",
    ]);
  });

  it("starts from the first output alone and stops at a max pool", () => {
    const b = new GraphBuilder("two-heads");
    const x = b.conv2d("conv", b.input("input", [4, 4, 2]), { out: 3, kernel: 1 });
    const row = b.flatten("flat", b.maxPool2d("pool", x, { kernel: 4 }));
    b.linear("other", row, { out: 5 });
    const graph = b.build([b.linear("fc", row, { out: 2 }), "other"]);
    expect(headParameters(graph)).toEqual(["fc.weight", "fc.bias"]);
  });

  const shaped = (...shape: number[]) => ({ shapes: [shape] });
  const moved = (shape: number[]) => ({ attributes: { shape }, ...shaped(...shape) });

  it("finds a convolution behind a global pool and a reshape, as SqueezeNet ends", () => {
    const b = new GraphBuilder("squeeze");
    const x = b.relu("relu", b.conv2d("fire", b.input("input", [4, 4, 2]), { out: 3, kernel: 1 }));
    const y = b.conv2d("last", x, { out: 5, kernel: 1 });
    const pooled = b.node("reduce_mean", y, {
      attributes: { axes: [0, 1], keepdims: true },
      ...shaped(1, 1, 5),
    });
    const graph = b.build([b.node("reshape", pooled, moved([5]))]);
    expect(headParameters(graph)).toEqual(["last.weight", "last.bias"]);
  });

  it("finds the last layer where relu stands behind it, as torchvision's SqueezeNet has it", () => {
    const b = new GraphBuilder("relu-end");
    const x = b.conv2d("first", b.input("input", [4, 4, 2]), { out: 3, kernel: 1 });
    const y = b.relu("relu2", b.conv2d("last", b.relu("relu1", x), { out: 5, kernel: 1 }));
    const graph = b.build([b.globalAvgPool("pool", y)]);
    expect(headParameters(graph)).toEqual(["last.weight", "last.bias"]);
  });

  it("goes through moves, sums and a product with a parameter, not through one of two values", () => {
    const b = new GraphBuilder("products");
    const matrix = (name: string) =>
      b.parameter(name, [3, 3], "weight", { kind: "normal", std: 1 });
    const x = b.linear("fc", b.input("input", [3, 3]), { out: 3 });
    const square = b.node("matmul", [x, x], shaped(3, 3));
    const y = b.node("matmul", square, { parameters: { other: matrix("w") }, ...shaped(3, 3) });
    const bias = b.node("parameter", [], { parameters: { value: matrix("b") }, ...shaped(3, 3) });
    const sum = b.node("binary_add", [y, bias], shaped(3, 3));
    const row = b.node("slice", sum, {
      attributes: { starts: [2, 0], steps: [1, 1], sizes: [1, 3] },
      ...shaped(1, 3),
    });
    const graph = b.build([b.node("reshape", row, moved([3]))]);
    expect(headParameters(graph)).toEqual(["w", "b"]);
  });

  it("takes a tied embedding along", () => {
    const b = new GraphBuilder("tied-head");
    const table = b.parameter("table", [9, 3], "embedding", { kind: "normal", std: 1 });
    const parameters = { weight: table };
    const x = b.node("embedding", b.input("tokens", [4], "i32"), { parameters, shapes: [[4, 3]] });
    const hidden = b.relu("relu", b.linear("fc", x, { out: 3 }));
    const graph = b.build([b.node("linear", hidden, { parameters })]);
    expect(headParameters(graph)).toEqual(["table"]);
  });
});

describe("candidateTensors", () => {
  it("are the weights of convolutions and linear layers in network order", () => {
    const all = candidateTensors(kResNet);
    expect(all).toHaveLength(20);
    expect(all[0]).toEqual({
      name: "conv1.weight",
      shape: [16, 3, 3, 3],
      kind: "conv",
      layer: "conv1",
    });
    expect(all.slice(1, 3).map((t) => t.name)).toEqual([
      "layer1.0.conv1.weight",
      "layer1.0.conv2.weight",
    ]);
    expect(all.at(-1)).toEqual({
      name: "linear.weight",
      shape: [10, 64],
      kind: "linear",
      layer: "linear",
    });
    const weights = all.reduce((sum, t) => sum + t.shape.reduce((a, b) => a * b, 1), 0);
    expect(weights).toBe(268_336);
  });

  it("can leave out the head", () => {
    const names = candidateTensors(kResNet, { excludeHead: true }).map((t) => t.name);
    expect(names).toHaveLength(19);
    expect(names).not.toContain("linear.weight");
  });

  it("takes a shared weight once", () => {
    expect(candidateTensors(tied()).map((t) => t.name)).toEqual(["shared.weight", "linear.weight"]);
  });

  it("follows globs; exclude wins", () => {
    const names = (include: string[], exclude: string[] = []): string[] =>
      candidateTensors(kResNet, { include, exclude }).map((t) => t.name);
    expect(names(["layer3.*"])).toHaveLength(6);
    expect(names(["layer?.0.conv{1,2}.weight"])).toHaveLength(6);
    expect(names(["layer3.2.*", "conv1.weight"])).toEqual([
      "conv1.weight",
      "layer3.2.conv1.weight",
      "layer3.2.conv2.weight",
    ]);
    expect(names(["layer3.*"], ["*.conv2.*"])).toEqual(
      [0, 1, 2].map((block) => `layer3.${block}.conv1.weight`),
    );
    expect(names(["{layer1,layer2.{0,1}}.*"])).toHaveLength(10);
  });

  it("takes a dot as a dot and braces in pairs", () => {
    expectError(() => candidateTensors(kResNet, { include: ["conv1?eight"] }), "ERR_FM_ARGUMENT");
    expectError(() => candidateTensors(kResNet, { include: ["conv1xweight"] }), "ERR_FM_ARGUMENT");
    for (const pattern of ["{conv1", "conv1}", "}{"]) {
      expectError(
        () => candidateTensors(kResNet, { include: [pattern] }),
        "ERR_FM_ARGUMENT",
        `"${pattern}"`,
      );
    }
  });

  it("names a pattern that matches no weight", () => {
    for (const option of ["include", "exclude"] as const) {
      expectError(
        () => candidateTensors(kResNet, { [option]: ["linear.*", "bn1.*"] }),
        "ERR_FM_ARGUMENT",
        option,
        '"bn1.*"',
      );
    }
  });

  it("refuses to leave nothing", () => {
    const nothing = { include: ["linear.*"], excludeHead: true };
    expectError(() => candidateTensors(kResNet, nothing), "ERR_FM_ARGUMENT", "at least one");
  });
});
