/**
 * Where one coordinate of a grid lies on an axis, and what it is interpolated from.
 * Source: ONNX GridSample (opsets 16 to 22), which follows PyTorch's grid_sample.
 */
import { roundHalfEven } from "./fold/elementwise.js";

export interface AxisSample {
  readonly size: number;
  readonly mode: "nearest" | "linear" | "cubic";
  readonly padding: "zeros" | "border" | "reflection";
  readonly alignCorners: boolean;
}

export interface SampledAxis {
  /** −1: outside, and 0. */
  readonly places: readonly number[];
  readonly weights: readonly number[];
}

/** Folded back at both borders until it lies between them. */
function reflect(x: number, low: number, high: number): number {
  const extent = high - low;
  if (x >= low && x <= high) return x;
  if (extent === 0) return low;
  const distance = x < low ? low - x : x - high;
  const times = Math.trunc(distance / extent);
  const rest = distance - times * extent;
  const fromNear = times % 2 === 0;
  return x < low === fromNear ? low + rest : high - rest;
}

function clamp(x: number, size: number): number {
  return Math.min(Math.max(x, 0), size - 1);
}

/** −1 … 1 in places, rounded to f32 as every implementation does. */
function position({ size, alignCorners }: AxisSample, coordinate: number): number {
  const place = alignCorners
    ? ((coordinate + 1) / 2) * (size - 1)
    : ((coordinate + 1) * size - 1) / 2;
  return Math.fround(place);
}

function cubicWeights(x: number): readonly number[] {
  const a = -0.75;
  const far = (d: number): number => ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  const near = (d: number): number => ((a + 2) * d - (a + 3)) * d * d + 1;
  return [far(x + 1), near(x), near(1 - x), far(2 - x)];
}

function window(mode: AxisSample["mode"], at: number): SampledAxis {
  const floor = Math.floor(at);
  if (mode === "nearest") return { places: [at], weights: [1] };
  if (mode === "linear") {
    return { places: [floor, floor + 1], weights: [1 - (at - floor), at - floor] };
  }
  return { places: [-1, 0, 1, 2].map((i) => floor + i), weights: cubicWeights(at - floor) };
}

/** The taps of a normalised coordinate (−1 … 1) on an axis. */
export function sampleAxis(axis: AxisSample, coordinate: number): SampledAxis {
  const { size, mode, padding, alignCorners } = axis;
  const [low, high] = alignCorners ? [0, size - 1] : [-0.5, size - 0.5];
  let at = position(axis, coordinate);
  if (mode === "nearest") at = roundHalfEven(at);
  if (at < low || at > high) {
    if (padding === "border") at = clamp(at, size);
    if (padding === "reflection") at = reflect(at, low, high);
  }
  const { places, weights } = window(mode, mode === "nearest" ? Math.trunc(at) : at);
  const inside = (place: number): number => {
    if (place >= 0 && place < size) return place;
    if (padding === "zeros") return -1;
    if (padding === "border") return clamp(place, size);
    return clamp(Math.trunc(reflect(place, low, high)), size);
  };
  return { places: places.map(inside), weights };
}
