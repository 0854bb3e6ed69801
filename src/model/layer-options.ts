import type { Initializer } from "./graph.js";

/** One number for both axes, or [rows, columns]. */
export type Pair = number | readonly [number, number];
/** One number for all sides, or [top, left, bottom, right]. */
export type Sides = number | readonly [number, number, number, number];

/** How a layer's weight and bias are filled; what is left out is as PyTorch's layers do it by default. */
export interface LayerInit {
  readonly weight?: Initializer;
  readonly bias?: Initializer;
}

interface Named {
  /** The output value's name; the layer's own where left out. */
  readonly output?: string;
}

export interface LinearOptions extends Named {
  readonly out: number;
  /** The name of an existing parameter (out, in) in place of `<name>.weight`. */
  readonly weight?: string;
  /** Default true; or the name of an existing parameter (out). */
  readonly bias?: boolean | string;
  readonly init?: LayerInit;
}

export interface Conv2dOptions extends LinearOptions {
  readonly kernel: Pair;
  /** Default 1. */
  readonly stride?: Pair;
  /** Default 0. */
  readonly padding?: Sides;
  /** Default 1: taps are neighbours. */
  readonly dilation?: Pair;
  /** Default 1. */
  readonly groups?: number;
}

export interface ConvTranspose2dOptions extends Conv2dOptions {
  /** Rows and columns added at the end, default 0. */
  readonly outputPadding?: Pair;
}

export interface BatchNormOptions extends Named {
  /** Default 1e-5. */
  readonly epsilon?: number;
  /** The share of the new batch in the running statistics, default 0.1. */
  readonly momentum?: number;
}

export interface LayerNormOptions extends Named {
  /** Default 1e-5. */
  readonly epsilon?: number;
  /** How many trailing sizes are normalised together, default 1. */
  readonly dims?: number;
  /** Default true; false leaves out weight and bias. */
  readonly affine?: boolean;
  /** Default true. */
  readonly bias?: boolean;
}

export interface RmsNormOptions extends Named {
  /** Default 1e-6, as Hugging Face's Llama. */
  readonly epsilon?: number;
}

export interface GroupNormOptions extends Named {
  /** A divisor of the channels. */
  readonly groups: number;
  /** Default 1e-5. */
  readonly epsilon?: number;
  /** Default true; false leaves out weight and bias. */
  readonly affine?: boolean;
}

export interface EmbeddingOptions extends Named {
  /** How many ids there are. */
  readonly count: number;
  readonly width: number;
  /** The name of an existing parameter (count, width) in place of `<name>.weight`. */
  readonly weight?: string;
  /** Default: normal with deviation 1, as PyTorch's. */
  readonly init?: Initializer;
}

/** Names of values. */
export interface AttentionInputs {
  readonly query: string;
  readonly key: string;
  readonly value: string;
  /** Added to the scores before the softmax: (T, S), or (S) for every row. */
  readonly mask?: string | undefined;
}

export interface AttentionOptions extends Named {
  readonly heads: number;
  /** Heads of key and value, a divisor of `heads`; default: as many. */
  readonly kvHeads?: number;
  /** Default false: every row sees every position. */
  readonly causal?: boolean;
  /** Default 1/√d. */
  readonly scale?: number | undefined;
}

export interface RopeOptions extends Named {
  readonly heads: number;
  /** Radians a position, one for each pair of a head. */
  readonly frequencies: readonly number[];
  /** Pairs are 2i and 2i + 1; default false: i and i + half. */
  readonly interleaved?: boolean;
  /** Multiplies cosine and sine, default 1. */
  readonly scale?: number;
}

export interface GeluOptions extends Named {
  /** Default "none". */
  readonly approximate?: "none" | "tanh";
}

export interface HardSigmoidOptions extends Named {
  readonly alpha?: number;
  readonly beta?: number;
}

export interface AffineOptions extends Named {
  /** Default 1. */
  readonly scale?: number;
  /** Default 0. */
  readonly shift?: number;
}

export interface SoftmaxOptions extends Named {
  /** Default -1. */
  readonly axis?: number;
}

/** The second operand: a value's name, or a declared parameter that is broadcast to the first. */
export type Operand = string | { readonly parameter: string };

export interface MatmulOptions extends Named {
  /** Default false. */
  readonly transposeA?: boolean;
  /** Default false. */
  readonly transposeB?: boolean;
}

export interface ReshapeOptions extends Named {
  /** Per sample. */
  readonly shape: readonly number[];
}

export interface TransposeOptions extends Named {
  readonly perm: readonly number[];
}

/** One number for each of the sample's sizes. */
export interface SliceOptions extends Named {
  readonly starts: readonly number[];
  readonly sizes: readonly number[];
  /** Not 0; default 1. */
  readonly steps?: readonly number[];
}

export interface PoolOptions extends Named {
  readonly kernel: Pair;
  /** Default: the kernel. */
  readonly stride?: Pair;
  /** Default 0. */
  readonly padding?: Sides;
}

export interface MaxPoolOptions extends PoolOptions {
  /** Default 1. */
  readonly dilation?: Pair;
}

export interface AvgPoolOptions extends PoolOptions {
  /** Whether padding counts in the divisor, default true. */
  readonly countIncludePad?: boolean;
}

export interface Pad2dOptions extends Named {
  readonly padding?: Sides;
  /** Channels to add [before, after]. */
  readonly channels?: readonly [number, number];
  /** Takes every step-th row and column before padding, default 1. */
  readonly step?: Pair;
  /** What is filled in, default 0. */
  readonly value?: number;
}

export interface ConcatOptions extends Named {
  /** Over the per-sample sizes, from 0; negative from the end: -1 is the channels of an image. */
  readonly axis: number;
}

export interface DropoutOptions extends Named {
  /** The share that is dropped in training, 0 to below 1. */
  readonly rate: number;
}

export type PlainOptions = Named;

export function pair(value: Pair): readonly [number, number] {
  return typeof value === "number" ? [value, value] : value;
}

export function sides(value: Sides): readonly [number, number, number, number] {
  return typeof value === "number" ? [value, value, value, value] : value;
}
