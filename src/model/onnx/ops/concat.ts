import type { Importers, NodeContext } from "../context.js";
import {
  elementCount,
  emptyOperand,
  isFloat,
  type Layout,
  layoutAxis,
  type Operand,
  sameDims,
} from "../operand.js";

function checkReal(node: NodeContext, operand: Operand): void {
  if (!isFloat(operand.dtype) && operand.dtype !== "bool") {
    node.refuse(`run-time values of type ${operand.dtype}`);
  }
}

function concat(node: NodeContext): Operand {
  const all = node.inputs.map((_, i) => node.input(i));
  const first = all[0] ?? node.refuse("no inputs");
  const axis = node.axis(
    node.opset < 4 ? node.int("axis", 1) : node.int("axis"),
    first.dims.length,
  );
  for (const operand of all) {
    checkReal(node, operand);
    const rest = operand.dims.with(axis, 0);
    if (!sameDims(rest, first.dims.with(axis, 0)) || operand.dtype !== first.dtype) {
      node.refuse(`(${operand.dims.join(", ")}) beside (${first.dims.join(", ")})`);
    }
  }
  const size = all.reduce((sum, { dims }) => sum + (dims[axis] as number), 0);
  const dims = first.dims.with(axis, size);
  const parts = all.filter((operand) => elementCount(operand.dims) > 0);
  if (parts.length === 0) return emptyOperand(first.dtype, dims);
  if (parts.length === 1) return parts[0] as Operand;
  const { layout, place } = axisLayout(node.commonLayout(parts, dims), dims, axis);
  const values = parts.map((operand) => node.form(operand, layout));
  return node.result(node.graph.concat(node.label, values, place), dims, first.dtype, layout);
}

/** The layout, or plain where the axis has no place in it. */
function axisLayout(
  layout: Layout,
  dims: readonly number[],
  axis: number,
): { readonly layout: Layout; readonly place: number } {
  const place = axis === 0 ? undefined : layoutAxis(layout, dims, axis);
  return place === undefined ? { layout: "plain", place: axis } : { layout, place };
}

/** Sizes of the parts. */
function splitSizes(node: NodeContext, size: number): readonly number[] {
  const operand = node.optional(1);
  const stated = operand === undefined ? node.ints("split") : node.integers(operand, "split");
  if (stated !== undefined) {
    const sum = stated.reduce((a, b) => a + b, 0);
    if (sum !== size || stated.some((part) => part < 0) || stated.length !== node.outputCount) {
      node.refuse(`split [${stated.join(", ")}] of ${size}`);
    }
    return stated;
  }
  const count = node.has("num_outputs") ? node.int("num_outputs") : node.outputCount;
  if (count < 1 || count !== node.outputCount) node.refuse(`${count} parts`);
  // Only num_outputs lets the last part be a smaller one.
  if (!node.has("num_outputs") && size % count !== 0) node.refuse(`${size} in ${count} parts`);
  const part = Math.ceil(size / count);
  const last = size - part * (count - 1);
  if (last < 0) node.refuse(`${size} in ${count} parts`);
  return Array.from({ length: count }, (_, i) => (i === count - 1 ? last : part));
}

function split(node: NodeContext): readonly Operand[] {
  const input = node.input(0);
  checkReal(node, input);
  const axis = node.axis(node.int("axis", 0), input.dims.length);
  const { layout, place } = axisLayout(node.layoutOf(input), input.dims, axis);
  let start = 0;
  return splitSizes(node, input.dims[axis] as number).map((size) => {
    const dims = input.dims.with(axis, size);
    if (elementCount(dims) === 0) return emptyOperand(input.dtype, dims);
    const part = node.graph.narrow(node.label, node.form(input, layout), place, start, size);
    start += size;
    return node.result(part, dims, input.dtype, layout);
  });
}

interface Cut {
  readonly start: number;
  readonly step: number;
  readonly size: number;
}

/** Source: ONNX, Slice-13: ends beyond the tensor are cut off. */
function cut(node: NodeContext, size: number, start: number, end: number, step: number): Cut {
  if (step === 0) node.refuse("a step of 0");
  const clamp = (place: number, low: number, high: number): number =>
    Math.min(Math.max(place < 0 ? place + size : place, low), high);
  const first = step > 0 ? clamp(start, 0, size) : clamp(start, 0, size - 1);
  const last = step > 0 ? clamp(end, 0, size) : clamp(end, -1, size - 1);
  return { start: first, step, size: Math.max(0, Math.ceil((last - first) / step)) };
}

function slice(node: NodeContext): Operand {
  const input = node.input(0);
  checkReal(node, input);
  const { dims } = input;
  const list = (i: number, name: string): readonly number[] | undefined => {
    const operand = node.opset < 10 ? undefined : node.optional(i);
    return operand === undefined ? undefined : node.integers(operand, name);
  };
  const old = node.opset < 10;
  const starts = (old ? node.ints("starts") : list(1, "starts")) ?? node.refuse("no starts");
  const ends = (old ? node.ints("ends") : list(2, "ends")) ?? node.refuse("no ends");
  const given = (old ? node.ints("axes") : list(3, "axes")) ?? starts.map((_, i) => i);
  const axes = given.map((axis) => node.axis(axis, dims.length));
  const steps = list(4, "steps") ?? starts.map(() => 1);
  if ([ends, axes, steps].some(({ length }) => length !== starts.length)) {
    node.refuse("starts, ends, axes and steps of different lengths");
  }
  const cuts = dims.map((size, axis): Cut => {
    const i = axes.indexOf(axis);
    if (i === -1) return { start: 0, step: 1, size };
    return cut(node, size, starts[i] as number, ends[i] as number, steps[i] as number);
  });
  return sliced(node, input, cuts);
}

function sliced(node: NodeContext, input: Operand, cuts: readonly Cut[]): Operand {
  const dims = cuts.map(({ size }) => size);
  if (sameDims(dims, input.dims) && cuts.every(({ step }) => step === 1)) return input;
  if (elementCount(dims) === 0) return emptyOperand(input.dtype, dims);
  // A cut through the batch changes which sizes a layout leaves out.
  const layout = dims[0] === input.dims[0] ? node.layoutOf(input) : "plain";
  const value = node.form(input, layout);
  const order: Cut[] = value.shape.map(() => ({ start: 0, step: 1, size: 1 }));
  cuts.forEach((each, axis) => {
    const place = layoutAxis(layout, input.dims, axis);
    if (place !== undefined) order[place] = each;
  });
  const made = node.graph.slice(
    node.label,
    value,
    order.map(({ start }) => start),
    order.map(({ size }) => size),
    order.map(({ step }) => step),
  );
  return node.result(made, dims, input.dtype, layout);
}

export const importers: Importers = { Concat: concat, Split: split, Slice: slice };
