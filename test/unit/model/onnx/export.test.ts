import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { getArchitecture } from "../../../../src/model/architectures.js";
import { GraphBuilder } from "../../../../src/model/builder.js";
import type { Graph } from "../../../../src/model/graph.js";
import { initialize } from "../../../../src/model/initialize.js";
import { loadNetwork, type Model } from "../../../../src/model/model.js";
import { exportOnnx } from "../../../../src/model/onnx/export.js";
import { openOnnxModel } from "../../../../src/model/onnx/open.js";
import { expectError } from "../../io/support.js";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "fishermask-export-"));
});
afterAll(() => rm(folder, { recursive: true }));

const BATCH = 3;

function modelOf(graph: Graph): Model {
  const weights = initialize(graph, 1);
  // Running statistics other than 0 and 1, so that an exporter that mixes them up is seen.
  for (const [name, values] of weights) {
    if (/running_mean$/.test(name))
      weights.set(
        name,
        values.map((_, i) => 0.1 * Math.sin(i)),
      );
    if (/running_var$/.test(name))
      weights.set(
        name,
        values.map((_, i) => 1 + 0.5 * Math.cos(i)),
      );
  }
  return { arch: graph.name, graph, features: "", weights, file: null, sha256: null };
}

/** The same images for both: (N, H, W, C) and (N, C, H, W). */
function images([height, width, channels]: readonly number[]): Record<
  "last" | "first",
  Float32Array
> {
  const places = (height as number) * (width as number);
  const depth = channels as number;
  const last = Float32Array.from({ length: BATCH * places * depth }, (_, i) => Math.sin(0.37 * i));
  const first = last.map((_, i) => {
    const [n, c, p] = [
      Math.floor(i / (places * depth)),
      Math.floor(i / places) % depth,
      i % places,
    ];
    return last[(n * places + p) * depth + c] as number;
  });
  return { last, first };
}

async function logitsOf(model: Model, data: Float32Array): Promise<Float64Array> {
  using network = await loadNetwork(model, { threads: 1 });
  const name = model.graph.outputs[0] as string;
  const input = model.graph.inputs[0]?.name as string;
  return (await network.run(new Map([[input, data]]), [name], BATCH)).get(name) as Float64Array;
}

async function expectSame(model: Model): Promise<void> {
  const path = join(folder, `${model.arch}.onnx`);
  await exportOnnx(model, model.weights, path);
  const shape = model.graph.inputs[0]?.shape as readonly number[];
  const { last, first } = images(shape);
  const session = await InferenceSession.create(path);
  const [height, width, channels] = shape as [number, number, number];
  const tensor = new Tensor("float32", first, [BATCH, channels, height, width]);
  const output = (await session.run({ input: tensor }))["logits"];
  const own = await logitsOf(model, last);
  const scale = Math.max(...own.map(Math.abs));
  const differ = (values: ArrayLike<number>): number =>
    Math.max(...own.map((value, i) => Math.abs(value - (values[i] as number)))) / scale;
  expect(output?.dims).toEqual([BATCH, own.length / BATCH]);
  expect(differ(output?.data as Float32Array)).toBeLessThan(1e-5);
  const back = await openOnnxModel(path);
  expect(differ(await logitsOf(back, last))).toBeLessThan(1e-5);
  for (const [name, values] of model.weights) {
    if (back.weights.has(name)) expect(back.weights.get(name)).toEqual(values);
  }
}

/** Every op that the exporter covers, with sizes and paddings that differ by side. */
function everyOp(): Graph {
  const b = new GraphBuilder("every-op");
  let x = b.input("input", [11, 9, 2]);
  const wide = { out: 6, kernel: [3, 2], stride: [2, 1], padding: [1, 0, 2, 1] } as const;
  x = b.conv2d("conv1", x, { ...wide, groups: 2, bias: false });
  x = b.batchNorm("bn1", x, { epsilon: 1e-3 });
  const unary = ["relu", "sigmoid", "tanh", "softplus", "hard_swish", "silu"];
  const branches = unary.map((op) => b.node(op, x, { name: `branch_${op}` }));
  const leaky = b.node("leaky_relu", x, { name: "leaky", attributes: { alpha: 0.2 } });
  const elu = b.node("elu", x, { name: "elu1", attributes: { alpha: 0.7 } });
  const hard = b.node("hard_sigmoid", x, { name: "hard", attributes: { alpha: 0.3, beta: 0.4 } });
  x = b.add("sum", [...branches, leaky, elu, hard]);
  const pooled = b.maxPool2d("pool1", x, { kernel: [2, 3], stride: 1, padding: [0, 1, 1, 0] });
  const averaged = b.avgPool2d("pool2", x, {
    kernel: [2, 3],
    stride: 1,
    padding: [0, 1, 1, 0],
    countIncludePad: false,
  });
  x = b.concat("join", [pooled, averaged], { axis: -1 });
  x = b.concat("rows", [x, x], { axis: 0 });
  x = b.pad2d("pad", x, { step: [2, 1], padding: [1, 0, 0, 2], channels: [1, 2], value: 0.25 });
  x = b.dropout("drop", x, { rate: 0.5 });
  const features = [b.flatten("flat", x), b.globalAvgPool("mean", x)];
  x = b.concat("features", features, { axis: 0 });
  return b.build([b.linear("fc", x, { out: 5, output: "logits" })]);
}

describe("ONNX export", () => {
  it.each([
    ["lenet", [28, 28, 1]],
    ["resnet20", [32, 32, 3]],
  ] as const)(
    "%s gives the same logits in onnxruntime, and read back",
    async (name, inputShape) => {
      await expectSame(modelOf(getArchitecture(name).build({ inputShape, classes: 10 })));
    },
  );

  it("covers every op that it names", async () => {
    await expectSame(modelOf(everyOp()));
  });

  it("refuses other ops by name, and writes nothing", async () => {
    const b = new GraphBuilder("other");
    const x = b.node("lrn", b.input("input", [4, 4, 2]), {
      name: "norm",
      attributes: { size: 3, alpha: 1, beta: 0.5, bias: 1 },
    });
    const logits = b.linear("fc", b.flatten("flat", x), { out: 3, output: "logits" });
    const model = modelOf(b.build([logits]));
    const path = join(folder, "other.onnx");
    await expectError(
      () => exportOnnx(model, model.weights, path),
      "ERR_FM_UNSUPPORTED",
      "'norm' (lrn)",
    );
    await expect(stat(path)).rejects.toThrow("ENOENT");
  });
});
