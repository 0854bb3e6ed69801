import { LOGITS } from "../architecture.js";
import { GraphBuilder } from "../builder.js";
import type { Graph } from "../graph.js";
import { ACTIVATIONS, type Activation } from "./activation.js";
import type { ConfigReader } from "./config-reader.js";
import {
  type HuggingFaceBuildOptions,
  type HuggingFaceNetwork,
  IDS,
  MAX_LAYERS,
  READ,
  type StoredParameter,
} from "./network.js";
import { addFirstRows } from "./position-embedding.js";
import { checkSequenceLength } from "./sequence-length.js";
import { tiedHead } from "./tied-head.js";

interface Gpt2Config {
  readonly vocabularySize: number;
  readonly width: number;
  readonly heads: number;
  readonly layers: number;
  readonly inner: number;
  readonly context: number;
  readonly epsilon: number;
  readonly activation: Activation;
  readonly scaleByRoot: boolean;
  readonly scaleByLayer: boolean;
  readonly tied: boolean;
}

const kConv1d = /\.(?:c_attn|c_proj|c_fc)\.weight$/;
const kBuffers = /^(?:transformer\.)?h\.\d+\.attn\.(?:bias|masked_bias)$/;

function readConfig(config: ConfigReader): Gpt2Config {
  const width = config.count("n_embd", 768);
  const heads = config.count("n_head", 12);
  if (width % heads !== 0) throw config.bad("n_head", `a divisor of n_embd (${width})`, `${heads}`);
  config.only("add_cross_attention", false);
  config.only("is_encoder_decoder", false);
  return {
    vocabularySize: config.count("vocab_size", 50257),
    width,
    heads,
    layers: config.count("n_layer", 12, MAX_LAYERS),
    inner: config.count("n_inner", 4 * width),
    context: config.count("n_positions", 1024),
    epsilon: config.positive("layer_norm_epsilon", 1e-5),
    activation: config.choice("activation_function", ACTIVATIONS, "gelu_new"),
    scaleByRoot: config.flag("scale_attn_weights", true),
    scaleByLayer: config.flag("scale_attn_by_inverse_layer_idx", false),
    tied: config.flag("tie_word_embeddings", true),
  };
}

/** Query, key and value come from one product, (T, 3·D), and are taken apart. */
function attention(
  b: GraphBuilder,
  name: string,
  x: string,
  config: Gpt2Config,
  layer: number,
): string {
  const { width, heads } = config;
  const length = b.shapeOf(x)[0] as number;
  const joined = b.linear(`${name}.c_attn`, x, { out: 3 * width });
  const part = (slot: string, i: number): string =>
    b.slice(`${name}.${slot}`, joined, { starts: [0, i * width], sizes: [length, width] });
  const root = config.scaleByRoot ? Math.sqrt(width / heads) : 1;
  const mixed = b.attention(
    `${name}.attend`,
    { query: part("q", 0), key: part("k", 1), value: part("v", 2) },
    { heads, causal: true, scale: 1 / (root * (config.scaleByLayer ? layer + 1 : 1)) },
  );
  return b.linear(`${name}.c_proj`, mixed, { out: width });
}

function block(
  b: GraphBuilder,
  name: string,
  x: string,
  config: Gpt2Config,
  layer: number,
): string {
  const { epsilon, inner, width, activation } = config;
  const normed = b.layerNorm(`${name}.ln_1`, x, { epsilon });
  const attended = attention(b, `${name}.attn`, normed, config, layer);
  const middle = b.add(`${name}.attended`, [x, attended]);
  const again = b.layerNorm(`${name}.ln_2`, middle, { epsilon });
  const wide = b.linear(`${name}.mlp.c_fc`, again, { out: inner });
  const active = activation(b, `${name}.mlp.act`, wide);
  const narrow = b.linear(`${name}.mlp.c_proj`, active, { out: width });
  return b.add(name, [middle, narrow]);
}

/** Conv1D keeps its weights as (in, out); a tied head may be stored a second time. */
function storage(
  graph: Graph,
  embedding: string,
  { tensors }: HuggingFaceBuildOptions,
): Map<string, StoredParameter> {
  const transposed = graph.parameters.map(({ name }) => name).filter((name) => kConv1d.test(name));
  return new Map([
    ...transposed.map((name) => [name, { tensors: [name], transposed: true }] as const),
    ...tiedHead(graph, embedding, tensors),
  ]);
}

/**
 * GPT-2 with its language-model head: logits (T, vocabulary), features (T, D) after `ln_f`. Padding belongs at the end.
 *
 * Source: Radford et al., "Language models are unsupervised multitask learners", 2019; huggingface/transformers,
 * `modeling_gpt2.py`. Dropout is left out, in training too.
 *
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE`, `ERR_FM_UNSUPPORTED` naming the key; `ERR_FM_ARGUMENT`
 */
export function buildGpt2(
  reader: ConfigReader,
  options: HuggingFaceBuildOptions,
): HuggingFaceNetwork {
  const config = readConfig(reader);
  const { width, vocabularySize, context, epsilon, tied } = config;
  reader.finish();
  const length = checkSequenceLength(options.sequenceLength, context);
  const prefix = options.tensors.has("wte.weight") ? "" : "transformer.";
  const b = new GraphBuilder("gpt2");
  const ids = b.input(IDS, [length], "i32");
  let x = b.embedding(`${prefix}wte`, ids, { count: vocabularySize, width, init: READ });
  const positions = b.parameter(`${prefix}wpe.weight`, [context, width], "embedding", READ);
  x = addFirstRows(b, `${prefix}wpe`, x, positions);
  for (let i = 0; i < config.layers; i++) x = block(b, `${prefix}h.${i}`, x, config, i);
  const features = b.layerNorm(`${prefix}ln_f`, x, { epsilon });
  const head = tied ? { weight: `${prefix}wte.weight` } : {};
  const logits = b.linear("lm_head", features, {
    ...head,
    out: vocabularySize,
    bias: false,
    output: LOGITS,
  });
  const graph = b.build([logits, features]);
  const stored = storage(graph, `${prefix}wte.weight`, options);
  return { arch: "gpt2", graph, features, stored, buffers: kBuffers };
}
