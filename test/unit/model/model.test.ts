import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { sha256File } from "../../../src/io/digest.js";
import {
  SafetensorsFile,
  type TensorSource,
  writeSafetensors,
} from "../../../src/io/safetensors.js";
import {
  createModel,
  loadNetwork,
  type ModelShape,
  openModel,
  parameterCount,
  readWeights,
  saveModel,
} from "../../../src/model/model.js";
import { expectError, temporaryFolder } from "../io/support.js";

const file = temporaryFolder();
const SHAPE: ModelShape = { arch: "mlp", inputShape: [2, 2, 1], classes: 3, hidden: [5] };

/** The network's tensors in reverse order, as f16 where asked, with metadata of its own. */
async function foreignFile(name: string, dtype: "F32" | "F16"): Promise<string> {
  const { graph } = createModel(SHAPE, 1);
  const tensors = [...graph.parameters].reverse().map(({ name: tensor, shape }): TensorSource => {
    const count = shape.reduce((a, b) => a * b, 1);
    // 1, 2, 3, … are exact in both types; f16 1.0 is 0x3c00, 2.0 is 0x4000.
    const data =
      dtype === "F32"
        ? Float32Array.from({ length: count }, (_, i) => i + 0.1)
        : Uint16Array.from({ length: count }, (_, i) => (i % 2 === 0 ? 0x3c00 : 0x4000));
    return { name: tensor, shape, dtype, data: new Uint8Array(data.buffer) };
  });
  await writeSafetensors(file(name), tensors, { format: "pt", note: "theirs" });
  return file(name);
}

describe("a network of a file", () => {
  it("knows where it came from", async () => {
    const path = await foreignFile("known.safetensors", "F32");
    const model = await openModel(path, SHAPE);
    expect(model).toMatchObject({ arch: "mlp", features: "features", file: path });
    expect(model.sha256).toBe(await sha256File(path));
    expect([...model.weights.keys()]).toEqual(["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]);
    expect(parameterCount(model.graph)).toBe(20 + 5 + 15 + 3);
  });

  it.each(["F32", "F16"] as const)(
    "in %s is written back byte for byte when nothing changed",
    async (dtype) => {
      const path = await foreignFile(`same-${dtype}.safetensors`, dtype);
      const model = await openModel(path, SHAPE);
      const out = file(`same-${dtype}-out.safetensors`);
      await saveModel(model, model.weights, out);
      expect(readFileSync(out).equals(readFileSync(path))).toBe(true);
    },
  );

  it("is written back with the changed weights alone, over its own file too", async () => {
    for (const dtype of ["F32", "F16"] as const) {
      const path = await foreignFile(`changed-${dtype}.safetensors`, dtype);
      const before = readFileSync(path);
      const model = await openModel(path, SHAPE);
      const bias = (model.weights.get("fc1.bias") as Float32Array).slice();
      bias[2] = 0;
      await saveModel(model, new Map([...model.weights, ["fc1.bias", bias]]), path);
      const after = readFileSync(path);
      expect(after.length).toBe(before.length);
      await using source = await SafetensorsFile.open(path);
      expect([...(await source.readFloat32("fc1.bias"))]).toEqual([...bias]);
      const begin = source.dataStart + (source.tensors.get("fc1.bias")?.begin ?? 0);
      const width = dtype === "F32" ? 4 : 2;
      for (const [i, byte] of after.entries()) {
        if (i >= begin + 2 * width && i < begin + 3 * width) continue;
        if (byte !== before[i]) expect.fail(`byte ${i} changed`);
      }
    }
  });

  it("is refused where it does not fit or holds NaN, and its message names the tensor", async () => {
    const path = await foreignFile("refused.safetensors", "F32");
    const wider = { ...SHAPE, hidden: [6] };
    await expectError(() => openModel(path, wider), "ERR_FM_MISMATCH", "fc1.weight", path);
    await expectError(() => openModel(path, { ...SHAPE, arch: "net" }), "ERR_FM_ARGUMENT", "net");
    const model = await openModel(path, SHAPE);
    const bad = Float32Array.of(1, 2, Number.NaN);
    const weights = new Map([...model.weights, ["fc2.bias", bad]]);
    const out = file("nan.safetensors");
    await expectError(() => saveModel(model, weights, out), "ERR_FM_NON_FINITE", "fc2.bias");
    await expectError(() => openModel(out, SHAPE), "ERR_FM_IO", out);
    await expectError(
      () => loadNetwork({ ...model, weights }, { threads: 1 }),
      "ERR_FM_NON_FINITE",
      "fc2.bias",
    );
    const tensors = [...model.graph.parameters].map(({ name, shape }): TensorSource => {
      const values = (model.weights.get(name) as Float32Array).slice();
      if (name === "fc2.weight") values[4] = Number.POSITIVE_INFINITY;
      return { name, shape, dtype: "F32", data: new Uint8Array(values.buffer) };
    });
    await writeSafetensors(out, tensors);
    await expectError(() => openModel(out, SHAPE), "ERR_FM_NON_FINITE", "fc2.weight", "element 4");
  });
});

describe("a fresh network", () => {
  it("is written in graph order, names its architecture, and comes back through the engine", async () => {
    const model = createModel(SHAPE, 7);
    expect(model).toMatchObject({ file: null, sha256: null });
    const path = file("fresh.safetensors");
    using network = await loadNetwork(model, { threads: 1 });
    await saveModel(model, await readWeights(model.graph, network), path);
    const read = await openModel(path, SHAPE);
    expect(read.weights).toEqual(model.weights);
    await using source = await SafetensorsFile.open(path);
    expect(source.metadata.get("fishermask.arch")).toBe("mlp");
    expect([...source.tensors.keys()]).toEqual([...model.weights.keys()]);
    expect(createModel(SHAPE, 7).weights).toEqual(model.weights);
    expect(createModel(SHAPE, 8).weights).not.toEqual(model.weights);
  });

  it("lacking a tensor is not written", async () => {
    const model = createModel(SHAPE, 7);
    const weights = new Map([...model.weights].slice(1));
    const path = file("lacking.safetensors");
    await expectError(() => saveModel(model, weights, path), "ERR_FM_MISMATCH", "fc1.weight");
  });
});
