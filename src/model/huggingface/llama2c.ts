import type { StrictJson } from "../../io/strict-json.js";
import { FishermaskError } from "../../native/errors.js";
import { ACTIVATIONS, type Activation } from "./activation.js";
import { ConfigReader } from "./config-reader.js";
import { buildLlamaGraph, type LlamaNames, type LlamaShape } from "./llama-graph.js";
import { type HuggingFaceNetwork, MAX_LAYERS } from "./network.js";
import { ropeFrequencies } from "./rope.js";
import { checkSequenceLength } from "./sequence-length.js";

const kNames: LlamaNames = {
  embedding: "tok_embeddings",
  finalNorm: "norm",
  head: "output",
  layer: (index) => `layers.${index}`,
  attentionNorm: "attention_norm",
  query: "attention.wq",
  key: "attention.wk",
  value: "attention.wv",
  output: "attention.wo",
  mlpNorm: "ffn_norm",
  gate: "feed_forward.w1",
  up: "feed_forward.w3",
  down: "feed_forward.w2",
};

const kRope = /^interleaved pairs, base ([0-9]+(?:\.[0-9]+)?)$/;
const kNumber = /^[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$/;
const kNothing = /(?!)/;

/** Whether a safetensors file's metadata are the configuration of a llama2.c model. */
export function isLlama2c(metadata: ReadonlyMap<string, string>): boolean {
  return ["dim", "hidden_dim", "n_layers", "n_heads", "rope"].every((key) => metadata.has(key));
}

/** Metadata are strings; numbers and truth values among them become what they say. */
function readerOf(path: string, metadata: ReadonlyMap<string, string>): ConfigReader {
  const entries = new Map<string, StrictJson>(
    [...metadata].map(([key, text]) => {
      if (kNumber.test(text)) return [key, Number(text)] as const;
      return [key, text === "true" || text === "false" ? text === "true" : text] as const;
    }),
  );
  return new ConfigReader(path, entries, "__metadata__ ");
}

function ropeBase(config: ConfigReader): number {
  const text = config.text("rope");
  const base = kRope.exec(text)?.[1];
  if (base === undefined) {
    throw config.unsupported("rope", '"interleaved pairs, base NUMBER"', `"${text}"`);
  }
  return Number(base);
}

function readShape(config: ConfigReader): LlamaShape {
  const width = config.count("dim");
  const heads = config.count("n_heads");
  const kvHeads = config.count("n_kv_heads", heads);
  const headSize = width / heads;
  if (!Number.isInteger(headSize) || headSize % 2 !== 0) {
    throw config.bad("n_heads", `a divisor of dim (${width}) into even heads`, `${heads}`);
  }
  if (heads % kvHeads !== 0) {
    throw config.bad("n_kv_heads", `a divisor of n_heads (${heads})`, `${kvHeads}`);
  }
  return {
    vocabularySize: config.count("vocab_size"),
    width,
    heads,
    kvHeads,
    headSize,
    layers: config.count("n_layers", undefined, MAX_LAYERS),
    inner: config.count("hidden_dim"),
    epsilon: config.positive("rms_eps", 1e-5),
    activation: ACTIVATIONS["silu"] as Activation,
    attentionBias: false,
    mlpBias: false,
    tied: config.flag("tied_output", true),
    frequencies: ropeFrequencies(headSize, {
      theta: ropeBase(config),
      scaling: { type: "default" },
    }),
    interleaved: true,
  };
}

/**
 * A llama2.c model whose configuration is its file's `__metadata__`: dim, hidden_dim, n_layers, n_heads, n_kv_heads,
 * vocab_size, max_seq_len, tied_output, rope, rms_eps. Tensors are named as Meta's Llama names them. Padding belongs at
 * the end.
 *
 * Source: karpathy/llama2.c, `run.c`.
 *
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE`, `ERR_FM_UNSUPPORTED` naming the key; `ERR_FM_ARGUMENT`
 */
export function buildLlama2c(
  path: string,
  metadata: ReadonlyMap<string, string>,
  sequenceLength: number | undefined,
): HuggingFaceNetwork {
  if (!isLlama2c(metadata)) {
    throw new FishermaskError(
      "ERR_FM_BAD_FILE",
      `Expected a llama2.c configuration (dim, n_layers, …) for __metadata__ of ${path} but received none`,
    );
  }
  const config = readerOf(path, metadata);
  const shape = readShape(config);
  const length = checkSequenceLength(sequenceLength, config.count("max_seq_len"));
  const { graph, features } = buildLlamaGraph("llama2c", shape, kNames, length);
  return { arch: "llama2c", graph, features, stored: new Map(), buffers: kNothing };
}
