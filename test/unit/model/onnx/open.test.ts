import { existsSync } from "node:fs";
import { copyFile, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { OnnxFile } from "../../../../src/io/onnx/onnx-file.js";
import { parseTensorProto } from "../../../../src/io/onnx/tensor-proto.js";
import { loadNetwork } from "../../../../src/model/model.js";
import { openOnnxModel } from "../../../../src/model/onnx/open.js";
import {
  ATTRIBUTE,
  graph,
  model,
  node,
  packedFloats,
  tensor,
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
