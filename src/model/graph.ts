/**
 * The model graph as TypeScript describes it and the engine runs it: a versioned JSON document.
 *
 * Shapes are per sample, without the batch, and physical (row-major): images are (H, W, C). Parameters keep PyTorch's
 * names and layouts: conv weights (C_out, C_in/groups, K_h, K_w), linear weights (out, in).
 */
export const GRAPH_VERSION = 1;

/** What a parameter is to masking and to the optimiser. Only `buffer`s are not trained. */
export type ParameterRole = "weight" | "bias" | "norm" | "embedding" | "buffer";

/** How a parameter is filled before training; see `initialize`. */
export type Initializer =
  | { readonly kind: "zeros" }
  | { readonly kind: "ones" }
  /** Normal with standard deviation gain / sqrt(fan). */
  | { readonly kind: "kaiming-normal"; readonly mode: "fan-in" | "fan-out"; readonly gain: number }
  /** Uniform in ±gain·sqrt(3 / fan-in); PyTorch's default for conv and linear weights is gain = sqrt(1/3). */
  | { readonly kind: "kaiming-uniform"; readonly gain: number }
  /** Uniform in ±bound; PyTorch's default bias has bound = 1 / sqrt(fan-in of its weight). */
  | { readonly kind: "uniform"; readonly bound: number }
  | { readonly kind: "normal"; readonly std: number };

export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly role: ParameterRole;
  readonly init: Initializer;
}

export type AttributeValue = boolean | number | string | readonly number[];

export interface NodeSpec {
  /** Unique. */
  readonly name: string;
  readonly op: string;
  /** Names of values: graph inputs or outputs of earlier nodes. */
  readonly inputs: readonly string[];
  /** Names of the values that this node makes. Unique in the graph. */
  readonly outputs: readonly string[];
  /** Slot → parameter name, e.g. weight → "layer1.0.conv1.weight". One parameter may serve several nodes. */
  readonly parameters: Readonly<Record<string, string>>;
  readonly attributes: Readonly<Record<string, AttributeValue>>;
}

export interface InputSpec {
  readonly name: string;
  readonly shape: readonly number[];
  /** `f32` stands for the engine's real type; `i32` for token ids. */
  readonly dtype: "f32" | "i32";
}

export interface Graph {
  readonly version: typeof GRAPH_VERSION;
  readonly name: string;
  readonly inputs: readonly InputSpec[];
  readonly parameters: readonly ParameterSpec[];
  readonly nodes: readonly NodeSpec[];
  /** Names of values; the first is the logits. */
  readonly outputs: readonly string[];
}
