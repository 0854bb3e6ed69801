import type { GraphBuilder } from "../builder.js";

/** Adds the node of an activation. */
export type Activation = (b: GraphBuilder, name: string, x: string) => string;

const exact: Activation = (b, name, x) => b.gelu(name, x);
const approximate: Activation = (b, name, x) => b.gelu(name, x, { approximate: "tanh" });
const silu: Activation = (b, name, x) => b.silu(name, x);

/**
 * Activations by the names that a configuration uses.
 *
 * Source: huggingface/transformers, `activations.py`. `gelu_new`, `gelu_fast` and `gelu_pytorch_tanh` are one formula.
 */
export const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  gelu: exact,
  gelu_python: exact,
  gelu_new: approximate,
  gelu_fast: approximate,
  gelu_pytorch_tanh: approximate,
  relu: (b, name, x) => b.relu(name, x),
  silu,
  swish: silu,
  tanh: (b, name, x) => b.tanh(name, x),
  sigmoid: (b, name, x) => b.sigmoid(name, x),
};
