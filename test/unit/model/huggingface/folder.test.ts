import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openHuggingFaceModel } from "../../../../src/model/huggingface/open.js";
import { saveModel } from "../../../../src/model/model.js";
import { floats, readTensors } from "../../../e2e/support.js";
import { expectError, temporaryFolder } from "../../io/support.js";
import { f32, writeFolder, writeTensors } from "./support.js";

const kFixtures = "test/fixtures/parity/transformers";
const file = temporaryFolder();

/** A copy of a fixture's folder, to be spoiled. */
function copyOf(fixture: string, name: string): string {
  cpSync(join(kFixtures, fixture), file(name), { recursive: true });
  return file(name);
}

function editJson(path: string, edit: (value: Record<string, unknown>) => void): void {
  const value = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
  edit(value);
  writeFileSync(path, JSON.stringify(value));
}

const open = (path: string) => openHuggingFaceModel(path, { sequenceLength: 4 });

describe("changed weights", () => {
  it("of a Conv1D go back to (in, out), and nothing else moves", async () => {
    const folder = copyOf("gpt2", "conv1d");
    const name = "transformer.h.0.attn.c_attn.weight";
    const model = await open(folder);
    const before = readTensors(join(folder, "model.safetensors"));
    const [rows = 0, columns = 0] = before.get(name)?.shape ?? [];
    const weights = model.weights.get(name) as Float32Array;
    // Engine: (out, in). Row 2, column 5 is at (5, 2) of the file.
    expect(weights[2 * rows + 5]).toBe(floats(before.get(name))[5 * columns + 2]);
    weights[2 * rows + 5] = 0;
    await saveModel(model, model.weights, file("conv1d-out"));
    const after = readTensors(join(file("conv1d-out"), "model.safetensors"));
    for (const [tensor, { bytes }] of before) {
      const changed = floats(after.get(tensor));
      const differing = Array.from(floats({ ...before.get(tensor)!, bytes }).entries())
        .filter(([i, value]) => !Object.is(value, changed[i]))
        .map(([i]) => i);
      expect(differing, tensor).toEqual(tensor === name ? [5 * columns + 2] : []);
    }
    const again = await open(file("conv1d-out"));
    expect(again.weights).toEqual(model.weights);
  });

  it("of bf16 shards are rounded to nearest even, and the others keep their bytes", async () => {
    const folder = copyOf("llama-tied-bf16", "bf16");
    const model = await open(folder);
    const name = "model.norm.weight";
    const weights = model.weights.get(name) as Float32Array;
    // 1 + 2^-8 lies half way between two bf16 values and goes to the even one; a little more goes up.
    weights[0] = 1 + 2 ** -8;
    weights[1] = 1 + 2 ** -8 + 2 ** -12;
    weights[2] = 1 + 3 * 2 ** -8;
    await saveModel(model, model.weights, file("bf16-out"));
    for (const shard of readdirSync(folder)) {
      if (!shard.endsWith(".safetensors")) continue;
      const before = readTensors(join(folder, shard));
      const after = readTensors(join(file("bf16-out"), shard));
      expect([...after.keys()]).toEqual([...before.keys()]);
      for (const [tensor, { bytes, dtype }] of before) {
        const from = tensor === name ? 6 : 0;
        expect(after.get(tensor)?.dtype).toBe(dtype);
        expect(after.get(tensor)?.bytes.subarray(from)).toEqual(bytes.subarray(from));
      }
    }
    const again = (await open(file("bf16-out"))).weights.get(name) as Float32Array;
    expect([...again.subarray(0, 3)]).toEqual([1, 1 + 2 ** -7, 1 + 2 ** -6]);
  });

  it("of a tied head that is stored twice reach both copies", async () => {
    const folder = copyOf("llama-tied-bf16", "twice");
    const shard = "model-00001-of-00002.safetensors";
    const tensors = readTensors(join(folder, shard));
    const embedding = tensors.get("model.embed_tokens.weight")!;
    writeTensors(join(folder, shard), {
      ...Object.fromEntries(tensors),
      "lm_head.weight": embedding,
    });
    editJson(join(folder, "model.safetensors.index.json"), (index) => {
      (index["weight_map"] as Record<string, string>)["lm_head.weight"] = shard;
      (index["metadata"] as Record<string, number>)["total_size"]! += embedding.bytes.length;
    });
    const model = await open(folder);
    (model.weights.get("model.embed_tokens.weight") as Float32Array)[3] = 0;
    await saveModel(model, model.weights, file("twice-out"));
    const after = readTensors(join(file("twice-out"), shard));
    expect(after.get("lm_head.weight")?.bytes).toEqual(
      after.get("model.embed_tokens.weight")?.bytes,
    );
    expect(after.get("lm_head.weight")?.bytes).not.toEqual(embedding.bytes);
    // Copies that differ are no tie.
    const other = { ...embedding, bytes: Uint8Array.from(embedding.bytes).fill(0, 0, 2) };
    writeTensors(join(folder, shard), { ...Object.fromEntries(tensors), "lm_head.weight": other });
    await expectError(() => open(folder), "ERR_FM_MISMATCH", "lm_head.weight", "element 0");
  });

  it("that the type cannot hold leave no folder behind", async () => {
    const model = await open(copyOf("mistral", "overflow"));
    (model.weights.get("model.norm.weight") as Float32Array)[0] = 1e6;
    const save = () => saveModel(model, model.weights, file("overflow-out"));
    await expectError(save, "ERR_FM_NON_FINITE", "model.norm.weight", "F16");
    expect(readdirSync(file(".")).filter((name) => name.includes("overflow-out"))).toEqual([]);
  });
});

describe("the other files", () => {
  it("are copied but for weights in other forms, hidden folders and links to folders", async () => {
    const folder = copyOf("bert", "others");
    writeFolder(folder, { "tokenizer.json": {}, ".gitattributes": {}, "pytorch_model.bin": {} });
    writeFolder(folder, {
      "optimizer.pt": {},
      "model.onnx": {},
      "tf_model.h5": {},
      "tokens.bin": {},
    });
    writeFolder(folder, {
      "pytorch_model.bin.index.json": {},
      "old.safetensors": {},
      "a.gguf": {},
    });
    writeFolder(join(folder, "sub"), { "notes.md": "kept", "model.onnx_data": {} });
    writeFolder(join(folder, ".cache"), { blob: {} });
    writeFileSync(file("blob"), "shared");
    symlinkSync(file("blob"), join(folder, "vocab.txt"));
    symlinkSync(join(folder, "sub"), join(folder, "loop"));
    const model = await open(folder);
    mkdirSync(file("others-out"));
    await saveModel(model, model.weights, file("others-out"));
    expect(readdirSync(file("others-out")).sort()).toEqual([
      ".gitattributes",
      "config.json",
      "model.safetensors",
      "sub",
      "tokenizer.json",
      "tokens.bin",
      "vocab.txt",
    ]);
    expect(readdirSync(join(file("others-out"), "sub"))).toEqual(["notes.md"]);
    expect(readFileSync(join(file("others-out"), "vocab.txt"), "utf8")).toBe("shared");
  });

  it("are never written over, nor into the model's own folder", async () => {
    const folder = copyOf("bert", "own");
    const model = await open(folder);
    const save = (destination: string) => () => saveModel(model, model.weights, destination);
    await expectError(save(folder), "ERR_FM_IO", "no empty folder");
    await expectError(save(join(folder, "out")), "ERR_FM_IO", "lies within");
    writeFileSync(file("a-file"), "mine");
    await expectError(save(file("a-file")), "ERR_FM_IO", "no empty folder");
    expect(readFileSync(file("a-file"), "utf8")).toBe("mine");
    await expectError(save(file("no/such/place")), "ERR_FM_IO", "no/such/place");
    expect(existsSync(join(folder, "out"))).toBe(false);
  });
});

describe("folders that are refused", () => {
  it("without weights, with pickles alone, with both forms", async () => {
    const folder = copyOf("bert", "forms");
    const rest = ["pytorch_model.bin", "pickles are never read"];
    writeFolder(folder, { "model.safetensors.index.json": {} });
    await expectError(() => open(folder), "ERR_FM_BAD_FILE", "both");
    const none = writeFolder(file("none"), {
      "config.json": JSON.parse(readFileSync(join(folder, "config.json"), "utf8")),
    });
    await expectError(() => open(none), "ERR_FM_BAD_FILE", "model.safetensors", "neither");
    writeFolder(none, { "pytorch_model.bin": {} });
    await expectError(() => open(none), "ERR_FM_UNSUPPORTED", ...rest);
    await expectError(() => open(writeFolder(file("empty"), {})), "ERR_FM_IO", "config.json");
  });

  it("of another family or class", async () => {
    const config = join(copyOf("bert", "family"), "config.json");
    const refused = async (
      change: object,
      code: "ERR_FM_UNSUPPORTED" | "ERR_FM_BAD_FILE",
      ...words: string[]
    ) => {
      editJson(config, (value) => Object.assign(value, change));
      await expectError(() => open(file("family")), code, "config.json", ...words);
    };
    await refused({ architectures: ["BertForMaskedLM"] }, "ERR_FM_UNSUPPORTED", "BertForMaskedLM");
    await refused({ model_type: "mamba" }, "ERR_FM_UNSUPPORTED", "model_type", "mamba");
    await refused({ model_type: "__proto__" }, "ERR_FM_UNSUPPORTED", "model_type");
    await refused({ model_type: 3 }, "ERR_FM_BAD_FILE", "model_type");
    writeFileSync(config, '{"model_type":"bert","model_type":"gpt2"}');
    await expectError(() => open(file("family")), "ERR_FM_BAD_FILE", "config.json", "twice");
  });

  it("whose tensors do not fit, by name", async () => {
    const folder = copyOf("gpt2", "tensors");
    const path = join(folder, "model.safetensors");
    const tensors = Object.fromEntries(readTensors(path));
    const { "transformer.wpe.weight": wpe, ...others } = tensors;
    const problems = async (changed: Parameters<typeof writeTensors>[1], ...words: string[]) => {
      writeTensors(path, changed);
      await expectError(() => open(folder), "ERR_FM_MISMATCH", ...words);
    };
    await problems(others, "transformer.wpe.weight (12, 9) is missing");
    await problems({ ...tensors, extra: wpe! }, "extra (12, 9) is unexpected");
    const square = { shape: [9, 12], bytes: wpe!.bytes };
    await problems({ ...tensors, "transformer.wpe.weight": square }, "but is (9, 12)");
    const whole = { shape: [12, 9], dtype: "I32", bytes: wpe!.bytes };
    await problems({ ...tensors, "transformer.wpe.weight": whole }, "floating type but is I32");
    const nan = { shape: [12, 9], bytes: f32(Array.from({ length: 108 }, () => Number.NaN)) };
    writeTensors(path, { ...tensors, "transformer.wpe.weight": nan });
    await expectError(() => open(folder), "ERR_FM_NON_FINITE", "transformer.wpe.weight", "NaN");
  });

  it("but the buffers of older files are kept and ignored", async () => {
    const folder = copyOf("gpt2", "buffers");
    const path = join(folder, "model.safetensors");
    const mask = { shape: [1, 1, 2, 2], dtype: "U8", bytes: Uint8Array.of(1, 0, 1, 1) };
    const name = "transformer.h.1.attn.bias";
    writeTensors(path, { [name]: mask, ...Object.fromEntries(readTensors(path)) });
    const model = await open(folder);
    expect(model.weights.has(name)).toBe(false);
    await saveModel(model, model.weights, file("buffers-out"));
    expect(readFileSync(join(file("buffers-out"), "model.safetensors"))).toEqual(
      readFileSync(path),
    );
  });
});

describe("an index that lies", () => {
  const shard = (number: number) => `model-0000${number}-of-00002.safetensors`;
  const kTensor = "model.norm.weight";
  const lies: [
    string,
    (index: { map: Record<string, unknown>; metadata: Record<string, unknown> }) => void,
    string[],
  ][] = [
    [
      "a way out of the folder",
      ({ map }) => {
        map[kTensor] = "../model.safetensors";
      },
      [kTensor, "../model.safetensors"],
    ],
    [
      "an absolute path",
      ({ map }) => {
        map[kTensor] = "/etc/x.safetensors";
      },
      [kTensor, "/etc"],
    ],
    [
      "a hidden file",
      ({ map }) => {
        map[kTensor] = ".x.safetensors";
      },
      [kTensor],
    ],
    [
      "another kind of file",
      ({ map }) => {
        map[kTensor] = "config.json";
      },
      [kTensor, "config.json"],
    ],
    [
      "no string",
      ({ map }) => {
        map[kTensor] = 3;
      },
      [kTensor, "3"],
    ],
    [
      "the other shard",
      ({ map }) => {
        map[kTensor] = shard(1);
      },
      [kTensor, shard(1)],
    ],
    [
      "a tensor that is nowhere",
      ({ map }) => {
        map["ghost"] = shard(1);
      },
      ["ghost", "none"],
    ],
    [
      "a tensor left out",
      ({ map }) => {
        delete map[kTensor];
      },
      [kTensor, "nothing"],
    ],
    [
      "a wrong total",
      ({ metadata }) => {
        metadata["total_size"] = 1;
      },
      ["metadata.total_size", "5616"],
    ],
    [
      "a total that is no number",
      ({ metadata }) => {
        metadata["total_size"] = "5616";
      },
      ["metadata.total_size"],
    ],
  ];

  it.each(lies)("%s", async (what, edit, words) => {
    const folder = copyOf("llama-tied-bf16", `lie ${what}`);
    editJson(join(folder, "model.safetensors.index.json"), (index) => {
      edit({
        map: index["weight_map"] as Record<string, unknown>,
        metadata: index["metadata"] as Record<string, unknown>,
      });
    });
    await expectError(() => open(folder), "ERR_FM_BAD_FILE", "index.json", ...words);
  });

  it("a tensor in two shards, a shard that is not there, repeated keys", async () => {
    const folder = copyOf("llama-tied-bf16", "two");
    const second = readTensors(join(folder, shard(2)));
    const first = Object.fromEntries(readTensors(join(folder, shard(1))));
    writeTensors(join(folder, shard(1)), { ...first, [kTensor]: second.get(kTensor)! });
    await expectError(() => open(folder), "ERR_FM_BAD_FILE", kTensor, shard(1), shard(2));
    const index = join(folder, "model.safetensors.index.json");
    editJson(index, (value) => {
      (value["weight_map"] as Record<string, string>)[kTensor] = shard(3);
    });
    await expectError(() => open(folder), "ERR_FM_IO", shard(3));
    writeFileSync(index, `{"weight_map":{"a":"${shard(1)}","a":"${shard(2)}"}}`);
    await expectError(() => open(folder), "ERR_FM_BAD_FILE", "index.json", "twice");
    writeFileSync(index, '{"weight_map":{}}');
    await expectError(() => open(folder), "ERR_FM_BAD_FILE", "weight_map", "none");
  });
});
