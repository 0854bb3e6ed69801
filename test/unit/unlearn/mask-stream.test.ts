import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  SafetensorsFile,
  type TensorSource,
  writeSafetensors,
} from "../../../src/io/safetensors.js";
import { createModel, type Model, saveModel } from "../../../src/model/model.js";
import { openAnyModel } from "../../../src/model/open.js";
import type { FishermaskErrorCode } from "../../../src/native/errors.js";
import { addFishers, type FisherStore, saveFisher } from "../../../src/unlearn/fisher-store.js";
import { maskNetwork, maskWeights, scoreNetwork, selectMask } from "../../../src/unlearn/mask.js";
import { type MaskOnDiskOptions, maskOnDisk } from "../../../src/unlearn/mask-stream.js";
import { expectError } from "../io/support.js";
import { noise } from "./support.js";

const SHAPE = { arch: "lenet", inputShape: [28, 28, 1], classes: 10 } as const;

let folder: string;
let model: Model;
let forget: FisherStore;
let remain: FisherStore;

function fisher(ids: readonly number[], seed: number): FisherStore {
  const random = noise(seed);
  const of = (scale: number): Map<string, Float32Array> =>
    new Map(
      [...model.weights].map(([name, values]) => [
        name,
        values.map(() => (scale < 0 ? random() - 0.5 : random() * random())),
      ]),
    );
  return {
    meta: {
      labels: "empirical",
      gradient: "per-sample",
      temperature: 1,
      reduction: "sum",
      seed: 0,
      modelDigest: "model",
      datasetDigest: "data",
      batchSize: null,
      precision: "f32",
    },
    ids: Int32Array.from(ids),
    terms: ids.length,
    squares: of(1),
    gradients: of(-1),
    shapes: new Map(model.graph.parameters.map(({ name, shape }) => [name, shape])),
  };
}

const path = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "fishermask-mask-stream-"));
  model = createModel(SHAPE, 1);
  forget = fisher([1, 4, 5], 2);
  remain = fisher([0, 2, 3, 6, 7], 3);
  await saveModel(model, model.weights, path("model.safetensors"));
  await saveFisher(forget, path("forget.safetensors"));
  await saveFisher(remain, path("remain.safetensors"));
  await saveFisher(addFishers(forget, remain), path("all.safetensors"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));
beforeEach(() => rm(path("out.safetensors"), { force: true }));

function options(changed: Partial<MaskOnDiskOptions> = {}): MaskOnDiskOptions {
  const { rule, ...others } = changed;
  return {
    ...SHAPE,
    model: path("model.safetensors"),
    fisherForget: path("forget.safetensors"),
    fisherRemain: path("remain.safetensors"),
    destination: path("out.safetensors"),
    ratio: 0.07,
    ...others,
    rule: rule ?? { criterion: "ratio", unit: "weight", scope: "global", threads: 2 },
  };
}

async function floats(file: string): Promise<Map<string, Float32Array>> {
  await using open = await SafetensorsFile.open(file);
  const all = new Map<string, Float32Array>();
  for (const name of open.tensors.keys()) all.set(name, await open.readFloat32(name));
  return all;
}

const leftovers = async (): Promise<string[]> =>
  (await readdir(folder)).filter((name) => name.includes(".tmp") || name.startsWith("out"));

describe("the same as in memory", () => {
  it.each(["ratio", "difference", "saliency", "directional", "magnitude", "random"] as const)(
    "criterion %s, every unit and scope: masks, bytes and the one-pass path agree with score, select and mask",
    async (criterion) => {
      for (const unit of ["weight", "kernel", "filter"] as const) {
        for (const scope of ["global", "layer", "tensor"] as const) {
          const rule = { criterion, unit, scope, threads: 2, seed: 5 };
          const scores = await scoreNetwork(model.graph, model.weights, forget, remain, rule);
          const expected = await selectMask(scores, { ratio: 0.07 });
          const weights = maskWeights(model.weights, expected.masks);
          const amount = { ratio: 0.07 };
          const inMemory = await maskNetwork(
            model.graph,
            model.weights,
            forget,
            remain,
            rule,
            amount,
          );
          expect(inMemory.masks).toEqual(expected.masks);
          expect(inMemory.weights).toEqual(weights);
          const onDisk = await maskOnDisk(options({ rule }));
          expect(onDisk.masks).toEqual(expected.masks);
          expect(onDisk.units).toBe(expected.units);
          expect(onDisk.total).toBe(expected.total);
          await saveModel({ ...model, file: path("model.safetensors") }, weights, path("whole"));
          expect(
            (await readFile(path("out.safetensors"))).equals(await readFile(path("whole"))),
          ).toBe(true);
        }
      }
    },
  );

  it("takes the remain Fisher from that of all data", async () => {
    const rest = await maskOnDisk(options());
    const { fisherRemain, ...others } = options();
    expect(fisherRemain).toBeDefined();
    const all = await maskOnDisk({ ...others, fisherAll: path("all.safetensors") });
    const { squares } = addFishers(forget, remain);
    // Rounded once in the sum and once in the difference, so nearly but not exactly the same Fisher.
    expect(squares.size).toBeGreaterThan(0);
    expect(all.units).toBe(rest.units);
    expect(all.modelDigest).toBe("model");
  });

  it("leaves the destination's old file until the new one is whole, and may write over the model", async () => {
    await writeFile(path("own.safetensors"), await readFile(path("model.safetensors")));
    const own = options({ model: path("own.safetensors"), destination: path("own.safetensors") });
    const { masks } = await maskOnDisk(own);
    expect(await floats(path("own.safetensors"))).toEqual(maskWeights(model.weights, masks));
  });
});

describe("shards of a Hugging Face folder", () => {
  const kConfig = {
    model_type: "llama",
    architectures: ["LlamaForCausalLM"],
    vocab_size: 40,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 2,
    max_position_embeddings: 32,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: "silu",
    tie_word_embeddings: false,
  };

  /** Two shards of bf16 with an index, as `save_pretrained` writes them. */
  async function llama(target: string): Promise<void> {
    const random = noise(9);
    const shapes: [string, number[]][] = [["model.embed_tokens.weight", [40, 16]]];
    for (const layer of [0, 1]) {
      const prefix = `model.layers.${layer}.`;
      for (const name of ["q", "k", "v", "o"]) {
        shapes.push([`${prefix}self_attn.${name}_proj.weight`, [16, 16]]);
      }
      shapes.push([`${prefix}mlp.gate_proj.weight`, [24, 16]]);
      shapes.push([`${prefix}mlp.up_proj.weight`, [24, 16]]);
      shapes.push([`${prefix}mlp.down_proj.weight`, [16, 24]]);
      shapes.push([`${prefix}input_layernorm.weight`, [16]]);
      shapes.push([`${prefix}post_attention_layernorm.weight`, [16]]);
    }
    shapes.push(["model.norm.weight", [16]], ["lm_head.weight", [40, 16]]);
    const tensors = shapes.map(([name, shape]): TensorSource => {
      const count = shape.reduce((a, b) => a * b, 1);
      const bits = Uint16Array.from({ length: count }, () => 0x3c00 + Math.floor(random() * 900));
      return { name, shape, dtype: "BF16", data: new Uint8Array(bits.buffer) };
    });
    const half = Math.floor(tensors.length / 2);
    const parts = [tensors.slice(0, half), tensors.slice(half)];
    const weightMap: Record<string, string> = {};
    for (const [i, part] of parts.entries()) {
      const name = `model-0000${i + 1}-of-00002.safetensors`;
      await writeSafetensors(join(target, name), part, { format: "pt" });
      for (const tensor of part) weightMap[tensor.name] = name;
    }
    const index = { metadata: {}, weight_map: weightMap };
    await writeFile(join(target, "model.safetensors.index.json"), JSON.stringify(index));
    await writeFile(join(target, "config.json"), JSON.stringify(kConfig));
  }

  it("masks every shard, keeps bf16 bytes and the folder's other files", async () => {
    const from = await mkdtemp(join(folder, "llama-"));
    await llama(from);
    const whole = await openAnyModel(from);
    const before = { forget, remain, model };
    model = whole;
    const stores = { forget: fisher([0, 2], 11), remain: fisher([1, 3], 12) };
    model = before.model;
    await saveFisher(stores.forget, path("llama-forget"));
    await saveFisher(stores.remain, path("llama-remain"));
    const rule = { criterion: "ratio", unit: "weight", scope: "layer", threads: 2 } as const;
    const scores = await scoreNetwork(
      whole.graph,
      whole.weights,
      stores.forget,
      stores.remain,
      rule,
    );
    const expected = await selectMask(scores, { ratio: 0.1 });
    await whole.writeBack?.(maskWeights(whole.weights, expected.masks), path("llama-whole"));
    const done = await maskOnDisk({
      model: from,
      fisherForget: path("llama-forget"),
      fisherRemain: path("llama-remain"),
      destination: path("llama-streamed"),
      rule,
      ratio: 0.1,
    });
    expect(done.masks).toEqual(expected.masks);
    expect(done.units).toBeGreaterThan(100);
    const files = (await readdir(path("llama-whole"))).sort();
    expect(files).toHaveLength(4);
    expect((await readdir(path("llama-streamed"))).sort()).toEqual(files);
    for (const file of files) {
      const [a, b] = [path(`llama-whole/${file}`), path(`llama-streamed/${file}`)];
      expect((await readFile(a)).equals(await readFile(b))).toBe(true);
    }
  });
});

describe("refusals leave nothing behind", () => {
  const refused = async (
    code: FishermaskErrorCode,
    word: string,
    changed: Partial<MaskOnDiskOptions>,
  ): Promise<void> => {
    await expectError(() => maskOnDisk(options(changed)), code, word);
    expect(await leftovers()).toEqual([]);
  };

  it("missing Fishers and options, by name", async () => {
    await refused("ERR_FM_ARGUMENT", "Fisher of the remain set", { fisherRemain: undefined });
    await refused("ERR_FM_ARGUMENT", "fisherAll together with", {
      fisherAll: path("all.safetensors"),
    });
    await refused("ERR_FM_ARGUMENT", "architecture", {
      model: path("forget.safetensors"),
      arch: undefined,
    });
    await refused("ERR_FM_ARGUMENT", "ratio", { ratio: 1.5 });
    const rule = {
      criterion: "none" as "ratio",
      unit: "weight",
      scope: "global",
      threads: 1,
    } as const;
    await refused("ERR_FM_ARGUMENT", "criterion", { rule });
  });

  it("stores that do not go together", async () => {
    await refused("ERR_FM_MISMATCH", "disjoint sets but sample 1", {
      fisherRemain: path("forget.safetensors"),
    });
    await refused("ERR_FM_MISMATCH", "of these data", { datasetDigest: "others" });
    await saveFisher({ ...remain, meta: { ...remain.meta, temperature: 2 } }, path("warm"));
    await refused("ERR_FM_MISMATCH", "same temperature", { fisherRemain: path("warm") });
    const squares = new Map(remain.squares);
    const first = [...squares.keys()].find((name) => name.endsWith("weight")) as string;
    squares.delete(first);
    await saveFisher({ ...remain, squares, gradients: null }, path("fewer"));
    await refused("ERR_FM_MISMATCH", "is missing", { fisherRemain: path("fewer") });
  });

  it("damaged sums name file and tensor; NaN weights name the tensor", async () => {
    const squares = new Map(remain.squares);
    const name = [...squares.keys()].find((key) => key.endsWith("weight")) as string;
    squares.set(name, (squares.get(name) as Float32Array).with(17, -1));
    await saveFisher({ ...remain, squares }, path("damaged"));
    await refused("ERR_FM_BAD_FILE", `${name} of ${path("damaged")}`, {
      fisherRemain: path("damaged"),
    });
    const bytes = await readFile(path("forget.safetensors"));
    await writeFile(path("short"), bytes);
    await truncate(path("short"), bytes.length - 100);
    await refused("ERR_FM_BAD_FILE", "short", { fisherForget: path("short") });
    const broken = new Map(model.weights);
    broken.set(name, (broken.get(name) as Float32Array).with(3, Number.NaN));
    await saveModel(model, broken, path("nan.safetensors"));
    await refused("ERR_FM_NON_FINITE", name, { model: path("nan.safetensors") });
  });

  it("what cannot be streamed", async () => {
    await writeFile(path("net.onnx"), "");
    await refused("ERR_FM_UNSUPPORTED", "safetensors", { model: path("net.onnx") });
  });

  it("an abort, before and during the work", async () => {
    await refused("ERR_FM_ABORTED", "AbortSignal", { signal: AbortSignal.abort() });
    const controller = new AbortController();
    const running = maskOnDisk(options({ signal: controller.signal }));
    controller.abort();
    await expectError(() => running, "ERR_FM_ABORTED", "AbortSignal");
    expect(await leftovers()).toEqual([]);
  });
});
