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
  /** Default true. */
  readonly bias?: boolean;
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

export interface BatchNormOptions extends Named {
  /** Default 1e-5. */
  readonly epsilon?: number;
  /** The share of the new batch in the running statistics, default 0.1. */
  readonly momentum?: number;
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
