import { ACTIVATIONS } from "./activation.js";
import type { ConfigReader } from "./config-reader.js";
import { buildLlamaGraph, type LlamaNames, type LlamaShape } from "./llama-graph.js";
import { type HuggingFaceBuildOptions, type HuggingFaceNetwork, MAX_LAYERS } from "./network.js";
import { readRope, ropeFrequencies } from "./rope.js";
import { checkSequenceLength } from "./sequence-length.js";
import { tiedHead } from "./tied-head.js";

const kMistralWindow = 4096;
const kBuffers = /^(?:model\.)?(?:layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq$/;

function namesOf(prefix: string): LlamaNames {
  return {
    embedding: `${prefix}embed_tokens`,
    finalNorm: `${prefix}norm`,
    head: "lm_head",
    layer: (index) => `${prefix}layers.${index}`,
    attentionNorm: "input_layernorm",
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    output: "self_attn.o_proj",
    mlpNorm: "post_attention_layernorm",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
  };
}

function headSizeOf(config: ConfigReader, width: number, heads: number): number {
  if (!config.has("head_dim") && width % heads !== 0) {
    throw config.bad("num_attention_heads", `a divisor of hidden_size (${width})`, `${heads}`);
  }
  const size = config.count("head_dim", Math.floor(width / heads));
  if (size % 2 === 0) return size;
  throw config.bad("head_dim", "an even number, for its rotation", `${size}`);
}

function readShape(config: ConfigReader, context: number): LlamaShape {
  const width = config.count("hidden_size");
  const heads = config.count("num_attention_heads");
  const kvHeads = config.count("num_key_value_heads", heads);
  if (heads % kvHeads !== 0) {
    const what = `a divisor of num_attention_heads (${heads})`;
    throw config.bad("num_key_value_heads", what, `${kvHeads}`);
  }
  const headSize = headSizeOf(config, width, heads);
  return {
    vocabularySize: config.count("vocab_size"),
    width,
    heads,
    kvHeads,
    headSize,
    layers: config.count("num_hidden_layers", undefined, MAX_LAYERS),
    inner: config.count("intermediate_size"),
    epsilon: config.positive("rms_norm_eps", 1e-6),
    activation: config.choice("hidden_act", ACTIVATIONS, "silu"),
    attentionBias: config.flag("attention_bias", false),
    mlpBias: config.flag("mlp_bias", false),
    tied: config.flag("tie_word_embeddings", false),
    frequencies: ropeFrequencies(headSize, readRope(config, context)),
    interleaved: false,
  };
}

/** Within its window a sliding attention is a plain one; beyond it is another network. */
function checkWindow(config: ConfigReader, mistral: boolean, length: number): void {
  // Mistral's default, where the key is left out, is a window; null is none.
  const none = config.isNull("sliding_window") || (!mistral && !config.has("sliding_window"));
  const size = none ? length : config.count("sliding_window", kMistralWindow);
  if (size < length) {
    throw config.unsupported(
      "sliding_window",
      `at least the sequence length (${length})`,
      `${size}; ask for a shorter sequence`,
    );
  }
}

/**
 * Llama and Mistral with their language-model head: logits (T, vocabulary), features (T, D) after the last norm. Padding
 * belongs at the end.
 *
 * Source: huggingface/transformers, `modeling_llama.py`, `modeling_mistral.py`. Dropout is left out, in training too.
 *
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE`, `ERR_FM_UNSUPPORTED` naming the key; `ERR_FM_ARGUMENT`
 */
export function buildLlama(
  config: ConfigReader,
  options: HuggingFaceBuildOptions,
): HuggingFaceNetwork {
  const arch = config.text("model_type");
  const mistral = arch === "mistral";
  const context = config.count("max_position_embeddings", mistral ? 131_072 : 2048);
  const shape = readShape(config, context);
  const length = checkSequenceLength(options.sequenceLength, context);
  config.only("is_encoder_decoder", false);
  config.only("rope_interleaved", false);
  checkWindow(config, mistral, length);
  config.finish();
  const names = namesOf(options.tensors.has("embed_tokens.weight") ? "" : "model.");
  const { graph, features } = buildLlamaGraph(arch, shape, names, length);
  const stored = new Map(tiedHead(graph, `${names.embedding}.weight`, options.tensors));
  return { arch, graph, features, stored, buffers: kBuffers };
}
