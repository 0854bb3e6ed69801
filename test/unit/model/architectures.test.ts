import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { ArchitectureOptions } from "../../../src/model/architecture.js";
import { servesTrainingAlone } from "../../../src/model/architectures/kept-tensors.js";
import { architectures, getArchitecture } from "../../../src/model/architectures.js";
import type { Graph } from "../../../src/model/graph.js";
import { expectError } from "./errors.js";
import { modelFile, readHeader } from "./safetensors-fixture.js";

const kCifar: ArchitectureOptions = { inputShape: [32, 32, 3], classes: 10 };

function count(graph: Graph): number {
  return graph.parameters
    .filter((p) => p.role !== "buffer")
    .reduce((sum, p) => sum + p.shape.reduce((a, b) => a * b, 1), 0);
}

function shapes(graph: Graph): Record<string, readonly number[]> {
  return Object.fromEntries(graph.parameters.map((p) => [p.name, p.shape]));
}

/** Which node makes the value, and how many of `graph`'s nodes read it. */
function around(graph: Graph, value: string): { maker: string | undefined; readers: string[] } {
  return {
    maker: graph.nodes.find((n) => n.outputs.includes(value))?.op,
    readers: graph.nodes.filter((n) => n.inputs.includes(value)).map((n) => n.name),
  };
}

describe("resnet", () => {
  for (const [name, file] of [
    ["resnet20", "resnet20-12fca82f.safetensors"],
    ["resnet56", "resnet56-4bfd9763.safetensors"],
  ] as const) {
    it(`${name} has the names and shapes of the published file`, ({ skip }) => {
      const { path, absent } = modelFile(file);
      if (absent !== undefined) return skip(absent);
      const published = [...readHeader(path)].map(([key, entry]) => [key, entry.shape]);
      expect(shapes(getArchitecture(name).build(kCifar))).toEqual(Object.fromEntries(published));
    });
  }

  it.each([
    ["resnet20", 269_722],
    ["resnet32", 464_154],
    ["resnet44", 658_586],
    ["resnet56", 853_018],
  ])("%s has %i parameters", (name, parameters) => {
    expect(count(getArchitecture(name).build(kCifar))).toBe(parameters);
  });

  it("shortens by taking every second pixel and adding channels on both sides", () => {
    const graph = getArchitecture("resnet20").build(kCifar);
    const shortcuts = graph.nodes.filter((n) => n.op === "pad2d");
    expect(shortcuts.map((n) => n.name)).toEqual(["layer2.0.shortcut", "layer3.0.shortcut"]);
    expect(shortcuts.map((n) => n.attributes)).toEqual(
      [8, 16].map((side) => ({
        padding: [0, 0, 0, 0],
        channels: [side, side],
        step: [2, 2],
        value: 0,
      })),
    );
    const sum = graph.nodes.find((n) => n.name === "layer2.0.add");
    expect(sum?.inputs).toEqual(["layer2.0.bn2", "layer2.0.shortcut"]);
    expect(graph.nodes.find((n) => n.name === "layer1.0.add")?.inputs).toEqual([
      "layer1.0.bn2",
      "relu1",
    ]);
  });

  it("takes images of odd size and other channels", () => {
    const graph = getArchitecture("resnet20").build({ inputShape: [29, 31, 1], classes: 7 });
    expect(shapes(graph)["conv1.weight"]).toEqual([16, 1, 3, 3]);
    expect(shapes(graph)["linear.weight"]).toEqual([7, 64]);
  });
});

describe("vgg", () => {
  // torchvision's numbers: conv, norm, relu, and a pool after modules 5, 12, 22, 32, 42.
  const kConvs = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40];

  it("vgg16_bn has torchvision's names", () => {
    const names = kConvs.flatMap((i) => [
      `features.${i}.weight`,
      `features.${i}.bias`,
      `features.${i + 1}.weight`,
      `features.${i + 1}.bias`,
      `features.${i + 1}.running_mean`,
      `features.${i + 1}.running_var`,
    ]);
    const graph = getArchitecture("vgg16_bn").build(kCifar);
    expect(graph.parameters.map((p) => p.name)).toEqual([
      ...names,
      "classifier.0.weight",
      "classifier.0.bias",
    ]);
    expect(graph.nodes.filter((n) => n.op === "max_pool2d").map((n) => n.name)).toEqual(
      [6, 13, 23, 33, 43].map((i) => `features.${i}`),
    );
    expect(shapes(graph)["features.40.weight"]).toEqual([512, 512, 3, 3]);
    expect(shapes(graph)["classifier.0.weight"]).toEqual([10, 512]);
    expect(count(graph)).toBe(14_728_266);
  });

  // What torchvision's documentation gives for its ImageNet weights.
  it.each([
    ["vgg11", 132_863_336],
    ["vgg19", 143_667_240],
    ["vgg11_bn", 132_868_840],
    ["vgg13_bn", 133_053_736],
    ["vgg16_bn", 138_365_992],
    ["vgg19_bn", 143_678_248],
  ])("%s at 224 × 224 has torchvision's %i parameters", (name, parameters) => {
    const graph = getArchitecture(name).build({ inputShape: [224, 224, 3], classes: 1000 });
    expect(count(graph)).toBe(parameters);
    expect(graph.parameters.at(-1)?.name).toBe("classifier.6.bias");
  });

  it("takes the mean over positions at other sizes and refuses what is not a multiple of 32", () => {
    const { build } = getArchitecture("vgg16_bn");
    const graph = build({ inputShape: [64, 96, 3], classes: 200 });
    expect(shapes(graph)["classifier.0.weight"]).toEqual([200, 512]);
    const large = build({ inputShape: [448, 224, 3], classes: 200 });
    expect(shapes(large)["classifier.0.weight"]).toEqual([4096, 25_088]);
    const pool = large.nodes.find((n) => n.op === "avg_pool2d");
    expect(pool?.attributes).toMatchObject({
      kernel: [2, 1],
      stride: [2, 1],
      padding: [0, 0, 0, 0],
    });
    expectError(
      () => build({ inputShape: [28, 28, 3], classes: 2 }),
      "ERR_FM_ARGUMENT",
      "inputShape",
      "(28, 28, 3)",
    );
  });
});

interface StateDicts {
  readonly classes: number;
  readonly networks: Readonly<
    Record<string, { readonly side: number; readonly tensors: number; readonly sha256: string }>
  >;
}
const kStateDicts = JSON.parse(
  readFileSync("test/fixtures/parity/torchvision/state-dicts.json", "utf8"),
) as StateDicts;

/** How the oracle sums up a state dict: its lines "name (sizes)", sorted. */
function digest(graph: Graph): { readonly tensors: number; readonly sha256: string } {
  const lines = graph.parameters.map((p) => `${p.name} (${p.shape.join(", ")})`).sort();
  const sha256 = createHash("sha256").update(lines.join("\n")).digest("hex");
  return { tensors: lines.length, sha256 };
}

describe("the state dicts of torchvision and timm", () => {
  // "vgg11 small" and "vit_b_16 at 384" are forms of one architecture; aux heads are the next test's.
  const names = Object.keys(kStateDicts.networks).filter((name) => !name.endsWith("with aux"));

  it.each(names)("%s: every name and shape", (name) => {
    const { side, ...wanted } = kStateDicts.networks[name] as StateDicts["networks"][string];
    const options = { inputShape: [side, side, 3], classes: kStateDicts.classes };
    const { build } = getArchitecture(name.split(" ")[0] as string);
    expect(digest(build(options))).toEqual(wanted);
  });

  it("googlenet: the auxiliary heads serve training alone", () => {
    const { networks } = kStateDicts;
    const heads = ["aux1", "aux2"].flatMap((head) => [
      ...["weight", "bias", "running_mean", "running_var"].map((slot) => `${head}.conv.bn.${slot}`),
      ...["conv.conv.weight", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"].map(
        (slot) => `${head}.${slot}`,
      ),
    ]);
    const count = (name: string): number => networks[name]?.tensors ?? Number.NaN;
    expect(count("googlenet with aux") - count("googlenet")).toBe(heads.length);
    for (const name of heads) {
      expect(servesTrainingAlone("googlenet", name), name).toBe(true);
      expect(servesTrainingAlone("resnet18", name), name).toBe(false);
    }
    expect(servesTrainingAlone("googlenet", "aux3.fc1.weight")).toBe(false);
    expect(servesTrainingAlone("googlenet", "inception3a.aux1.weight")).toBe(false);
    expect(servesTrainingAlone("toString", "aux1.fc1.weight")).toBe(false);
  });
});

describe("googlenet", () => {
  // Sizes after ceil((n − k)/2) + 1, as PyTorch's ceil_mode; 56 and 112 leave a pixel over, 47 → 24 → 12 → 6 too.
  it.each([
    [224, [112, 56, 28, 14, 7]],
    [47, [24, 12, 6, 3, 2]],
    [33, [17, 8, 4, 2, 1]],
    [15, [8, 4, 2, 1, 1]],
  ])("pools an image of %i pixels with ceil_mode", (side, sizes) => {
    const graph = getArchitecture("googlenet").build({ inputShape: [side, side, 3], classes: 10 });
    const pools = graph.nodes.filter((n) => /^maxpool\d$/.test(n.name));
    const covered = pools.map((n, i) => {
      const [, , bottom = 0] = n.attributes["padding"] as readonly number[];
      const [kernel = 0] = n.attributes["kernel"] as readonly number[];
      return ((sizes[i] as number) + bottom - kernel) / 2 + 1;
    });
    expect(covered).toEqual(sizes.slice(1));
  });

  it("has batch norms of ε 0.001 and refuses images that its pools use up", () => {
    const { build } = getArchitecture("googlenet");
    const norms = build(kCifar).nodes.filter((n) => n.op === "batch_norm");
    expect(new Set(norms.map((n) => n.attributes["epsilon"]))).toEqual(new Set([0.001]));
    expectError(() => build({ inputShape: [4, 4, 3], classes: 2 }), "ERR_FM_SHAPE", "maxpool2");
  });
});

describe("the CIFAR form of resnet", () => {
  it.each([18, 34, 50])("of depth %i has another stem and all other tensors alike", (depth) => {
    const { "conv1.weight": stem, ...rest } = shapes(
      getArchitecture(`resnet${depth}`).build(kCifar),
    );
    const small = getArchitecture(`resnet${depth}_cifar`).build(kCifar);
    const { "conv1.weight": smallStem, ...smallRest } = shapes(small);
    expect([stem, smallStem]).toEqual([
      [64, 3, 7, 7],
      [64, 3, 3, 3],
    ]);
    expect(smallRest).toEqual(rest);
    expect(small.nodes.some((n) => n.op === "max_pool2d")).toBe(false);
  });
});

describe("vision transformers", () => {
  it("have a position for each patch and the class token, at any size that patches fill", () => {
    const { build } = getArchitecture("vit_small_patch16_224");
    const graph = build({ inputShape: [64, 96, 3], classes: 5 });
    expect(shapes(graph)["pos_embed"]).toEqual([1, 25, 384]);
    expectError(
      () => build({ inputShape: [64, 100, 3], classes: 5 }),
      "ERR_FM_ARGUMENT",
      "multiples of 16",
      "(64, 100, 3)",
    );
  });

  it("read query, key and value from one linear layer", () => {
    const graph = getArchitecture("vit_b_16").build({ inputShape: [32, 32, 3], classes: 5 });
    const mix = graph.nodes.find((n) => n.op === "attention");
    const slices = mix?.inputs.map((input) => graph.nodes.find((n) => n.outputs.includes(input)));
    expect(slices?.map((n) => n?.attributes["starts"])).toEqual([
      [0, 0],
      [0, 768],
      [0, 1536],
    ]);
    const fused = graph.nodes.find((n) => n.outputs[0] === slices?.[0]?.inputs[0]);
    expect(fused?.parameters).toEqual({
      weight: "encoder.layers.encoder_layer_0.self_attention.in_proj_weight",
      bias: "encoder.layers.encoder_layer_0.self_attention.in_proj_bias",
    });
  });
});

describe("lenet", () => {
  it.each([
    [28, 1],
    [32, 3],
  ])("reads images of %i × %i", (side, channels) => {
    const graph = getArchitecture("lenet").build({
      inputShape: [side, side, channels],
      classes: 10,
    });
    expect(shapes(graph)).toEqual({
      "conv1.weight": [6, channels, 5, 5],
      "conv1.bias": [6],
      "conv2.weight": [16, 6, 5, 5],
      "conv2.bias": [16],
      "fc1.weight": [120, 400],
      "fc1.bias": [120],
      "fc2.weight": [84, 120],
      "fc2.bias": [84],
      "fc3.weight": [10, 84],
      "fc3.bias": [10],
    });
  });

  it("has 61,706 parameters on grey images and refuses other sizes", () => {
    const { build } = getArchitecture("lenet");
    expect(count(build({ inputShape: [28, 28, 1], classes: 10 }))).toBe(61_706);
    for (const inputShape of [[28, 32, 1], [30, 30, 1], [784]]) {
      expectError(() => build({ inputShape, classes: 10 }), "ERR_FM_ARGUMENT", "inputShape");
    }
  });
});

describe("mlp", () => {
  it("has the hidden layers asked for", () => {
    const { build } = getArchitecture("mlp");
    const graph = build({ inputShape: [28, 28, 1], classes: 10, hidden: [300, 100] });
    expect(graph.nodes.map((n) => n.op)).toEqual([
      "flatten",
      "linear",
      "relu",
      "linear",
      "relu",
      "linear",
    ]);
    expect(shapes(graph)).toMatchObject({
      "fc1.weight": [300, 784],
      "fc2.weight": [100, 300],
      "fc3.weight": [10, 100],
    });
    expect(count(graph)).toBe(266_610);
  });

  it("reads rows, by default through one layer of 128, and refuses none", () => {
    const { build } = getArchitecture("mlp");
    const graph = build({ inputShape: [20], classes: 3 });
    expect(graph.nodes[0]?.op).toBe("linear");
    expect(shapes(graph)["fc2.weight"]).toEqual([3, 128]);
    expectError(
      () => build({ inputShape: [20], classes: 3, hidden: [] }),
      "ERR_FM_ARGUMENT",
      "hidden",
    );
    expectError(
      () => build({ inputShape: [20], classes: 3, hidden: [4, -1] }),
      "ERR_FM_ARGUMENT",
      "fc2",
    );
  });
});

describe("every architecture", () => {
  it.each([...architectures.keys()])(
    "%s names its features, and only the head reads them",
    (name) => {
      const architecture = getArchitecture(name);
      const graph = architecture.build(kCifar);
      expect(graph.name).toBe(name);
      expect(graph.outputs).toEqual(["logits", architecture.features]);
      expect(around(graph, "logits").maker).toBe("linear");
      expect(around(graph, architecture.features).readers).toHaveLength(1);
      expect(JSON.parse(JSON.stringify(graph))).toEqual(graph);
      expectError(
        () => architecture.build({ ...kCifar, classes: 0 }),
        "ERR_FM_ARGUMENT",
        "classes",
      );
    },
  );

  it("is found by name alone", () => {
    expectError(
      () => getArchitecture("resnet21"),
      "ERR_FM_ARGUMENT",
      "resnet21",
      "resnet20",
      "mlp",
    );
    expectError(() => getArchitecture("toString"), "ERR_FM_ARGUMENT", "lenet");
  });
});
