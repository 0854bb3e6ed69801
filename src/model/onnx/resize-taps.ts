/**
 * Which entries of an axis make each entry of its resized one, and with what weights.
 * Source: the formulas of ONNX's Resize operator (opset 19) and its reference implementation.
 */
import type { Taps } from "./axes.js";

export interface AxisResize {
  readonly inputSize: number;
  readonly outputSize: number;
  /** Output over input: need not be the sizes' quotient. */
  readonly scale: number;
  readonly mode: "nearest" | "linear" | "cubic";
  readonly coordinates: string;
  readonly nearest: string;
  readonly cubicA: number;
  readonly antialias: boolean;
  readonly excludeOutside: boolean;
  /** Start and end of the region, 0 to 1, for tf_crop_and_resize. */
  readonly region: readonly [number, number];
}

/** Where an output's centre lies in the input; undefined for a mode that is not known. */
function coordinate(resize: AxisResize, x: number): number | undefined {
  const { inputSize, scale, outputSize, region } = resize;
  const length = scale * inputSize;
  switch (resize.coordinates) {
    case "align_corners":
      return length === 1 ? 0 : (x * (inputSize - 1)) / (length - 1);
    case "asymmetric":
      return x / scale;
    case "half_pixel":
      return (x + 0.5) / scale - 0.5;
    case "pytorch_half_pixel":
      return length === 1 ? -0.5 : (x + 0.5) / scale - 0.5;
    case "tf_half_pixel_for_nn":
      return (x + 0.5) / scale;
    case "half_pixel_symmetric":
      return (inputSize / 2) * (1 - outputSize / length) + (x + 0.5) / scale - 0.5;
    case "tf_crop_and_resize": {
      // In f32 as the reference has them: a rounding decides on which side of a whole place a point lies.
      const share = Math.fround(region[1] - region[0]);
      const start = Math.fround(region[0] * (inputSize - 1));
      const inside =
        length === 1
          ? Math.fround(share * (inputSize - 1)) / 2
          : (x * share * (inputSize - 1)) / (length - 1);
      return inside + start;
    }
    default:
      return undefined;
  }
}

function nearestWeights(ratio: number, rule: string): readonly number[] | undefined {
  if (ratio === 1) return [0, 1];
  if (rule === "round_prefer_floor") return ratio <= 0.5 ? [1, 0] : [0, 1];
  if (rule === "round_prefer_ceil") return ratio < 0.5 ? [1, 0] : [0, 1];
  if (rule === "floor") return [1, 0];
  return rule === "ceil" ? [0, 1] : undefined;
}

/** Keys' cubic convolution at a distance. */
function cubicKernel(distance: number, a: number): number {
  const x = Math.abs(distance);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

// What is left of a kernel's end is rounding, not a weight.
const kNothing = 1e-7;

/** Weights that sum to 1; zeros where nothing is left of them. */
function normalised(weights: readonly number[]): readonly number[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => (Math.abs(total) < kNothing ? 0 : weight / total));
}

/** The kernel of a support of `reach` entries on each side, widened by the scale. */
function widened(
  ratio: number,
  scale: number,
  reach: number,
  kernel: (distance: number) => number,
): readonly number[] {
  const factor = Math.min(scale, 1);
  const start = Math.floor(-reach / factor) + 1;
  const weights = Array.from({ length: 2 - 2 * start }, (_, i) =>
    kernel((start + i - ratio) * factor),
  );
  return normalised(weights);
}

function weightsOf(resize: AxisResize, ratio: number): readonly number[] | undefined {
  const { mode, scale, cubicA, antialias } = resize;
  if (mode === "nearest") return nearestWeights(ratio, resize.nearest);
  if (mode === "linear") {
    if (!antialias) return [1 - ratio, ratio];
    return widened(ratio, scale, 1, (distance) => Math.max(1 - Math.abs(distance), 0));
  }
  const kernel = (distance: number): number => cubicKernel(distance, cubicA);
  if (antialias) return widened(ratio, scale, 2, kernel);
  return [-1, 0, 1, 2].map((i) => kernel(i - ratio));
}

/** The weights of one output and the place of the first of them. */
interface Window {
  readonly first: number;
  readonly weights: readonly number[];
}

function windowOf(resize: AxisResize, at: number): Window | undefined {
  const floor = Math.floor(at);
  const whole = at === floor;
  // A whole coordinate belongs to the window on its left.
  const weights = weightsOf(resize, whole ? 1 : at - floor);
  if (weights === undefined) return undefined;
  return { first: floor - weights.length / 2 + (whole ? 0 : 1), weights };
}

export interface ResizedAxis {
  readonly taps: Taps;
  /** Outputs that lie outside the input: what they are, the operator's extrapolation value says. */
  readonly outside: readonly boolean[];
}

/** undefined for a mode that is not known. */
export function resizeTaps(resize: AxisResize): ResizedAxis | undefined {
  const { inputSize, outputSize, coordinates, excludeOutside } = resize;
  const index: number[] = [];
  const weight: number[] = [];
  const outside: boolean[] = [];
  let taps = 1;
  for (let x = 0; x < outputSize; x++) {
    const at = coordinate(resize, x);
    const window = at === undefined ? undefined : windowOf(resize, at);
    if (at === undefined || window === undefined) return undefined;
    const beyond = coordinates === "tf_crop_and_resize" && (at < 0 || at > inputSize - 1);
    outside.push(beyond);
    taps = window.weights.length;
    const places = window.weights.map((_, i) => window.first + i);
    const inside = places.map((place) => place >= 0 && place < inputSize);
    const weights = excludeOutside
      ? normalised(window.weights.map((each, i) => (inside[i] ? each : 0)))
      : window.weights;
    places.forEach((place, i) => {
      index.push(beyond ? -1 : Math.min(Math.max(place, 0), inputSize - 1));
      weight.push(beyond ? 0 : (weights[i] as number));
    });
  }
  return { taps: { taps, index, weight }, outside };
}
