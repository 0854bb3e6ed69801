import { describe, expect, it } from "vitest";
import { candidateTensors, headParameters } from "../../../../src/model/candidates.js";
import { buildBert } from "../../../../src/model/huggingface/bert.js";
import { buildGpt2 } from "../../../../src/model/huggingface/gpt2.js";
import { buildLlama } from "../../../../src/model/huggingface/llama.js";
import { buildLlama2c } from "../../../../src/model/huggingface/llama2c.js";
import { ropeFrequencies } from "../../../../src/model/huggingface/rope.js";
import { expectError } from "../errors.js";
import { type Config, kBert, kGpt2, kLlama, reader } from "./support.js";

const kOptions = { sequenceLength: undefined, tensors: new Set<string>() };
const gpt2 = (changes: Config = {}, options = {}) =>
  buildGpt2(reader({ ...kGpt2, ...changes }), { ...kOptions, ...options });
const llama = (changes: Config = {}, options = {}) =>
  buildLlama(reader({ ...kLlama, ...changes }), { ...kOptions, ...options });
const bert = (changes: Config = {}, options = {}) =>
  buildBert(reader({ ...kBert, ...changes }), { ...kOptions, ...options });

type Built = ReturnType<typeof gpt2>;

function attribute(built: Built, node: string, key: string): unknown {
  const found = built.graph.nodes.find(({ name }) => name === node);
  expect(found, node).toBeDefined();
  return found?.attributes[key];
}

function names(built: Built): string[] {
  return built.graph.parameters.map(({ name }) => name);
}

function roles(built: Built): Record<string, string> {
  return Object.fromEntries(built.graph.parameters.map(({ name, role }) => [name, role]));
}

describe("GPT-2's configuration", () => {
  it("scales the scores by root and layer, as it says", () => {
    const scale = (changes: Config, layer = 0) =>
      attribute(gpt2({ n_layer: 3, ...changes }), `transformer.h.${layer}.attn.attend`, "scale");
    expect(scale({})).toBeCloseTo(Math.SQRT1_2, 15);
    expect(scale({ scale_attn_weights: false })).toBe(1);
    expect(scale({ scale_attn_by_inverse_layer_idx: true }, 2)).toBeCloseTo(Math.SQRT1_2 / 3, 15);
  });

  it("ties the head to the embedding or not", () => {
    const tied = gpt2();
    expect(names(tied)).not.toContain("lm_head.weight");
    expect(headParameters(tied.graph)).toEqual(["transformer.wte.weight"]);
    expect(roles(tied)["transformer.wte.weight"]).toBe("embedding");
    const own = gpt2({ tie_word_embeddings: false });
    expect(headParameters(own.graph)).toEqual(["lm_head.weight"]);
    expect(roles(own)["lm_head.weight"]).toBe("weight");
  });

  it("takes the names with or without their prefix, and transposes Conv1D alone", () => {
    const bare = gpt2({}, { tensors: new Set(["wte.weight"]) });
    expect(names(bare)).toContain("h.0.attn.c_attn.weight");
    const { stored } = gpt2();
    expect([...stored.keys()]).toEqual([
      "transformer.h.0.attn.c_attn.weight",
      "transformer.h.0.attn.c_proj.weight",
      "transformer.h.0.mlp.c_fc.weight",
      "transformer.h.0.mlp.c_proj.weight",
    ]);
    expect([...stored.values()].every(({ transposed }) => transposed)).toBe(true);
  });

  it("gives masking the matrices alone", () => {
    expect(candidateTensors(gpt2().graph).map(({ name }) => name)).toEqual([
      "transformer.h.0.attn.c_attn.weight",
      "transformer.h.0.attn.c_proj.weight",
      "transformer.h.0.mlp.c_fc.weight",
      "transformer.h.0.mlp.c_proj.weight",
    ]);
    expect(roles(gpt2())["transformer.wpe.weight"]).toBe("embedding");
    expect(roles(gpt2())["transformer.h.0.ln_1.weight"]).toBe("norm");
  });

  it("has logits (T, vocabulary) and features (T, D) of the length that is asked for", () => {
    expect(gpt2().graph.inputs).toEqual([{ name: "ids", shape: [6], dtype: "i32" }]);
    const short = gpt2({}, { sequenceLength: 3 });
    expect(short.graph.inputs[0]?.shape).toEqual([3]);
    expect(short.graph.outputs).toEqual(["logits", short.features]);
    for (const sequenceLength of [0, 7, 1.5]) {
      const words = ["from 1 to 6", "sequenceLength", `${sequenceLength}`];
      expectError(() => gpt2({}, { sequenceLength }), "ERR_FM_ARGUMENT", ...words);
    }
  });
});

describe("Llama's configuration", () => {
  it("honours heads, their size, biases and ties", () => {
    const built = llama({
      num_key_value_heads: 1,
      head_dim: 6,
      attention_bias: true,
      mlp_bias: true,
      tie_word_embeddings: true,
    });
    const shape = (name: string) =>
      built.graph.parameters.find((parameter) => parameter.name === name)?.shape;
    expect(shape("model.layers.0.self_attn.q_proj.weight")).toEqual([12, 8]);
    expect(shape("model.layers.0.self_attn.k_proj.weight")).toEqual([6, 8]);
    expect(shape("model.layers.0.self_attn.o_proj.bias")).toEqual([8]);
    expect(shape("model.layers.0.mlp.gate_proj.bias")).toEqual([6]);
    expect(names(built)).not.toContain("lm_head.weight");
    expect(attribute(built, "model.layers.0.attend", "kv_heads")).toBe(1);
    expect(attribute(built, "model.layers.0.self_attn.q_proj.rope", "interleaved")).toBe(false);
  });

  it("reads the rotation from older and newer keys alike", () => {
    const frequencies = (changes: Config) =>
      attribute(llama(changes), "model.layers.0.self_attn.k_proj.rope", "frequencies");
    expect(frequencies({})).toEqual([1, 0.01]);
    expect(frequencies({ rope_theta: 100 })).toEqual([1, 0.1]);
    const linear = [0.25, 0.025];
    const older = { rope_theta: 100, rope_scaling: { type: "linear", factor: 4 } };
    const newer = { rope_parameters: { rope_type: "linear", rope_theta: 100, factor: 4 } };
    expect(frequencies(older)).toEqual(linear);
    expect(frequencies(newer)).toEqual(linear);
    expect(frequencies({ rope_scaling: null })).toEqual([1, 0.01]);
  });

  it("slows the long wavelengths alone under llama3", () => {
    const scaling = {
      type: "llama3",
      factor: 8,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalContext: 8192,
    } as const;
    const plain = ropeFrequencies(128, { theta: 500_000, scaling: { type: "default" } });
    const slowed = ropeFrequencies(128, { theta: 500_000, scaling });
    expect(slowed[0]).toBe(plain[0]);
    expect(slowed.at(-1)).toBe((plain.at(-1) as number) / 8);
    // Between the two: 8192·f/2π = 2.5 turns is half way from 1 to 4.
    const half = ropeFrequencies(2, {
      theta: 1,
      scaling: { ...scaling, originalContext: 5 * Math.PI },
    });
    expect(half[0]).toBeCloseTo(0.5 / 8 + 0.5, 14);
  });

  it("takes a window that covers the sequence, and no smaller one", () => {
    const mistral = (changes: Config, sequenceLength?: number) =>
      llama({ model_type: "mistral", ...changes }, { sequenceLength });
    expect(mistral({ sliding_window: 8 }, 8).arch).toBe("mistral");
    expect(mistral({ sliding_window: null, max_position_embeddings: 8192 }).arch).toBe("mistral");
    const refused = ["sliding_window", "at least the sequence length (9)", "8"];
    expectError(() => mistral({ sliding_window: 8 }, 9), "ERR_FM_UNSUPPORTED", ...refused);
    // Left out, the window is Mistral's own.
    const long = () => mistral({ max_position_embeddings: 8192 });
    expectError(long, "ERR_FM_UNSUPPORTED", "sliding_window", "4096");
    expect(llama({ max_position_embeddings: 8192 }).graph.inputs[0]?.shape).toEqual([8192]);
  });
});

describe("BERT's configuration", () => {
  it("has as many classes as it names", () => {
    const classes = (changes: Config) =>
      bert(changes).graph.parameters.find(({ name }) => name === "classifier.bias")?.shape;
    expect(classes({})).toEqual([2]);
    expect(classes({ id2label: { 0: "a", 1: "b", 2: "c" } })).toEqual([3]);
    expect(classes({ num_labels: 4 })).toEqual([4]);
    expectError(() => bert({ id2label: { 0: "a" } }), "ERR_FM_UNSUPPORTED", "id2label");
    const both = { id2label: { 0: "a", 1: "b" }, num_labels: 3 };
    expectError(() => bert(both), "ERR_FM_BAD_FILE", "num_labels");
  });

  it("finds the norms under their older names", () => {
    const tensors = new Set(["bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.beta"]);
    const { stored } = bert({}, { tensors });
    expect(stored.get("bert.embeddings.LayerNorm.weight")?.tensors).toEqual([
      "bert.embeddings.LayerNorm.gamma",
    ]);
    expect(stored.size).toBe(2);
  });
});

describe("what would change the computation is refused by name", () => {
  const refusals: [typeof gpt2, Config, string][] = [
    [gpt2, { activation_function: "quick_gelu" }, "activation_function"],
    [gpt2, { add_cross_attention: true }, "add_cross_attention"],
    [gpt2, { quantization_config: { bits: 4 } }, "quantization_config"],
    [gpt2, { pruned_heads: { 0: [1] } }, "pruned_heads"],
    [gpt2, { made_up_factor: 2 }, "made_up_factor"],
    [llama, { hidden_act: "xielu" }, "hidden_act"],
    [llama, { rope_scaling: { rope_type: "yarn", factor: 2 } }, "rope_scaling.rope_type"],
    [llama, { rope_scaling: { type: "dynamic", factor: 2 } }, "rope_scaling.rope_type"],
    [llama, { partial_rotary_factor: 0.5 }, "partial_rotary_factor"],
    [llama, { rope_interleaved: true }, "rope_interleaved"],
    [llama, { attn_logit_softcapping: 50 }, "attn_logit_softcapping"],
    [llama, { rope_parameters: { rope_type: "linear", factor: 2, odd: 1 } }, "rope_parameters.odd"],
    [llama, { auto_map: { AutoModel: "x.py" } }, "auto_map"],
    [bert, { position_embedding_type: "relative_key" }, "position_embedding_type"],
    [bert, { is_decoder: true }, "is_decoder"],
    [bert, { problem_type: "multi_label_classification" }, "problem_type"],
  ];
  it.each(refusals)("%s %j", (build, changes, key) => {
    expectError(() => build(changes), "ERR_FM_UNSUPPORTED", ` for ${key} of config.json`);
  });

  const broken: [typeof gpt2, Config, string][] = [
    [gpt2, { n_head: 3 }, "n_head"],
    [gpt2, { n_layer: 100_000 }, "n_layer"],
    [gpt2, { n_embd: -4 }, "n_embd"],
    [gpt2, { layer_norm_epsilon: 0 }, "layer_norm_epsilon"],
    [gpt2, { scale_attn_weights: 1 }, "scale_attn_weights"],
    [llama, { num_key_value_heads: 3 }, "num_key_value_heads"],
    [llama, { head_dim: 5 }, "head_dim"],
    [llama, { hidden_size: null }, "hidden_size"],
    [llama, { rope_theta: "10000" }, "rope_theta"],
    [llama, { rope_scaling: { type: "linear" } }, "rope_scaling.factor"],
    [
      llama,
      { rope_scaling: { type: "linear", factor: 2 }, rope_parameters: {} },
      "rope_parameters",
    ],
    [bert, { num_attention_heads: 3 }, "num_attention_heads"],
  ];
  it.each(broken)("%s %j is a broken file", (build, changes, key) => {
    expectError(() => build(changes), "ERR_FM_BAD_FILE", ` for ${key} of config.json`);
  });

  it("while what changes nothing is let through", () => {
    const inert = { use_cache: false, resid_pdrop: 0.3, _name_or_path: "x", dtype: "float16" };
    expect(gpt2({ ...inert, made_up: null }).graph).toEqual(gpt2().graph);
  });
});

describe("llama2.c's metadata", () => {
  const kMetadata = {
    dim: "8",
    hidden_dim: "6",
    n_layers: "1",
    n_heads: "2",
    n_kv_heads: "1",
    vocab_size: "7",
    max_seq_len: "16",
    tied_output: "true",
    rope: "interleaved pairs, base 10000",
    rms_eps: "1e-5",
  };
  const build = (changes: Record<string, string> = {}) =>
    buildLlama2c("m.safetensors", new Map(Object.entries({ ...kMetadata, ...changes })), 4);

  it("make an interleaved Llama", () => {
    const built = build();
    expect(attribute(built, "layers.0.attention.wq.rope", "interleaved")).toBe(true);
    expect(attribute(built, "norm", "epsilon")).toBe(1e-5);
    expect(headParameters(built.graph)).toEqual(["tok_embeddings.weight"]);
    expect(names(build({ tied_output: "false" }))).toContain("output.weight");
  });

  it("are refused where they are broken or of another kind", () => {
    expectError(() => build({ dim: "eight" }), "ERR_FM_BAD_FILE", "__metadata__ dim", "eight");
    expectError(() => build({ n_heads: "3" }), "ERR_FM_BAD_FILE", "__metadata__ n_heads");
    expectError(() => build({ tied_output: "yes" }), "ERR_FM_BAD_FILE", "tied_output");
    expectError(() => build({ rope: "halves" }), "ERR_FM_UNSUPPORTED", "__metadata__ rope");
    const none = () => buildLlama2c("m.safetensors", new Map(), 4);
    expectError(none, "ERR_FM_BAD_FILE", "__metadata__ of m.safetensors");
  });
});
