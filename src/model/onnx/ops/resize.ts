import { resample, type Taps } from "../axes.js";
import type { Importers, NodeContext } from "../context.js";
import { boolArray } from "../fold/array.js";
import { forEachIndex } from "../fold/places.js";
import { namedImporters } from "../naming.js";
import { constantOperand, isFloat, type Operand } from "../operand.js";
import { type AxisResize, resizeTaps } from "../resize-taps.js";

/** The scale and result of each axis that is resized. */
interface Plan {
  readonly axes: readonly number[];
  readonly scales: readonly number[];
  readonly sizes: readonly number[];
}

type Style = Omit<AxisResize, "inputSize" | "outputSize" | "scale" | "region">;

/** An optional list input: an empty one is none. */
function listInput(node: NodeContext, i: number, what: string): readonly number[] | undefined {
  const operand = node.optional(i);
  if (operand === undefined || operand.dims.includes(0)) return undefined;
  return node.numbers(operand, what);
}

function fromScales(x: Operand, axes: readonly number[], scales: readonly number[]): Plan {
  const sizes = axes.map((axis, i) => Math.floor((x.dims[axis] as number) * (scales[i] as number)));
  return { axes, scales, sizes };
}

/** With a policy other than stretch one scale fits all axes into (or around) the sizes. */
function fromSizes(
  node: NodeContext,
  x: Operand,
  axes: readonly number[],
  sizes: readonly number[],
): Plan {
  const scales = axes.map((axis, i) => (sizes[i] as number) / (x.dims[axis] as number));
  const policy = node.string("keep_aspect_ratio_policy", "stretch");
  if (policy === "stretch") return { axes, scales, sizes };
  if (policy !== "not_larger" && policy !== "not_smaller") node.refuse(`policy ${policy}`);
  const scale = policy === "not_larger" ? Math.min(...scales) : Math.max(...scales);
  return {
    axes,
    scales: scales.map(() => scale),
    sizes: axes.map((axis) => Math.floor(scale * (x.dims[axis] as number) + 0.5)),
  };
}

function modeOf(node: NodeContext): AxisResize["mode"] {
  const mode = node.string("mode", "nearest");
  if (mode === "bilinear") return "linear";
  if (mode !== "nearest" && mode !== "linear" && mode !== "cubic")
    return node.refuse(`mode ${mode}`);
  return mode;
}

function resized(
  node: NodeContext,
  plan: Plan,
  style: Style,
  regions: readonly (readonly [number, number])[],
): Operand {
  const x = node.input(0);
  if (!isFloat(x.dtype)) node.refuse(`resizing type ${x.dtype}`);
  const taps = new Map<number, Taps>();
  const outside = new Map<number, readonly boolean[]>();
  plan.axes.forEach((axis, i) => {
    const [outputSize, scale] = [plan.sizes[i] as number, plan.scales[i] as number];
    if (!(outputSize > 0 && outputSize < 2 ** 20)) node.refuse(`a size of ${outputSize}`);
    if (untouched(x.dims[axis] as number, outputSize, scale, regions[i])) return;
    const region = regions[i] ?? [0, 1];
    const inputSize = x.dims[axis] as number;
    const made = resizeTaps({ ...style, inputSize, outputSize, scale, region });
    if (made === undefined) node.refuse(`mode ${style.coordinates} with ${style.nearest}`);
    taps.set(axis, made.taps);
    if (made.outside.includes(true)) outside.set(axis, made.outside);
  });
  return extrapolated(node, resample(node, x, taps), outside);
}

function untouched(
  inputSize: number,
  outputSize: number,
  scale: number,
  region: readonly [number, number] | undefined,
): boolean {
  const whole = region === undefined || (region[0] === 0 && region[1] === 1);
  return inputSize === outputSize && scale === 1 && whole;
}

/** The extrapolation value wherever one of the axes lies outside; resampling has put 0 there. */
function extrapolated(
  node: NodeContext,
  y: Operand,
  outside: ReadonlyMap<number, readonly boolean[]>,
): Operand {
  const value = node.float("extrapolation_value", 0);
  if (outside.size === 0 || value === 0) return y;
  const dims = y.dims.map((size, axis) => (outside.has(axis) ? size : 1));
  const mask: boolean[] = [];
  forEachIndex(dims, (index) =>
    mask.push([...outside].some(([axis, list]) => list[index[axis] as number])),
  );
  const fill = { dtype: y.dtype, dims: [], data: Float32Array.of(value) };
  const { values, shape, finish } = node.align([
    constantOperand(boolArray(dims, mask)),
    constantOperand(fill),
    y,
  ]);
  return finish(node.emit("where", values, shape), y.dtype);
}

/** Upsample, and Resize before opset 11: each output takes what lies at x / scale. */
function upsample(node: NodeContext): Operand {
  const x = node.input(0);
  const scales = node.inputs.length > 1 ? listInput(node, 1, "scales") : node.floats("scales");
  if (scales === undefined || scales.length !== x.dims.length)
    return node.refuse("no scale per axis");
  const plan = fromScales(
    x,
    x.dims.map((_, i) => i),
    scales,
  );
  const mode = modeOf(node);
  if (mode === "cubic") node.refuse("mode cubic before opset 11");
  const style: Style = {
    mode,
    coordinates: "asymmetric",
    nearest: "floor",
    cubicA: 0,
    antialias: false,
    excludeOutside: false,
  };
  return resized(node, plan, style, []);
}

function styleOf(node: NodeContext): Style {
  const style: Style = {
    mode: modeOf(node),
    coordinates: node.string("coordinate_transformation_mode", "half_pixel"),
    nearest: node.string("nearest_mode", "round_prefer_floor"),
    cubicA: node.float("cubic_coeff_a", -0.75),
    antialias: node.int("antialias", 0) !== 0,
    excludeOutside: node.int("exclude_outside", 0) !== 0,
  };
  if (style.mode === "nearest" && style.antialias) node.refuse("antialias with mode nearest");
  return style;
}

/** Start and end per axis, from ONNX's list of all starts, then all ends. */
function regionsOf(
  node: NodeContext,
  count: number,
  style: Style,
): readonly (readonly [number, number])[] {
  if (style.coordinates !== "tf_crop_and_resize") return [];
  const list = listInput(node, 1, "roi");
  if (list === undefined || list.length !== 2 * count) return node.refuse("no region per axis");
  return Array.from({ length: count }, (_, i) => [list[i] as number, list[i + count] as number]);
}

function resize(node: NodeContext): Operand {
  if (node.opset < 11) return upsample(node);
  const x = node.input(0);
  const axes = (node.ints("axes") ?? x.dims.map((_, i) => i)).map((axis) =>
    node.axis(axis, x.dims.length),
  );
  const [scales, sizes] = [listInput(node, 2, "scales"), listInput(node, 3, "sizes")];
  const given = sizes ?? scales;
  if (given === undefined || given.length !== axes.length) return node.refuse("no scale per axis");
  const plan = sizes ? fromSizes(node, x, axes, given) : fromScales(x, axes, given);
  const style = styleOf(node);
  return resized(node, plan, style, regionsOf(node, axes.length, style));
}

/** Resize of every opset, and Upsample. */
export const importers: Importers = namedImporters({ Resize: resize, Upsample: upsample });
