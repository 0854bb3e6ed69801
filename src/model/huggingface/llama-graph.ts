import { LOGITS } from "../architecture.js";
import { GraphBuilder } from "../builder.js";
import type { Graph } from "../graph.js";
import type { Activation } from "./activation.js";
import { IDS, READ } from "./network.js";

/** What a Llama computes, whatever its files call it. */
export interface LlamaShape {
  readonly vocabularySize: number;
  readonly width: number;
  readonly heads: number;
  /** Heads of key and value, a divisor of `heads`. */
  readonly kvHeads: number;
  readonly headSize: number;
  readonly layers: number;
  readonly inner: number;
  readonly epsilon: number;
  readonly activation: Activation;
  readonly attentionBias: boolean;
  readonly mlpBias: boolean;
  /** The head's weight is the embedding's. */
  readonly tied: boolean;
  /** Radians a position, (headSize / 2). */
  readonly frequencies: readonly number[];
  /** Pairs turn as 2i and 2i + 1; false: as i and i + headSize / 2. */
  readonly interleaved: boolean;
}

/** Modules' names in a layer and around them. */
export interface LlamaNames {
  readonly embedding: string;
  readonly finalNorm: string;
  readonly head: string;
  readonly layer: (index: number) => string;
  readonly attentionNorm: string;
  readonly query: string;
  readonly key: string;
  readonly value: string;
  readonly output: string;
  readonly mlpNorm: string;
  readonly gate: string;
  readonly up: string;
  readonly down: string;
}

class LlamaGraph {
  readonly b: GraphBuilder;

  constructor(
    name: string,
    private readonly shape: LlamaShape,
    private readonly names: LlamaNames,
  ) {
    this.b = new GraphBuilder(name);
  }

  build(length: number): { graph: Graph; features: string } {
    const { b, names, shape } = this;
    const { width, vocabularySize: count, epsilon } = shape;
    const ids = b.input(IDS, [length], "i32");
    let x = b.embedding(names.embedding, ids, { count, width, init: READ });
    for (let i = 0; i < shape.layers; i++) x = this.block(names.layer(i), x);
    const features = b.rmsNorm(names.finalNorm, x, { epsilon });
    const head = shape.tied ? { weight: `${names.embedding}.weight` } : {};
    const last = { ...head, out: count, bias: false, output: LOGITS };
    return { graph: b.build([b.linear(names.head, features, last), features]), features };
  }

  private block(layer: string, x: string): string {
    const { b, names } = this;
    const { epsilon } = this.shape;
    const normed = b.rmsNorm(`${layer}.${names.attentionNorm}`, x, { epsilon });
    const middle = b.add(`${layer}.attended`, [x, this.attention(layer, normed)]);
    const again = b.rmsNorm(`${layer}.${names.mlpNorm}`, middle, { epsilon });
    return b.add(layer, [middle, this.mlp(layer, again)]);
  }

  private attention(layer: string, x: string): string {
    const { b, names } = this;
    const { heads, kvHeads, headSize, width, attentionBias: bias } = this.shape;
    const project = (slot: string, count: number): string =>
      b.linear(`${layer}.${slot}`, x, { out: count * headSize, bias });
    const turned = (slot: string, count: number): string => {
      const { frequencies, interleaved } = this.shape;
      const options = { heads: count, frequencies, interleaved };
      return b.rope(`${layer}.${slot}.rope`, project(slot, count), options);
    };
    const mixed = b.attention(
      `${layer}.attend`,
      {
        query: turned(names.query, heads),
        key: turned(names.key, kvHeads),
        value: project(names.value, kvHeads),
      },
      { heads, kvHeads, causal: true },
    );
    return b.linear(`${layer}.${names.output}`, mixed, { out: width, bias });
  }

  private mlp(layer: string, x: string): string {
    const { b, names } = this;
    const { inner, width, mlpBias: bias, activation } = this.shape;
    const gate = b.linear(`${layer}.${names.gate}`, x, { out: inner, bias });
    const up = b.linear(`${layer}.${names.up}`, x, { out: inner, bias });
    const gated = b.mul(`${layer}.gated`, activation(b, `${layer}.act`, gate), up);
    return b.linear(`${layer}.${names.down}`, gated, { out: width, bias });
  }
}

/**
 * Llama's graph: ids i32 (T) → logits (T, vocabulary), features (T, D) after the last norm. Padding belongs at the end.
 *
 * Source: Touvron et al., "LLaMA", arXiv:2302.13971; grouped-query attention: Ainslie et al., arXiv:2305.13245.
 */
export function buildLlamaGraph(
  name: string,
  shape: LlamaShape,
  names: LlamaNames,
  length: number,
): { graph: Graph; features: string } {
  return new LlamaGraph(name, shape, names).build(length);
}
