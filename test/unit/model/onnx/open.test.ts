import { existsSync } from "node:fs";
import { copyFile, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import { OnnxFile } from "../../../../src/io/onnx/onnx-file.js";
import { parseTensorProto } from "../../../../src/io/onnx/tensor-proto.js";
import { loadNetwork } from "../../../../src/model/model.js";
import { openOnnxModel } from "../../../../src/model/onnx/open.js";
import {
  ATTRIBUTE,
  bytes,
  concat,
  graph,
  int,
  model,
  node,
  packedFloats,
  packedInts,
  tensor,
  text,
  value,
} from "../../io/onnx/writer.js";
import { expectError, temporaryFolder } from "../../io/support.js";

const at = temporaryFolder();
let number = 0;

async function fileOf(bytes: Uint8Array): Promise<string> {
  number += 1;
  const path = at(`m-${number}.onnx`);
  await writeFile(path, bytes);
  return path;
}

function list(count: number): readonly number[] {
  return Array.from({ length: count }, (_, i) => i + 1);
}

/** x (N, 2) → MatMul (2, 3) → Add → Softmax. */
function classifierFile(inputDims: readonly (number | string | null)[]): Uint8Array {
  return model(
    graph({
      nodes: [
        node("Relu", ["x"], ["r"]),
        node("MatMul", ["r", "w"], ["m"]),
        node("Add", ["m", "b"], ["z"]),
        node("Softmax", ["z"], ["y"], ATTRIBUTE.int("axis", 1)),
      ],
      initializers: [
        tensor("w", "float", [2, 3], packedFloats(list(6))),
        tensor("b", "float", [3], packedFloats(list(3))),
      ],
      inputs: [value("x", inputDims)],
      outputs: [value("y", ["n", 3])],
    }),
  );
}

describe("openOnnxModel", () => {
  it("makes the last layer's output the logits, without the softmax behind it", async () => {
    const opened = await openOnnxModel(await fileOf(classifierFile(["n", 2])));
    expect(opened.graph.inputs.map(({ shape }) => shape)).toEqual([[2]]);
    expect(opened.graph.nodes.map(({ op }) => op)).toEqual(["relu", "linear"]);
    expect(opened.graph.nodes.at(-1)?.outputs).toEqual(opened.graph.outputs);
    expect(opened.graph.nodes.at(-1)?.parameters).toEqual({ weight: "w", bias: "b" });
    expect(opened.features).toBe(opened.graph.nodes.at(-1)?.inputs[0]);
    expect(opened.notes.join()).toMatch(/softmax is left out/);
  });

  it("computes samples independently of the batch", async () => {
    const opened = await openOnnxModel(await fileOf(classifierFile([4, 2])));
    using network = await loadNetwork(opened, { threads: 1 });
    const [logits = ""] = opened.graph.outputs;
    const input = opened.graph.inputs[0]?.name ?? "";
    const made = await network.run(new Map([[input, Float32Array.of(1, 0, -1, 1)]]), [logits], 2);
    expect([...(made.get(logits) ?? [])]).toEqual([2, 4, 6, 5, 7, 9]);
  });

  it("writes a changed weight back in the file's own order, every other byte as it was", async () => {
    const path = await fileOf(classifierFile(["n", 2]));
    const opened = await openOnnxModel(path);
    const weights = new Map([...opened.weights].map(([name, values]) => [name, values.slice()]));
    // (out, in) = (1, 0) of the engine is (in, out) = (0, 1) of the file.
    (weights.get("w") as Float32Array)[2] = 64;
    const target = at("written.onnx");
    await opened.writeBack?.(weights, target);
    await using written = await OnnxFile.open(target);
    const w = written.model.graph.initializers.get("w") ?? expect.fail("no w");
    expect([...(await written.readTensor(w)).data]).toEqual([1, 64, 3, 4, 5, 6]);
    const [before, after] = [await readFile(path), await readFile(target)];
    expect(after.length).toBe(before.length);
    expect(before.filter((byte, i) => byte !== after[i]).length).toBeLessThanOrEqual(4);
  });

  it("writes the file back byte for byte where nothing changed", async () => {
    const path = await fileOf(classifierFile(["n", 2]));
    const opened = await openOnnxModel(path);
    await opened.writeBack?.(opened.weights, at("same.onnx"));
    expect((await readFile(at("same.onnx"))).equals(await readFile(path))).toBe(true);
  });

  it("refuses sizes that the file leaves open, two inputs, and outputs that are no logits", async () => {
    await expectError(
      async () => openOnnxModel(await fileOf(classifierFile(["n", "width"]))),
      "ERR_FM_ARGUMENT",
      "size 1",
    );
    const two = graph({
      nodes: [node("Add", ["x", "z"], ["y"])],
      inputs: [value("x", [1, 4]), value("z", [1, 4])],
      outputs: [value("y", [1, 4])],
    });
    await expectError(
      async () => openOnnxModel(await fileOf(model(two))),
      "ERR_FM_UNSUPPORTED",
      "one graph input",
    );
    const image = graph({
      nodes: [node("Relu", ["x"], ["y"])],
      inputs: [value("x", [1, 3, 4, 4])],
      outputs: [value("y", [1, 3, 4, 4])],
    });
    await expectError(
      async () => openOnnxModel(await fileOf(model(image))),
      "ERR_FM_UNSUPPORTED",
      "logits",
    );
  });
});

/** A node of its output's name: onnxruntime wants every name once. */
function named(
  opType: string,
  inputs: readonly string[],
  outputs: readonly string[],
  ...attributes: Uint8Array[]
): Uint8Array {
  return concat(
    ...inputs.map((name) => text(1, name)),
    ...outputs.map((name) => text(2, name)),
    text(3, outputs.join()),
    text(4, opType),
    ...attributes.map((attribute) => bytes(5, attribute)),
  );
}

/** ids (N, 4) → embedding → two heads of attention → the embedding's own numbers as the head. */
function languageModelFile(): Uint8Array {
  const shape = ["n", 4].map((size) =>
    bytes(1, typeof size === "number" ? int(1, size) : text(2, size)),
  );
  const ids = concat(text(1, "ids"), bytes(2, bytes(1, int(1, 7), bytes(2, ...shape))));
  const wave = (count: number) => Array.from({ length: count }, (_, i) => Math.sin(i * 1.7));
  const matrix = (name: string, rows: number, columns: number) =>
    tensor(name, "float", [rows, columns], packedFloats(wave(rows * columns)));
  const perm = (...axes: readonly number[]) => ATTRIBUTE.ints("perm", axes);
  return model(
    graph({
      nodes: [
        named("Gather", ["wte", "ids"], ["e"]),
        named("LayerNormalization", ["e", "scale"], ["x"]),
        named("MatMul", ["x", "wq"], ["q"]),
        named("MatMul", ["x", "wk"], ["k"]),
        named("Reshape", ["q", "split"], ["qs"]),
        named("Reshape", ["k", "split"], ["ks"]),
        named("Transpose", ["qs"], ["qh"], perm(0, 2, 1, 3)),
        named("Transpose", ["ks"], ["kt"], perm(0, 2, 3, 1)),
        named("Transpose", ["ks"], ["kh"], perm(0, 2, 1, 3)),
        named("MatMul", ["qh", "kt"], ["scores"]),
        named("Softmax", ["scores"], ["weights"]),
        named("MatMul", ["weights", "kh"], ["mixed"]),
        named("Transpose", ["mixed"], ["merged"], perm(0, 2, 1, 3)),
        named("Reshape", ["merged", "join"], ["joined"]),
        named("Add", ["e", "joined"], ["h"]),
        named("Transpose", ["wte"], ["head"], perm(1, 0)),
        named("MatMul", ["h", "head"], ["y"]),
      ],
      initializers: [
        matrix("wte", 5, 6),
        matrix("wq", 6, 6),
        matrix("wk", 6, 6),
        tensor("scale", "float", [6], packedFloats(wave(6))),
        tensor("split", "int64", [4], packedInts(7, [0, 0, 2, 3])),
        tensor("join", "int64", [3], packedInts(7, [0, 0, 6])),
      ],
      inputs: [ids],
      outputs: [value("y", ["n", 4, 5])],
    }),
  );
}

describe("a language model", () => {
  it("takes (T) ids a sample and computes what onnxruntime computes, the head tied", async () => {
    const file = languageModelFile();
    const opened = await openOnnxModel(await fileOf(file));
    expect(opened.graph.inputs).toEqual([{ name: "ids", shape: [4], dtype: "i32" }]);
    const head = opened.graph.nodes.at(-1);
    expect([head?.op, head?.parameters]).toEqual(["linear", { weight: "wte" }]);
    const ids = [0, 1, 2, 3, 4, 4, 3, 0];
    using network = await loadNetwork(opened, { threads: 1 });
    const [logits = ""] = opened.graph.outputs;
    const made = await network.run(new Map([["ids", Int32Array.from(ids)]]), [logits], 2);
    const session = await InferenceSession.create(file, { logSeverityLevel: 4 });
    const fed = new Tensor("int64", BigInt64Array.from(ids, BigInt), [2, 4]);
    const expected = (await session.run({ ids: fed }))["y"]?.data as Float32Array;
    expect(expected).toHaveLength(40);
    expected.forEach((each, i) => {
      expect(made.get(logits)?.[i]).toBeCloseTo(each, 4);
    });
  });
});

const kData = resolve(process.env["FISHERMASK_DATA"] ?? "../shared/data");
const kMnist = join(kData, "onnx", "mnist-8.onnx");

describe.skipIf(!existsSync(kMnist))(`mnist-8.onnx (skipped without ${kMnist})`, () => {
  it("computes what onnxruntime computed", async () => {
    const opened = await openOnnxModel(kMnist);
    const folder = join(kData, "onnx", "mnist-8_test_data_set_0");
    const read = async (name: string) =>
      parseTensorProto(await readFile(join(folder, name)), name).data as Float32Array;
    using network = await loadNetwork(opened, { threads: 1 });
    const [logits = ""] = opened.graph.outputs;
    const input = opened.graph.inputs[0]?.name ?? "";
    const made = await network.run(new Map([[input, await read("input_0.pb")]]), [logits]);
    const expected = await read("output_0.pb");
    expected.forEach((value, i) => {
      expect(Math.abs((made.get(logits)?.[i] ?? Number.NaN) - value)).toBeLessThanOrEqual(
        1e-3 + 1e-5 * Math.abs(value),
      );
    });
  });

  it("has a linear head with a bias and images in (H, W, C)", async () => {
    const path = at("mnist.onnx");
    await copyFile(kMnist, path);
    const opened = await openOnnxModel(path);
    expect(opened.graph.inputs[0]?.shape).toEqual([28, 28, 1]);
    expect(opened.graph.nodes.map(({ op }) => op)).toEqual([
      ...["conv2d", "relu", "max_pool2d", "conv2d", "relu", "max_pool2d"],
      ...["flatten", "linear"],
    ]);
    await opened.writeBack?.(opened.weights, at("mnist-same.onnx"));
    expect((await readFile(at("mnist-same.onnx"))).equals(await readFile(path))).toBe(true);
  });
});
