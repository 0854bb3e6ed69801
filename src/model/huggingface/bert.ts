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

interface BertConfig {
  readonly vocabularySize: number;
  readonly width: number;
  readonly heads: number;
  readonly layers: number;
  readonly inner: number;
  readonly context: number;
  readonly tokenTypes: number;
  readonly epsilon: number;
  readonly activation: Activation;
  readonly classes: number;
}

const kBuffers = /^(?:bert\.)?embeddings\.(?:position_ids|token_type_ids)$/;

/** `id2label` says how many classes there are; a configuration that names none has two. */
function classesOf(config: ConfigReader): number {
  const labels = config.value("id2label");
  const named = labels instanceof Map ? labels.size : undefined;
  const classes = config.count("num_labels", named ?? 2);
  if (named !== undefined && named !== classes) {
    throw config.bad("num_labels", `the number of id2label's entries (${named})`, `${classes}`);
  }
  if (classes > 1) return classes;
  throw config.unsupported("id2label", "at least 2 classes", "1, which is a regression");
}

function readConfig(config: ConfigReader): BertConfig {
  const width = config.count("hidden_size", 768);
  const heads = config.count("num_attention_heads", 12);
  if (width % heads !== 0) {
    throw config.bad("num_attention_heads", `a divisor of hidden_size (${width})`, `${heads}`);
  }
  config.only("position_embedding_type", "absolute");
  config.only("is_decoder", false);
  config.only("add_cross_attention", false);
  config.only("is_encoder_decoder", false);
  config.only("problem_type", "single_label_classification");
  // It ties a masked-language-model head, which a classifier has not.
  config.flag("tie_word_embeddings", true);
  return {
    vocabularySize: config.count("vocab_size", 30522),
    width,
    heads,
    layers: config.count("num_hidden_layers", 12, MAX_LAYERS),
    inner: config.count("intermediate_size", 3072),
    context: config.count("max_position_embeddings", 512),
    tokenTypes: config.count("type_vocab_size", 2),
    epsilon: config.positive("layer_norm_eps", 1e-12),
    activation: config.choice("hidden_act", ACTIVATIONS, "gelu"),
    classes: classesOf(config),
  };
}

function embeddings(b: GraphBuilder, name: string, ids: string, config: BertConfig): string {
  const { vocabularySize, width, context, tokenTypes, epsilon } = config;
  const table = (slot: string, rows: number): string =>
    b.parameter(`${name}.${slot}.weight`, [rows, width], "embedding", READ);
  const count = { count: vocabularySize, width, init: READ };
  let x = b.embedding(`${name}.word_embeddings`, ids, count);
  const positions = table("position_embeddings", context);
  x = addFirstRows(b, `${name}.position_embeddings`, x, positions);
  // Every token is of type 0: one segment.
  const types = b.parameterValue(`${name}.types`, table("token_type_embeddings", tokenTypes));
  const first = b.slice(`${name}.type`, types, { starts: [0, 0], sizes: [1, width] });
  x = b.binaryAdd(`${name}.sum`, x, first);
  return b.layerNorm(`${name}.LayerNorm`, x, { epsilon });
}

function layer(b: GraphBuilder, name: string, x: string, mask: string, config: BertConfig): string {
  const { width, heads, inner, epsilon, activation } = config;
  const project = (slot: string): string =>
    b.linear(`${name}.attention.self.${slot}`, x, { out: width });
  const inputs = { query: project("query"), key: project("key"), value: project("value"), mask };
  const mixed = b.attention(`${name}.attention.self`, inputs, { heads });
  const out = b.linear(`${name}.attention.output.dense`, mixed, { out: width });
  const sum = b.add(`${name}.attention.sum`, [out, x]);
  const middle = b.layerNorm(`${name}.attention.output.LayerNorm`, sum, { epsilon });
  const wide = b.linear(`${name}.intermediate.dense`, middle, { out: inner });
  const active = activation(b, `${name}.intermediate.act`, wide);
  const narrow = b.linear(`${name}.output.dense`, active, { out: width });
  const total = b.add(`${name}.sum`, [narrow, middle]);
  return b.layerNorm(`${name}.output.LayerNorm`, total, { epsilon });
}

/** The first position's vector, (D). */
function firstPosition(b: GraphBuilder, name: string, x: string): string {
  const width = b.shapeOf(x)[1] as number;
  const row = b.slice(`${name}.row`, x, { starts: [0, 0], sizes: [1, width] });
  return b.reshape(name, row, { shape: [width] });
}

/** The first published files call a norm's weight gamma and its bias beta. */
function storage(graph: Graph, tensors: ReadonlySet<string>): Map<string, StoredParameter> {
  const stored = new Map<string, StoredParameter>();
  for (const { name } of graph.parameters) {
    const older = name
      .replace(/LayerNorm\.weight$/, "LayerNorm.gamma")
      .replace(/LayerNorm\.bias$/, "LayerNorm.beta");
    if (older !== name && tensors.has(older) && !tensors.has(name)) {
      stored.set(name, { tensors: [older], transposed: false });
    }
  }
  return stored;
}

/**
 * BERT as a sequence classifier: logits (classes), features (D) after the pooler. Padding (−1) is masked wherever it
 * stands; every token is of type 0.
 *
 * Unlike PyTorch's, the embedding row of the padding token gets a gradient where that token itself is among the ids.
 *
 * Source: Devlin et al., "BERT", arXiv:1810.04805; huggingface/transformers, `modeling_bert.py`. Dropout is left out, in
 * training too.
 *
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE`, `ERR_FM_UNSUPPORTED` naming the key; `ERR_FM_ARGUMENT`
 */
export function buildBert(
  reader: ConfigReader,
  options: HuggingFaceBuildOptions,
): HuggingFaceNetwork {
  const config = readConfig(reader);
  reader.finish();
  const length = checkSequenceLength(options.sequenceLength, config.context);
  const bare = options.tensors.has("embeddings.word_embeddings.weight");
  const prefix = bare ? "" : "bert.";
  const b = new GraphBuilder("bert");
  const ids = b.input(IDS, [length], "i32");
  const mask = b.padMask("mask", ids);
  let x = embeddings(b, `${prefix}embeddings`, ids, config);
  for (let i = 0; i < config.layers; i++) {
    x = layer(b, `${prefix}encoder.layer.${i}`, x, mask, config);
  }
  const first = firstPosition(b, `${prefix}pooler.first`, x);
  const dense = b.linear(`${prefix}pooler.dense`, first, { out: config.width });
  const features = b.tanh(`${prefix}pooler`, dense);
  const logits = b.linear("classifier", features, { out: config.classes, output: LOGITS });
  const graph = b.build([logits, features]);
  return {
    arch: "bert",
    graph,
    features,
    stored: storage(graph, options.tensors),
    buffers: kBuffers,
  };
}
