import type { Importers, NodeContext } from "../context.js";
import type { EngineValue } from "../engine-graph.js";
import { isFloat, type Operand, type ValueOperand } from "../operand.js";
import { padding2d, pair, type Window, windowOf, windowRows } from "../window.js";

interface PoolParts {
  readonly input: Operand;
  readonly spatial: readonly number[];
  readonly window: Window;
  readonly dims: readonly number[];
}

function poolParts(node: NodeContext): PoolParts {
  const input = node.input(0);
  const spatial = input.dims.slice(2);
  if (!isFloat(input.dtype)) node.refuse(`an input of type ${input.dtype}`);
  if (spatial.length < 1) node.refuse(`an input of rank ${input.dims.length}`);
  const kernel = node.ints("kernel_shape") ?? node.refuse("no attribute kernel_shape");
  if (kernel.some((size) => size < 1)) node.refuse(`kernel_shape [${kernel.join(", ")}]`);
  const window = windowOf(node, spatial, kernel, { ceil: node.int("ceil_mode", 0) === 1 });
  return { input, spatial, window, dims: [...input.dims.slice(0, 2), ...window.out] };
}

function windowAttributes(window: Window): Record<string, readonly number[]> {
  const behind = window.after.map((size, i) => size + (window.beyond[i] as number));
  return {
    kernel: pair(window.kernel, 1),
    stride: pair(window.stride, 1),
    padding: padding2d(window.before, behind),
  };
}

function maxPool(node: NodeContext): Operand {
  if (node.wantsOutput(1)) node.refuse("a reader of the places of the maxima");
  const { input, spatial, window, dims } = poolParts(node);
  if (spatial.length > 2) return maxPoolByAxis(node, input, window, dims);
  const shape = [...pair(window.out, 1), dims[1] as number];
  const attributes = { ...windowAttributes(window), dilation: pair(window.dilation, 1) };
  const made = node
    .images(input)
    .map((image) => node.emit("max_pool2d", [image], shape, { attributes }));
  return node.fromImages(made, dims, input.dtype);
}

/** A maximum over a box is one over each of its axes in turn. */
function maxPoolByAxis(
  node: NodeContext,
  input: Operand,
  window: Window,
  dims: readonly number[],
): ValueOperand {
  const { graph, label } = node;
  let value = node.plain(input);
  window.out.forEach((out, axis) => {
    const place = axis + 2;
    const others = value.shape.map((_, each) => each).filter((each) => each !== place);
    const front = [place, ...others];
    const turned = graph.transpose(label, value, front);
    const size = turned.shape[0] as number;
    const rest = turned.shape.slice(1);
    const image = graph.reshape(label, turned, [size, rest.reduce((a, b) => a * b, 1), 1]);
    const after = (window.after[axis] as number) + (window.beyond[axis] as number);
    const pooled = node.emit("max_pool2d", [image], image.shape.with(0, out), {
      attributes: {
        kernel: [window.kernel[axis] as number, 1],
        stride: [window.stride[axis] as number, 1],
        padding: [window.before[axis] as number, 0, after, 0],
        dilation: [window.dilation[axis] as number, 1],
      },
    });
    const back = front.map((_, each) => front.indexOf(each));
    value = graph.transpose(label, graph.reshape(label, pooled, [out, ...rest]), back);
  });
  return node.result(value, dims, input.dtype);
}

function averagePool(node: NodeContext): Operand {
  const { input, spatial, window, dims } = poolParts(node);
  const includePad = node.int("count_include_pad", 0) === 1;
  const simple =
    spatial.length <= 2 &&
    window.dilation.every((dilation) => dilation === 1) &&
    !(includePad && window.beyond.some((beyond) => beyond > 0));
  if (!simple) return averageByAxis(node, input, window, dims, includePad);
  const shape = [...pair(window.out, 1), dims[1] as number];
  const attributes = { ...windowAttributes(window), count_include_pad: includePad };
  const made = node
    .images(input)
    .map((image) => node.emit("avg_pool2d", [image], shape, { attributes }));
  return node.fromImages(made, dims, input.dtype);
}

/** A mean over a box is one over each of its axes in turn: what each counts is a product over the axes. */
function averageByAxis(
  node: NodeContext,
  input: Operand,
  window: Window,
  dims: readonly number[],
  includePad: boolean,
): ValueOperand {
  const value = window.out.reduce<EngineValue>((each, _, axis) => {
    const size = input.dims[axis + 2] as number;
    const padded = paddedCounts(window, axis, size);
    const rows = windowRows(window, axis, size).map((index, i) => {
      const counted = includePad ? (padded[i] as number) : index.length;
      return { index, weight: index.map(() => 1 / counted) };
    });
    return node.graph.resample(node.label, each, axis + 2, rows);
  }, node.plain(input));
  return node.result(value, dims, input.dtype);
}

/** How many places of the padded input each window sees: what ceil_mode adds is not padding. */
function paddedCounts(window: Window, axis: number, size: number): readonly number[] {
  const before = window.before[axis] as number;
  const total = size + before + (window.after[axis] as number);
  const shifted: Window = { ...window, before: window.before.with(axis, 0) };
  return windowRows(shifted, axis, total).map((row) => row.length);
}

function lpPool(node: NodeContext): Operand {
  const { input, window, dims } = poolParts(node);
  const p = node.int("p", 2);
  if (p < 1) node.refuse(`p = ${p}`);
  const sum = window.out.reduce<EngineValue>(
    (each, _, axis) => {
      const rows = windowRows(window, axis, input.dims[axis + 2] as number).map((index) => ({
        index,
        weight: index.map(() => 1),
      }));
      return node.graph.resample(node.label, each, axis + 2, rows);
    },
    power(node, node.plain(input), p),
  );
  return node.result(root(node, sum, p), dims, input.dtype);
}

/** |x|^p. */
function power(node: NodeContext, value: EngineValue, p: number): EngineValue {
  const size = node.graph.unary(node.label, "abs", value);
  if (p === 1) return size;
  if (p === 2) return node.graph.binary(node.label, "mul", value, value);
  return node.graph.binary(node.label, "pow", size, number(node, p));
}

function root(node: NodeContext, value: EngineValue, p: number): EngineValue {
  if (p === 1) return value;
  if (p === 2) return node.graph.unary(node.label, "sqrt", value);
  return node.graph.binary(node.label, "pow", value, number(node, 1 / p));
}

function number(node: NodeContext, value: number): EngineValue {
  const array = { dtype: "double", dims: [], data: Float64Array.of(value) } as const;
  return node.graph.constant(node.label, array, []);
}

function globalPool(op: string): (node: NodeContext) => Operand {
  return (node) => {
    const input = node.input(0);
    const [count = 0, channels = 0, ...spatial] = input.dims;
    if (!isFloat(input.dtype)) node.refuse(`an input of type ${input.dtype}`);
    if (spatial.length < 1) node.refuse(`an input of rank ${input.dims.length}`);
    const dims = [count, channels, ...spatial.map(() => 1)];
    const value = node.channelsLast(input);
    if (op === "reduce_mean" && count === 1 && spatial.length === 2) {
      const mean = node.emit("global_avg_pool", [value], [channels]);
      const kept = node.graph.reshape(node.label, mean, [1, 1, channels]);
      return node.result(kept, dims, input.dtype, "channelsLast");
    }
    const first = value.shape.length - 1 - spatial.length;
    const axes = spatial.map((_, i) => i + first);
    const reduced = node.graph.reduce(node.label, op, value, axes, true);
    return node.result(reduced, dims, input.dtype, "channelsLast");
  };
}

function globalLpPool(node: NodeContext): Operand {
  const p = node.int("p", 2);
  if (p === 1) return globalPool("reduce_l1")(node);
  if (p === 2) return globalPool("reduce_l2")(node);
  return node.refuse(`p = ${p}`);
}

export const importers: Importers = {
  MaxPool: maxPool,
  AveragePool: averagePool,
  LpPool: lpPool,
  GlobalAveragePool: globalPool("reduce_mean"),
  GlobalMaxPool: globalPool("reduce_max"),
  GlobalLpPool: globalLpPool,
};
