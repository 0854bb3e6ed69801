import type { OnnxArray, OnnxDType } from "../../io/onnx/model.js";
import type { EngineValue } from "./engine-graph.js";

/**
 * How an engine value lays out the ONNX value with dims d:
 * `plain` is d itself; `unbatched` is d without its leading 1; `channelsLast` is (spatial…, C) of (1, C, spatial…) and
 * (N, spatial…, C) of (N, C, spatial…).
 */
export type Layout = "plain" | "unbatched" | "channelsLast";

/** Known when the graph is imported: a folded result, or the data of a Constant node. */
export interface ConstantOperand {
  readonly kind: "constant";
  readonly dtype: OnnxDType;
  readonly dims: readonly number[];
  readonly array: OnnxArray;
  /** The output of the main graph's Constant node that it is: what can be written back under this name. */
  readonly source?: string | undefined;
}

/** A float initializer: trainable, its values are read but never folded into others. */
export interface ParameterOperand {
  readonly kind: "parameter";
  readonly dtype: OnnxDType;
  /** As the node sees it: the file's numbers with other sizes (Reshape), or as a transposed matrix. */
  readonly dims: readonly number[];
  /** The initializer's name in the file. */
  readonly initializer: string;
  /** In the file's order. */
  readonly array: OnnxArray;
  /** A matrix seen through a Transpose node. */
  readonly transposed: boolean;
}

/** Computed by the engine. Booleans are 0 and 1; integers are token ids (a graph input) or have a bound `largest`. */
export interface ValueOperand {
  readonly kind: "value";
  readonly dtype: OnnxDType;
  readonly dims: readonly number[];
  /** The layouts made so far, at least one. */
  readonly forms: Map<Layout, EngineValue>;
  /** The data of a graph input that is at hand (conformance tests): only for what the engine takes as a parameter or attribute. */
  readonly known?: OnnxArray | undefined;
  /** Its name in the file, where it is a graph input. */
  readonly input?: string | undefined;
  /** Of whole numbers that the engine holds as reals: none is larger in size. */
  readonly largest?: number | undefined;
}

export type Operand = ConstantOperand | ParameterOperand | ValueOperand;

const kFloats: ReadonlySet<OnnxDType> = new Set<OnnxDType>([
  "float",
  "double",
  "float16",
  "bfloat16",
]);

/** float, double, float16 or bfloat16: what the engine computes with. */
export function isFloat(dtype: OnnxDType): boolean {
  return kFloats.has(dtype);
}

/** The product of the sizes; 1 for a scalar. */
export function elementCount(dims: readonly number[]): number {
  return dims.reduce((product, size) => product * size, 1);
}

export function sameDims(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}

export function constantOperand(array: OnnxArray): ConstantOperand {
  return { kind: "constant", dtype: array.dtype, dims: array.dims, array };
}

export function valueOperand(
  layout: Layout,
  value: EngineValue,
  dims: readonly number[],
  dtype: OnnxDType,
): ValueOperand {
  return { kind: "value", dtype, dims, forms: new Map([[layout, value]]) };
}

/** (N, C, spatial…) → (N, spatial…, C). */
export function channelsLastPerm(rank: number): readonly number[] {
  return [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1];
}

/** The engine's shape of a value of these dims in the layout. `channelsLast` needs three sizes, `unbatched` a leading 1. */
export function formShape(layout: Layout, dims: readonly number[]): readonly number[] {
  if (layout === "plain") return dims;
  if (layout === "unbatched") return dims.slice(1);
  const [count = 1, channels = 1, ...spatial] = dims;
  return count === 1 ? [...spatial, channels] : [count, ...spatial, channels];
}

/** NumPy's broadcasting of shapes; undefined where they do not fit. */
export function broadcastDims(
  ...shapes: readonly (readonly number[])[]
): readonly number[] | undefined {
  const rank = Math.max(0, ...shapes.map((shape) => shape.length));
  const out: number[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const sizes = shapes.map((shape) => shape[axis - rank + shape.length] ?? 1);
    const size = sizes.find((each) => each !== 1) ?? 1;
    if (sizes.some((each) => each !== 1 && each !== size)) return undefined;
    out.push(size);
  }
  return out;
}

/** Where an axis (≥ 0) of the dims stands in the layout's shape; undefined where the layout leaves it out. */
export function layoutAxis(
  layout: Layout,
  dims: readonly number[],
  axis: number,
): number | undefined {
  if (layout === "plain") return axis;
  if (layout === "unbatched") return axis === 0 ? undefined : axis - 1;
  const batched = dims[0] === 1 ? 0 : 1;
  if (axis === 0) return batched === 1 ? 0 : undefined;
  return axis === 1 ? dims.length - 2 + batched : axis - 2 + batched;
}

/** A tensor without elements of one of the engine's dtypes. */
export function emptyOperand(dtype: OnnxDType, dims: readonly number[]): ConstantOperand {
  const data =
    dtype === "double"
      ? new Float64Array(0)
      : dtype === "bool"
        ? new Uint8Array(0)
        : new Float32Array(0);
  return constantOperand({ dtype, dims, data });
}
