import { writeFile } from "node:fs/promises";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import { OnnxFile } from "../../../../src/io/onnx/onnx-file.js";
import { type InputBinding, importOnnx } from "../../../../src/model/onnx/import.js";
import { EngineNetwork } from "../../../../src/native/network.js";
import {
  ATTRIBUTE,
  bytes,
  concat,
  graph,
  int,
  node,
  packedFloats,
  packedInts,
  tensor,
  value,
} from "../../io/onnx/writer.js";
import { temporaryFolder } from "../../io/support.js";

interface Case {
  readonly op: string;
  readonly opset: number;
  /** The computed input's sizes. */
  readonly x: readonly number[];
  /** Initializers behind x, of floats by their sizes or of int64 by their values; null: left out. */
  readonly more?: readonly (
    | { readonly dims: readonly number[] }
    | { readonly ints: readonly number[] }
    | null
  )[];
  readonly attributes?: readonly Uint8Array[];
  /** The result's rank. */
  readonly rank: number;
}

const { int: i, ints, float, string } = ATTRIBUTE;
const f = (...dims: readonly number[]) => ({ dims });
const n = (...values: readonly number[]) => ({ ints: values });

const kCases: readonly Case[] = [
  {
    op: "Conv",
    opset: 22,
    x: [2, 4, 7, 6],
    more: [f(6, 2, 3, 2), f(6)],
    rank: 4,
    attributes: [
      i("group", 2),
      ints("strides", [2, 1]),
      ints("pads", [1, 0, 2, 1]),
      ints("dilations", [1, 2]),
    ],
  },
  {
    op: "Conv",
    opset: 11,
    x: [1, 3, 8, 5],
    more: [f(3, 1, 3, 3)],
    rank: 4,
    attributes: [i("group", 3), string("auto_pad", "SAME_LOWER"), ints("strides", [2, 2])],
  },
  {
    op: "Conv",
    opset: 22,
    x: [2, 4, 9],
    more: [f(4, 2, 3), f(4)],
    rank: 3,
    attributes: [i("group", 2), ints("strides", [2]), ints("pads", [2, 1])],
  },
  {
    op: "Conv",
    opset: 22,
    x: [2, 4, 5, 4, 6],
    more: [f(6, 2, 3, 2, 2), f(6)],
    rank: 5,
    attributes: [
      i("group", 2),
      ints("strides", [2, 1, 2]),
      ints("pads", [1, 0, 1, 0, 1, 1]),
      ints("dilations", [1, 2, 1]),
    ],
  },
  {
    op: "ConvTranspose",
    opset: 22,
    x: [2, 4, 5, 3],
    more: [f(4, 3, 3, 2), f(6)],
    rank: 4,
    attributes: [
      i("group", 2),
      ints("strides", [2, 3]),
      ints("pads", [1, 0, 0, 1]),
      ints("output_padding", [1, 0]),
    ],
  },
  {
    op: "ConvTranspose",
    opset: 11,
    x: [1, 2, 4, 4],
    more: [f(2, 2, 3, 3)],
    rank: 4,
    attributes: [ints("strides", [2, 2]), ints("output_shape", [7, 8])],
  },
  {
    op: "ConvTranspose",
    opset: 11,
    x: [1, 2, 4, 5],
    more: [f(2, 2, 3, 3)],
    rank: 4,
    attributes: [ints("strides", [2, 2]), string("auto_pad", "SAME_UPPER")],
  },
  {
    op: "ConvTranspose",
    opset: 22,
    x: [1, 2, 3, 4, 2],
    more: [f(2, 3, 2, 3, 2), f(3)],
    rank: 5,
    attributes: [ints("strides", [2, 1, 2]), ints("pads", [0, 1, 0, 1, 1, 0])],
  },
  {
    op: "MaxPool",
    opset: 22,
    x: [2, 3, 7, 8],
    rank: 4,
    attributes: [
      ints("kernel_shape", [3, 2]),
      ints("strides", [2, 3]),
      ints("pads", [1, 0, 1, 1]),
      i("ceil_mode", 1),
    ],
  },
  {
    op: "MaxPool",
    opset: 22,
    x: [1, 2, 5, 6, 7],
    rank: 5,
    attributes: [
      ints("kernel_shape", [2, 3, 2]),
      ints("strides", [2, 2, 1]),
      ints("pads", [1, 0, 1, 0, 1, 0]),
      ints("dilations", [2, 1, 2]),
    ],
  },
  {
    op: "MaxPool",
    opset: 12,
    x: [1, 2, 9],
    rank: 3,
    attributes: [ints("kernel_shape", [4]), string("auto_pad", "SAME_LOWER"), ints("strides", [2])],
  },
  {
    op: "AveragePool",
    opset: 19,
    x: [2, 3, 7, 8],
    rank: 4,
    attributes: [
      ints("kernel_shape", [3, 2]),
      ints("strides", [2, 3]),
      ints("pads", [1, 0, 1, 1]),
      i("count_include_pad", 1),
    ],
  },
  {
    op: "AveragePool",
    opset: 19,
    x: [2, 3, 7, 8],
    rank: 4,
    attributes: [
      ints("kernel_shape", [3, 3]),
      ints("strides", [2, 2]),
      ints("pads", [1, 1, 1, 1]),
      i("ceil_mode", 1),
    ],
  },
  {
    op: "AveragePool",
    opset: 19,
    x: [1, 2, 6, 5, 7],
    rank: 5,
    attributes: [
      ints("kernel_shape", [2, 2, 3]),
      ints("strides", [1, 2, 2]),
      ints("pads", [1, 0, 1, 0, 1, 1]),
      ints("dilations", [2, 1, 1]),
    ],
  },
  {
    op: "LpPool",
    opset: 18,
    x: [2, 3, 7, 8],
    rank: 4,
    attributes: [ints("kernel_shape", [3, 2]), ints("strides", [2, 2]), i("p", 3)],
  },
  { op: "GlobalAveragePool", opset: 17, x: [2, 3, 4, 5], rank: 4 },
  { op: "GlobalMaxPool", opset: 17, x: [2, 3, 4, 5], rank: 4 },
  {
    op: "BatchNormalization",
    opset: 15,
    x: [2, 3, 4],
    more: [f(3), f(3), f(3), f(3)],
    rank: 3,
    attributes: [float("epsilon", 0.01)],
  },
  { op: "InstanceNormalization", opset: 17, x: [2, 3, 4, 5], more: [f(3), f(3)], rank: 4 },
  {
    op: "GroupNormalization",
    opset: 21,
    x: [2, 6, 4, 5],
    more: [f(6), f(6)],
    rank: 4,
    attributes: [i("num_groups", 3)],
  },
  {
    op: "LayerNormalization",
    opset: 17,
    x: [2, 3, 4, 5],
    more: [f(4, 5), f(4, 5)],
    rank: 4,
    attributes: [i("axis", 2)],
  },
  {
    op: "LRN",
    opset: 13,
    x: [2, 7, 3, 2],
    rank: 4,
    attributes: [i("size", 5), float("alpha", 0.3), float("beta", 0.6), float("bias", 1.5)],
  },
  {
    op: "LpNormalization",
    opset: 22,
    x: [2, 3, 4],
    rank: 3,
    attributes: [i("axis", 1), i("p", 1)],
  },
  { op: "MeanVarianceNormalization", opset: 13, x: [2, 3, 4, 5], rank: 4 },
  {
    op: "Gemm",
    opset: 13,
    x: [3, 4],
    more: [f(5, 4), f(3, 1)],
    rank: 2,
    attributes: [i("transB", 1), float("alpha", 0.5), float("beta", 2)],
  },
  {
    op: "Gemm",
    opset: 13,
    x: [4, 1],
    more: [f(4, 5), f(5)],
    rank: 2,
    attributes: [i("transA", 1)],
  },
  { op: "MatMul", opset: 13, x: [2, 1, 3, 4], more: [f(5, 4, 2)], rank: 4 },
  { op: "MatMul", opset: 13, x: [1, 3, 4], more: [f(4, 2)], rank: 3 },
  { op: "MatMul", opset: 13, x: [3, 4], more: [f(4)], rank: 1 },
  {
    op: "Einsum",
    opset: 12,
    x: [2, 3, 4],
    more: [f(4, 3, 5)],
    rank: 3,
    attributes: [string("equation", "bhk, khd -> dbh")],
  },
  { op: "Slice", opset: 13, x: [3, 4, 5], more: [n(-1, 4), n(-9, 0), n(2, 1), n(-2, -1)], rank: 3 },
  { op: "Transpose", opset: 13, x: [2, 3, 4], rank: 3, attributes: [ints("perm", [1, 2, 0])] },
  { op: "Reshape", opset: 14, x: [2, 3, 4], more: [n(0, -1, 2)], rank: 3 },
  { op: "Flatten", opset: 13, x: [2, 3, 4], rank: 2, attributes: [i("axis", -1)] },
  { op: "ReduceMean", opset: 18, x: [2, 3, 4], more: [n(-1, 0)], rank: 3 },
  { op: "Softmax", opset: 11, x: [2, 3, 4], rank: 3 },
  {
    op: "Resize",
    opset: 19,
    x: [1, 2, 4, 5],
    more: [null, null, n(1, 2, 7, 3)],
    rank: 4,
    attributes: [string("mode", "cubic")],
  },
  { op: "Pad", opset: 18, x: [2, 3, 4], more: [n(1, -1, 0, 2, 0, 3)], rank: 3 },
];

// Positive, as a variance must be, and without a pattern that layouts could hide in.
function numbers(count: number, seed: number): readonly number[] {
  let state = seed;
  return Array.from({ length: count }, () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return 0.1 + state / 2 ** 31;
  });
}

const size = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

function modelBytes({ op, opset, x, more = [], attributes = [], rank }: Case): Uint8Array {
  const names = more.map((each, k) => (each === null ? "" : `p${k}`));
  const initializers = more.flatMap((each, k) => {
    if (each === null) return [];
    if ("dims" in each) {
      return [tensor(`p${k}`, "float", each.dims, packedFloats(numbers(size(each.dims), k + 2)))];
    }
    return [tensor(`p${k}`, "int64", [each.ints.length], packedInts(7, each.ints))];
  });
  const made = graph({
    nodes: [node(op, ["x", ...names], ["y"], ...attributes)],
    initializers,
    inputs: [value("x", x)],
    outputs: [
      value(
        "y",
        Array.from({ length: rank }, () => null),
      ),
    ],
  });
  return concat(int(1, 8), bytes(7, made), bytes(8, int(2, opset)));
}

const at = temporaryFolder();

describe("imported operators compute what onnxruntime computes", () => {
  it.each(
    kCases.map((each, k) => ({ ...each, title: `${k}: ${each.op}-${each.opset} (${each.x})` })),
  )("$title", async (each) => {
    const model = modelBytes(each);
    const x = Float32Array.from(numbers(size(each.x), 1), (number) => number - 0.6);
    const session = await InferenceSession.create(model, { logSeverityLevel: 4 });
    const reference = (await session.run({ x: new Tensor("float32", x, each.x) }))["y"];
    const path = at(`${each.op}-${each.opset}-${each.x.join("-")}.onnx`);
    await writeFile(path, model);
    await using file = await OnnxFile.open(path);
    const inputs = new Map<string, InputBinding>([
      ["x", { kind: "value", dims: each.x, dtype: "float" }],
    ]);
    const imported = await importOnnx(file.model, (t) => file.readTensor(t), { name: "g", inputs });
    const output = imported.outputs[0]?.value ?? expect.fail("no computed output");
    using network = new EngineNetwork(JSON.stringify(imported.graph), { threads: 1 });
    await network.setParameters(imported.weights);
    const input = imported.inputs[0]?.value.name ?? "";
    const made = (await network.run(new Map([[input, x]]), [output])).get(output);
    expect(imported.outputs[0]?.dims).toEqual(reference?.dims);
    const expected = reference?.data as Float32Array;
    const worst = expected.reduce(
      (most, value, k) => Math.max(most, Math.abs(value - (made?.[k] ?? Number.NaN))),
      0,
    );
    expect(worst).toBeLessThanOrEqual(1e-4);
  });
});
