import type { Importers, NodeContext } from "../context.js";
import type { EngineValue } from "../engine-graph.js";
import { isFloat, type Operand, type ValueOperand } from "../operand.js";
import { padding2d, pair, type Window, windowOf } from "../window.js";

interface ConvParts {
  readonly input: Operand;
  readonly weight: Operand;
  readonly spatial: readonly number[];
  readonly kernel: readonly number[];
  readonly groups: number;
}

function convParts(node: NodeContext): ConvParts {
  const input = node.input(0);
  const weight = node.input(1);
  const spatial = input.dims.slice(2);
  const kernel = weight.dims.slice(2);
  const stated = node.ints("kernel_shape");
  if (!isFloat(input.dtype)) node.refuse(`an input of type ${input.dtype}`);
  if (spatial.length < 1 || kernel.length !== spatial.length) {
    node.refuse(`an input (${input.dims.join(", ")}) with a weight (${weight.dims.join(", ")})`);
  }
  if (stated !== undefined && stated.join() !== kernel.join()) {
    node.refuse(`kernel_shape [${stated.join(", ")}] for a weight of [${kernel.join(", ")}]`);
  }
  const groups = node.int("group", 1);
  if (groups < 1 || (weight.dims[0] as number) % groups !== 0) node.refuse(`group ${groups}`);
  return { input, weight, spatial, kernel, groups };
}

/** Slots of a convolution: the weight in this shape, and the bias where there is one. */
function convSlots(
  node: NodeContext,
  weight: Operand,
  shape: readonly number[],
): Record<string, string> {
  const bias = node.optional(2);
  return {
    weight: node.parameter(weight, "weight", "weight", { shape }),
    ...(bias === undefined ? {} : { bias: node.parameter(bias, "bias", "bias") }),
  };
}

/** Sizes of the weight with a height where it is a line's. */
function flatKernel(dims: readonly number[]): readonly number[] {
  const [first = 1, second = 1, ...kernel] = dims;
  return [first, second, ...(kernel.length === 1 ? [1] : []), ...kernel];
}

function conv(node: NodeContext): Operand {
  const parts = convParts(node);
  const { input, weight, spatial, kernel, groups } = parts;
  const [count = 0, channels = 0] = input.dims;
  if (channels !== (weight.dims[1] as number) * groups) {
    node.refuse(`${channels} channels for a weight (${weight.dims.join(", ")}), group ${groups}`);
  }
  const window = windowOf(node, spatial, kernel);
  const dims = [count, weight.dims[0] as number, ...window.out];
  if (spatial.length === 3) return conv3d(node, parts, window, dims);
  if (spatial.length > 3) node.refuse(`${spatial.length} spatial axes`);
  const parameters = convSlots(node, weight, flatKernel(weight.dims));
  const attributes = {
    stride: [...pair(window.stride, 1)],
    padding: [...padding2d(window.before, window.after)],
    dilation: [...pair(window.dilation, 1)],
    groups,
  };
  const shape = [...pair(window.out, 1), dims[1] as number];
  const made = node
    .images(input)
    .map((image) => node.emit("conv2d", [image], shape, { parameters, attributes }));
  return node.fromImages(made, dims, input.dtype);
}

/**
 * A convolution over depth is one over images whose channels are (C, K_d): the weight's numbers stand in that order already.
 */
function conv3d(
  node: NodeContext,
  { input, weight, groups }: ConvParts,
  window: Window,
  dims: readonly number[],
): ValueOperand {
  const [outputs = 0, perGroup = 0, depth = 0, ...flat] = weight.dims;
  const parameters = convSlots(node, weight, [outputs, perGroup * depth, ...flat]);
  const attributes = {
    stride: window.stride.slice(1),
    padding: [...padding2d(window.before.slice(1), window.after.slice(1))],
    dilation: window.dilation.slice(1),
    groups,
  };
  const shape = [...window.out.slice(1), outputs];
  return node.perItem(input, dims, (item) => {
    const padded = padDepth(node, item, window);
    const slices = Array.from({ length: window.out[0] as number }, (_, i) => {
      const image = depthAsChannels(node, padded, i * (window.stride[0] as number), window);
      const made = node.emit("conv2d", [image], shape, { parameters, attributes });
      return node.graph.reshape(node.label, made, [1, ...shape]);
    });
    return node.graph.concat(node.label, slices, 0);
  });
}

function padDepth(node: NodeContext, item: EngineValue, window: Window): EngineValue {
  const before = window.before[0] as number;
  const after = window.after[0] as number;
  if (before + after === 0) return item;
  const shape = item.shape.with(0, (item.shape[0] as number) + before + after);
  return node.emit("pad", [item], shape, {
    attributes: { before: [before, 0, 0, 0], after: [after, 0, 0, 0], value: 0 },
  });
}

/** (D, H, W, C) → (H, W, C·K_d) of the window that begins at this depth. */
function depthAsChannels(
  node: NodeContext,
  item: EngineValue,
  start: number,
  window: Window,
): EngineValue {
  const [, height = 0, width = 0, channels = 0] = item.shape;
  const depth = window.kernel[0] as number;
  const seen = node.graph.slice(
    node.label,
    item,
    [start, 0, 0, 0],
    [depth, height, width, channels],
    [window.dilation[0] as number, 1, 1, 1],
  );
  const turned = node.graph.transpose(node.label, seen, [1, 2, 3, 0]);
  return node.graph.reshape(node.label, turned, [height, width, channels * depth]);
}

interface TransposeWindow {
  readonly before: readonly number[];
  readonly after: readonly number[];
  readonly stride: readonly number[];
  readonly dilation: readonly number[];
  readonly extra: readonly number[];
  readonly out: readonly number[];
}

function list(
  node: NodeContext,
  name: string,
  length: number,
  fallback: number,
): readonly number[] {
  const values = node.ints(name) ?? Array.from({ length }, () => fallback);
  if (values.length !== length || values.some((value) => value < 0)) {
    node.refuse(`${name} [${values.join(", ")}] for ${length / Math.ceil(length / 2)} axes`);
  }
  return values;
}

/** Source: ONNX, ConvTranspose: output_shape (or auto_pad SAME) sets the padding, else the padding the output. */
function transposeWindow(
  node: NodeContext,
  spatial: readonly number[],
  kernel: readonly number[],
): TransposeWindow {
  const rank = spatial.length;
  const stride = list(node, "strides", rank, 1);
  const dilation = list(node, "dilations", rank, 1);
  const extra = list(node, "output_padding", rank, 0);
  const pads = list(node, "pads", 2 * rank, 0);
  const mode = node.string("auto_pad", "NOTSET");
  const same = mode === "SAME_UPPER" || mode === "SAME_LOWER";
  if (!same && mode !== "NOTSET" && mode !== "VALID") node.refuse(`auto_pad ${mode}`);
  const stated = node.ints("output_shape")?.slice(-rank);
  const wanted =
    stated ?? (same ? spatial.map((size, i) => size * (stride[i] as number)) : undefined);
  const full = spatial.map((size, i) => {
    const reach = ((kernel[i] as number) - 1) * (dilation[i] as number) + 1;
    return (size - 1) * (stride[i] as number) + reach + (extra[i] as number);
  });
  if (wanted === undefined) {
    const [before, after] =
      mode === "VALID"
        ? [pads.map(() => 0), pads.map(() => 0)]
        : [pads.slice(0, rank), pads.slice(rank)];
    const out = full.map((size, i) => size - (before[i] as number) - (after[i] as number));
    return {
      before: before.slice(0, rank),
      after: after.slice(0, rank),
      stride,
      dilation,
      extra,
      out,
    };
  }
  const missing = full.map((size, i) => Math.max(0, (wanted[i] as number) - size));
  const padded = extra.map((size, i) => size + (missing[i] as number));
  const total = full.map((size, i) => size + (missing[i] as number) - (wanted[i] as number));
  const half = total.map((padding) => Math.floor(padding / 2));
  const rest = total.map((padding, i) => padding - (half[i] as number));
  const [before, after] = mode === "SAME_UPPER" ? [half, rest] : [rest, half];
  return { before, after, stride, dilation, extra: padded, out: wanted };
}

function convTranspose(node: NodeContext): Operand {
  const parts = convParts(node);
  const { input, weight, spatial, kernel, groups } = parts;
  if (spatial.length > 3) node.refuse(`${spatial.length} spatial axes`);
  const [count = 0, channels = 0] = input.dims;
  if (channels !== weight.dims[0]) {
    node.refuse(`${channels} channels for a weight (${weight.dims.join(", ")})`);
  }
  const window = transposeWindow(node, spatial, kernel);
  if (window.out.some((size) => size < 1)) node.refuse("an empty output");
  const step = window.stride.map((size, i) => Math.max(size, window.dilation[i] as number));
  if (window.extra.some((size, i) => size >= (step[i] as number))) {
    node.refuse(`an output padding of [${window.extra.join(", ")}]`);
  }
  const dims = [count, (weight.dims[1] as number) * groups, ...window.out];
  if (spatial.length === 3) return convTranspose3d(node, parts, window, dims);
  const parameters = convSlots(node, weight, flatKernel(weight.dims));
  const attributes = {
    stride: [...pair(window.stride, 1)],
    padding: [...padding2d(window.before, window.after)],
    output_padding: [...pair(window.extra, 0)],
    dilation: [...pair(window.dilation, 1)],
    groups,
  };
  const shape = [...pair(window.out, 1), dims[1] as number];
  const made = node
    .images(input)
    .map((image) => node.emit("conv_transpose2d", [image], shape, { parameters, attributes }));
  return node.fromImages(made, dims, input.dtype);
}

/**
 * Over depth: every slice is spread over images whose channels are (O, K_d), which is the order of the weight's numbers, and
 * those images are added up where they meet.
 */
function convTranspose3d(
  node: NodeContext,
  { input, weight, groups }: ConvParts,
  window: TransposeWindow,
  dims: readonly number[],
): ValueOperand {
  const { graph, label } = node;
  const [channels = 0, perGroup = 0, depth = 0, ...flat] = weight.dims;
  const slot = node.parameter(weight, "weight", "weight", {
    shape: [channels, perGroup * depth, ...flat],
  });
  const outputs = perGroup * groups;
  const [, rows = 0, columns = 0] = window.out;
  const attributes = {
    stride: window.stride.slice(1),
    padding: [...padding2d(window.before.slice(1), window.after.slice(1))],
    output_padding: window.extra.slice(1),
    dilation: window.dilation.slice(1),
    groups,
  };
  const bias = node.optional(2);
  const shift = bias === undefined ? undefined : node.plain(bias, "bias");
  return node.perItem(input, dims, (item) => {
    const spread = Array.from({ length: item.shape[0] as number }, (_, i) => {
      const one = graph.narrow(label, item, 0, i, 1);
      const image = graph.reshape(label, one, item.shape.slice(1));
      const made = node.emit("conv_transpose2d", [image], [rows, columns, outputs * depth], {
        parameters: { weight: slot },
        attributes,
      });
      const split = graph.reshape(label, made, [rows, columns, outputs, depth]);
      return graph.transpose(label, split, [3, 0, 1, 2]);
    });
    const sum = graph.resample(
      label,
      graph.concat(label, spread, 0),
      0,
      meetings(window, item, depth),
    );
    return shift === undefined ? sum : graph.binary(label, "binary_add", sum, shift);
  });
}

/** For each depth of the result, the (slice, kernel place) pairs that reach it. */
function meetings(
  window: TransposeWindow,
  item: EngineValue,
  depth: number,
): readonly { readonly index: readonly number[]; readonly weight: readonly number[] }[] {
  const reached = Array.from({ length: window.out[0] as number }, (): number[] => []);
  for (let slice = 0; slice < (item.shape[0] as number); slice++) {
    for (let place = 0; place < depth; place++) {
      const at = slice * (window.stride[0] as number) + place * (window.dilation[0] as number);
      reached[at - (window.before[0] as number)]?.push(slice * depth + place);
    }
  }
  return reached.map((index) => ({ index, weight: index.map(() => 1) }));
}

export const importers: Importers = { Conv: conv, ConvTranspose: convTranspose };
