import type { Importers, NodeContext } from "../context.js";
import type { EngineValue } from "../engine-graph.js";
import {
  elementCount,
  isFloat,
  type Layout,
  layoutAxis,
  type Operand,
  sameDims,
  type ValueOperand,
} from "../operand.js";

function floatInput(node: NodeContext, leastRank: number): Operand {
  const input = node.input(0);
  if (!isFloat(input.dtype)) node.refuse(`an input of type ${input.dtype}`);
  if (input.dims.length < leastRank) node.refuse(`an input of rank ${input.dims.length}`);
  return input;
}

function checkChannels(node: NodeContext, operand: Operand, channels: number, what: string): void {
  if (elementCount(operand.dims) !== channels) {
    node.refuse(`a ${what} (${operand.dims.join(", ")}) for ${channels} channels`);
  }
}

function inferenceOnly(node: NodeContext): void {
  const training =
    node.int("training_mode", 0) !== 0 || (node.opset < 7 && node.int("is_test", 0) === 0);
  const statistics = node.node.outputs.some((_, i) => i > 0 && node.wantsOutput(i));
  if (training || statistics) node.refuse("training mode");
  if (node.int("spatial", 1) !== 1) node.refuse("spatial = 0");
}

function batchNormalization(node: NodeContext): Operand {
  const input = floatInput(node, 2);
  inferenceOnly(node);
  const channels = input.dims[1] as number;
  const slot = (i: number, role: "norm" | "buffer", what: string): string => {
    checkChannels(node, node.input(i), channels, what);
    return node.parameter(node.input(i), role, what, { shape: [channels] });
  };
  const parameters = {
    weight: slot(1, "norm", "scale"),
    bias: slot(2, "norm", "bias"),
    running_mean: slot(3, "buffer", "mean"),
    running_var: slot(4, "buffer", "variance"),
  };
  const layout: Layout = input.dims.length > 2 ? "channelsLast" : node.layoutOf(input);
  const value = node.form(input, layout);
  // ONNX's momentum is what is kept of the old statistics, PyTorch's what is taken of the new.
  const attributes = {
    epsilon: node.float("epsilon", 1e-5),
    momentum: 1 - node.float("momentum", 0.9),
  };
  const made = node.emit("batch_norm", [value], value.shape, { parameters, attributes });
  return node.result(made, input.dims, input.dtype, layout);
}

function instanceNormalization(node: NodeContext): Operand {
  const input = floatInput(node, 3);
  const channels = input.dims[1] as number;
  checkChannels(node, node.input(1), channels, "scale");
  checkChannels(node, node.input(2), channels, "bias");
  const parameters = {
    weight: node.parameter(node.input(1), "norm", "scale"),
    bias: node.parameter(node.input(2), "norm", "bias"),
  };
  const attributes = { groups: channels, epsilon: node.float("epsilon", 1e-5) };
  return node.perItem(input, input.dims, (item) =>
    node.emit("group_norm", [item], item.shape, { parameters, attributes }),
  );
}

function groupNormalization(node: NodeContext): Operand {
  const input = floatInput(node, 3);
  const channels = input.dims[1] as number;
  const groups = node.int("num_groups");
  if (groups < 1 || channels % groups !== 0) {
    node.refuse(`num_groups ${groups} for ${channels} channels`);
  }
  const attributes = { groups, epsilon: node.float("epsilon", 1e-5) };
  const [scale, bias] = [node.input(1), node.input(2)];
  // From opset 21 on one number a channel, before one a group.
  const sizes = node.opset >= 21 ? channels : groups;
  checkChannels(node, scale, sizes, "scale");
  checkChannels(node, bias, sizes, "bias");
  if (sizes === channels) {
    const parameters = {
      weight: node.parameter(scale, "norm", "scale"),
      bias: node.parameter(bias, "norm", "bias"),
    };
    return node.perItem(input, input.dims, (item) =>
      node.emit("group_norm", [item], item.shape, { parameters, attributes }),
    );
  }
  const weight = node.graph.reshape(node.label, node.plain(scale, "norm"), [groups, 1]);
  const shift = node.graph.reshape(node.label, node.plain(bias, "norm"), [groups, 1]);
  return node.perItem(input, input.dims, (item) => {
    const { graph, label } = node;
    const normal = node.emit("group_norm", [item], item.shape, { attributes });
    const split = [...item.shape.slice(0, -1), groups, channels / groups];
    const scaled = graph.binary(label, "mul", graph.reshape(label, normal, split), weight);
    return graph.reshape(label, graph.binary(label, "binary_add", scaled, shift), item.shape);
  });
}

/** A layout in which the trailing sizes from this axis on stay together and in order. */
function trailingLayout(node: NodeContext, input: Operand, axis: number): Layout {
  return node.layoutOf(input) === "unbatched" && axis > 0 ? "unbatched" : "plain";
}

/** The sizes without the 1s in front. */
function trimmed(dims: readonly number[]): readonly number[] {
  const first = dims.findIndex((size) => size !== 1);
  return first === -1 ? [] : dims.slice(first);
}

/** Whether the operand has exactly one number for each normalised place. */
function fits(operand: Operand, normalized: readonly number[]): boolean {
  return sameDims(trimmed(operand.dims), trimmed(normalized));
}

/** Scales and shifts of the normalised sizes: the slots that fit, and those that must be applied behind. */
function normSlots(
  node: NodeContext,
  normalized: readonly number[],
): {
  readonly parameters: Record<string, string>;
  readonly scale: Operand | undefined;
  readonly bias: Operand | undefined;
} {
  const [scale, bias] = [node.optional(1), node.optional(2)];
  const slot = (operand: Operand | undefined): string | undefined =>
    operand !== undefined && fits(operand, normalized)
      ? node.tryParameter(operand, "norm", { shape: normalized })
      : undefined;
  const weight = slot(scale);
  // A shift comes behind the scale: where the scale is none of the op's, neither is the shift.
  const shift = scale !== undefined && weight === undefined ? undefined : slot(bias);
  const parameters = {
    ...(weight === undefined ? {} : { weight }),
    ...(shift === undefined ? {} : { bias: shift }),
  };
  return {
    parameters,
    scale: weight === undefined ? scale : undefined,
    bias: shift === undefined ? bias : undefined,
  };
}

function applyBehind(
  node: NodeContext,
  value: ValueOperand,
  op: string,
  operand: Operand | undefined,
): ValueOperand {
  if (operand === undefined) return value;
  const { values, dims, finish } = node.align([value, operand]);
  if (!sameDims(dims, value.dims)) node.refuse(`a scale or bias (${operand.dims.join(", ")})`);
  const [a, b] = values as [EngineValue, EngineValue];
  return finish(node.graph.binary(node.label, op, a, b), value.dtype);
}

function trailingNorm(op: "layer_norm" | "rms_norm"): (node: NodeContext) => readonly Operand[] {
  return (node) => {
    const input = floatInput(node, 1);
    const axis = node.axis(node.int("axis", -1), input.dims.length);
    const epsilon = node.float("epsilon", 1e-5);
    const normalized = input.dims.slice(axis);
    const layout = trailingLayout(node, input, axis);
    const value = node.form(input, layout);
    const { parameters, scale, bias } = normSlots(node, normalized);
    const attributes = { epsilon, dims: normalized.length };
    const made = node.emit(op, [value], value.shape, { parameters, attributes });
    const normal = node.result(made, input.dims, input.dtype, layout);
    const output = applyBehind(node, applyBehind(node, normal, "mul", scale), "binary_add", bias);
    return [output, ...(op === "layer_norm" ? moments(node, input, axis, epsilon) : [])];
  };
}

/** LayerNormalization's second and third output: the mean and one over the standard deviation. */
function moments(
  node: NodeContext,
  input: Operand,
  axis: number,
  epsilon: number,
): readonly Operand[] {
  if (!node.wantsOutput(1) && !node.wantsOutput(2)) return [];
  if (input.dtype !== "float" && input.dtype !== "double") {
    node.refuse(`statistics of an input of type ${input.dtype}`);
  }
  const { graph, label } = node;
  const axes = input.dims.map((_, i) => i).slice(axis);
  const value = node.plain(input);
  const mean = graph.reduce(label, "reduce_mean", value, axes, true);
  const centred = graph.binary(label, "sub", value, mean);
  const squares = graph.binary(label, "mul", centred, centred);
  const variance = graph.reduce(label, "reduce_mean", squares, axes, true);
  const deviation = graph.unary(label, "sqrt", graph.affine(label, variance, 1, epsilon));
  const inverse = graph.unary(label, "reciprocal", deviation);
  return [mean, inverse].map((each) => node.result(each, each.shape, input.dtype));
}

function lrn(node: NodeContext): Operand {
  const input = floatInput(node, 2);
  const layout: Layout = input.dims.length > 2 ? "channelsLast" : node.layoutOf(input);
  const attributes = {
    size: node.int("size"),
    alpha: node.float("alpha", 1e-4),
    beta: node.float("beta", 0.75),
    bias: node.float("bias", 1),
  };
  const value = node.form(input, layout);
  const made = node.emit("lrn", [value], value.shape, { attributes });
  return node.result(made, input.dims, input.dtype, layout);
}

/** (x − mean) / (standard deviation + 1e-9) over the axes. Source: ONNX, MeanVarianceNormalization's function. */
function meanVarianceNormalization(node: NodeContext): Operand {
  const input = floatInput(node, 1);
  const { graph, label } = node;
  const axes = (node.ints("axes") ?? [0, 2, 3]).map((axis) => node.axis(axis, input.dims.length));
  const value = node.plain(input);
  const centred = graph.binary(
    label,
    "sub",
    value,
    graph.reduce(label, "reduce_mean", value, axes, true),
  );
  const squares = graph.binary(label, "mul", centred, centred);
  const variance = graph.reduce(label, "reduce_mean", squares, axes, true);
  const deviation = graph.affine(label, graph.unary(label, "sqrt", variance), 1, 1e-9);
  return node.result(graph.binary(label, "div", centred, deviation), input.dims, input.dtype);
}

function lpNormalization(node: NodeContext): Operand {
  const input = floatInput(node, 1);
  const p = node.int("p", 2);
  if (p !== 1 && p !== 2) node.refuse(`p = ${p}`);
  const layout = node.layoutOf(input);
  const axis = node.axis(node.int("axis", -1), input.dims.length);
  const place = layoutAxis(layout, input.dims, axis);
  const used: Layout = place === undefined ? "plain" : layout;
  const value = node.form(input, used);
  const op = p === 1 ? "reduce_l1" : "reduce_l2";
  const norm = node.graph.reduce(node.label, op, value, [place ?? axis], true);
  // Zeros stay zeros: where the norm is 0 it is divided by 1.
  const isZero = node.graph.unary(node.label, "not", norm);
  const divisor = node.emit("add", [norm, isZero], norm.shape);
  const made = node.graph.binary(node.label, "div", value, divisor);
  return node.result(made, input.dims, input.dtype, used);
}

export const importers: Importers = {
  BatchNormalization: batchNormalization,
  InstanceNormalization: instanceNormalization,
  GroupNormalization: groupNormalization,
  LayerNormalization: trailingNorm("layer_norm"),
  RMSNormalization: trailingNorm("rms_norm"),
  LRN: lrn,
  MeanVarianceNormalization: meanVarianceNormalization,
  LpNormalization: lpNormalization,
};
