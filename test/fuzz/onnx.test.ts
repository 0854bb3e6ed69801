import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect, isDeepStrictEqual } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decodeTensor } from "../../src/io/onnx/decode.js";
import type { OnnxGraph, OnnxModel, OnnxTensor } from "../../src/io/onnx/model.js";
import { OnnxFile } from "../../src/io/onnx/onnx-file.js";
import { parseModel } from "../../src/io/onnx/parse-model.js";
import { rewriteOnnx } from "../../src/io/onnx/rewrite.js";
import { parseTensorProto } from "../../src/io/onnx/tensor-proto.js";
import { runOnBytes, WireReader } from "../../src/io/onnx/wire.js";
import { FishermaskError } from "../../src/native/errors.js";
import { FUZZ_MS, type FuzzTarget, fuzz } from "./engine.js";
import { BLIND, type Mutator } from "./mutate.js";
import { breakLength, mutateField } from "./mutate-proto.js";
import { DATA_FILE, onnxSeeds, tensorSeeds } from "./seeds.js";

// Most of what knows nothing of the format is refused at once; what does reaches further in.
const kMutators = [
  ...BLIND,
  ...new Array<Mutator>(2 * BLIND.length).fill(mutateField),
  ...new Array<Mutator>(3).fill(breakLength),
];
// Files take ten times as long as bytes in memory, and rewriting, which syncs to the disk, longer still.
const kFileEvery = 8;
const kRewriteEvery = 64;
const kSmallWindow = 16;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "fishermask-fuzz-"));
  writeFileSync(join(folder, DATA_FILE.name), DATA_FILE.bytes);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function* tensorsOf(graph: OnnxGraph): Generator<OnnxTensor> {
  yield* graph.initializers.values();
  for (const { attributes } of graph.nodes) {
    for (const attribute of attributes.values()) {
      if (attribute.kind === "tensor") {
        yield attribute.value;
      } else if (attribute.kind === "graph") {
        yield* tensorsOf(attribute.value);
      }
    }
  }
}

async function readAll(file: OnnxFile): Promise<void> {
  for (const tensor of tensorsOf(file.model.graph)) {
    try {
      const { data } = await file.readTensor(tensor);
      if (data.length !== tensor.elements) {
        throw new Error(`${data.length} elements of ${tensor.elements}`);
      }
    } catch (error) {
      // One tensor that cannot be read says nothing of the next.
      if (!(error instanceof FishermaskError)) {
        throw error;
      }
    }
  }
}

async function rewriteFirst(file: OnnxFile): Promise<void> {
  for (const { name, dtype, elements } of file.model.graph.initializers.values()) {
    if (["float", "double", "float16", "bfloat16"].includes(dtype)) {
      const out = join(folder, "out");
      await rewriteOnnx(file, out, new Map([[name, new Float32Array(elements).fill(0.5)]]));
      await using again = await OnnxFile.open(out);
      if (again.size !== file.size) {
        throw new Error(`rewritten to ${again.size} bytes from ${file.size}`);
      }
      return;
    }
  }
}

/** What a parse comes to: the model, or the error's text. Anything but a FishermaskError goes on up. */
function resultOf(data: Uint8Array, reader: WireReader): OnnxModel | string {
  try {
    return runOnBytes(parseModel(reader, data.length), data);
  } catch (error) {
    if (error instanceof FishermaskError) {
      return error.message;
    }
    throw error;
  }
}

/** Parses the bytes whole and in windows of 16, which must come to the same, and decodes the tensors. */
function readInMemory(data: Uint8Array): void {
  const whole = resultOf(data, new WireReader("m.onnx", data));
  const windowed = resultOf(data, new WireReader("m.onnx", data.length, kSmallWindow));
  if (!isDeepStrictEqual(whole, windowed)) {
    throw new Error(`read whole: ${inspect(whole)}\nread in windows: ${inspect(windowed)}`);
  }
  if (typeof whole === "string") {
    throw new FishermaskError("ERR_FM_BAD_FILE", whole);
  }
  for (const tensor of tensorsOf(whole.graph)) {
    if (tensor.external === null) {
      decodeOrRefuse(data, tensor);
    }
  }
}

function decodeOrRefuse(data: Uint8Array, tensor: OnnxTensor): void {
  try {
    runOnBytes(decodeTensor("m.onnx", tensor), data);
  } catch (error) {
    if (!(error instanceof FishermaskError)) {
      throw error;
    }
  }
}

function onnxTarget(): FuzzTarget {
  const path = join(folder, "m.onnx");
  return {
    name: "onnx",
    seeds: onnxSeeds(),
    mutators: kMutators,
    async execute(data, index) {
      if (index % kFileEvery !== 0) {
        readInMemory(data);
        return;
      }
      writeFileSync(path, data);
      await using file = await OnnxFile.open(path);
      await readAll(file);
      if (index % kRewriteEvery === 0) {
        await rewriteFirst(file);
      }
    },
  };
}

describe("mutated ONNX files", () => {
  it(
    "are read or refused, models",
    async () => {
      const { executions, accepted, failures } = await fuzz(onnxTarget());
      expect(failures).toEqual([]);
      expect(executions).toBeGreaterThan(0);
      // Mutants that are all refused at the door would test nothing behind it.
      expect(accepted).toBeGreaterThanOrEqual(executions > 100 ? executions / 100 : 0);
    },
    3 * FUZZ_MS,
  );

  it(
    "are read or refused, tensors",
    async () => {
      const execute = (data: Uint8Array) => void parseTensorProto(data, "t.pb");
      const target = { name: "onnx-tensor", seeds: tensorSeeds(), mutators: kMutators, execute };
      const { executions, failures } = await fuzz(target);
      expect(failures).toEqual([]);
      expect(executions).toBeGreaterThan(0);
    },
    3 * FUZZ_MS,
  );

  it("are refused when cut at any byte, or read where what is left is a model", async () => {
    const { execute, seeds } = onnxTarget();
    for (const seed of seeds.filter(({ length }) => length < 400).slice(0, 24)) {
      for (let size = 0; size < seed.length; size += 1) {
        const call = (async () => execute(seed.slice(0, size), 1))();
        await call.catch((error: unknown) => expect(error).toBeInstanceOf(FishermaskError));
      }
    }
  });
});
