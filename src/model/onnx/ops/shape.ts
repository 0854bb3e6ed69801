import type { OnnxArray } from "../../../io/onnx/model.js";
import type { Importers, NodeContext } from "../context.js";
import { castArray } from "../fold/cast.js";
import {
  channelsLastPerm,
  constantOperand,
  elementCount,
  emptyOperand,
  isFloat,
  type Operand,
  sameDims,
  type ValueOperand,
  valueOperand,
} from "../operand.js";
import { isWhole, wholeOperand } from "../whole.js";

function int64(values: readonly number[], dims: readonly number[]): OnnxArray {
  return { dtype: "int64", dims, data: BigInt64Array.from(values, BigInt) };
}

/** The operand with other sizes and the same numbers in the same order. */
export function reshaped(node: NodeContext, input: Operand, dims: readonly number[]): Operand {
  if (elementCount(dims) !== elementCount(input.dims)) {
    node.refuse(`(${input.dims.join(", ")}) as (${dims.join(", ")})`);
  }
  if (sameDims(dims, input.dims)) return input;
  if (elementCount(dims) === 0) return emptyOperand(input.dtype, dims);
  if (input.kind === "constant") return constantOperand({ ...input.array, dims });
  if (input.kind === "parameter" && !input.transposed) return { ...input, dims };
  const flat = flattened(node, input, dims);
  if (flat !== undefined) return flat;
  const layout = node.layoutOf(input);
  if (layout === "unbatched" && dims[0] === 1 && dims.length > 1) {
    const made = node.graph.reshape(node.label, node.unbatched(input), dims.slice(1));
    return node.result(made, dims, input.dtype, "unbatched");
  }
  return node.result(node.graph.reshape(node.label, node.plain(input), dims), dims, input.dtype);
}

/** An image in channels-last that becomes a vector: the engine's own op keeps the way back short. */
function flattened(
  node: NodeContext,
  input: Operand,
  dims: readonly number[],
): ValueOperand | undefined {
  const isVector = dims.length === 2 && dims[0] === 1;
  const isImage = input.dims.length === 4 && input.dims[0] === 1;
  if (!isVector || !isImage || input.kind !== "value") return undefined;
  if (input.forms.has("plain") || !input.forms.has("channelsLast")) return undefined;
  const image = node.channelsLast(input);
  const isPoint = image.shape[0] === 1 && image.shape[1] === 1;
  const made = isPoint
    ? node.graph.reshape(node.label, image, dims.slice(1))
    : node.emit("flatten", [image], dims.slice(1));
  return node.result(made, dims, input.dtype, "unbatched");
}

function reshape(node: NodeContext): Operand {
  const input = node.input(0);
  const wanted =
    node.opset < 5
      ? (node.ints("shape") ?? node.refuse("no attribute shape"))
      : node.integers(node.input(1), "shape");
  const copiesZero = node.int("allowzero", 0) === 0;
  const dims = wanted.map((size, i) => {
    if (size !== 0 || !copiesZero) return size;
    return input.dims[i] ?? node.refuse(`a 0 in the shape beyond rank ${input.dims.length}`);
  });
  const hidden = dims.indexOf(-1);
  if (dims.some((size) => size < -1) || hidden !== dims.lastIndexOf(-1)) {
    node.refuse(`the shape (${wanted.join(", ")})`);
  }
  if (hidden === -1) return reshaped(node, input, dims);
  const rest = elementCount(dims.filter((size) => size !== -1));
  const size = elementCount(input.dims) / rest;
  if (!Number.isInteger(size)) {
    node.refuse(`(${input.dims.join(", ")}) as (${wanted.join(", ")})`);
  }
  return reshaped(node, input, dims.with(hidden, size));
}

function flatten(node: NodeContext): Operand {
  const input = node.input(0);
  const rank = input.dims.length;
  const given = node.int("axis", 1);
  const axis = given === rank ? rank : given < 0 ? given + rank : given;
  if (axis < 0 || axis > rank) node.refuse(`axis ${given} of a tensor of rank ${rank}`);
  const rows = elementCount(input.dims.slice(0, axis));
  return reshaped(node, input, [rows, elementCount(input.dims.slice(axis))]);
}

/** The axes from the attribute (before opset 13) or the second input. */
function axesOf(node: NodeContext): readonly number[] | undefined {
  const operand = node.optional(1);
  return operand === undefined ? node.ints("axes") : node.integers(operand, "axes");
}

function squeeze(node: NodeContext): Operand {
  const { dims } = node.input(0);
  const axes = axesOf(node)?.map((axis) => node.axis(axis, dims.length));
  if (axes?.some((axis) => dims[axis] !== 1)) node.refuse(`axes ${axes} of (${dims.join(", ")})`);
  const left = dims.filter((size, axis) =>
    axes === undefined ? size !== 1 : !axes.includes(axis),
  );
  return reshaped(node, node.input(0), left);
}

function unsqueeze(node: NodeContext): Operand {
  const { dims } = node.input(0);
  const given = axesOf(node) ?? node.refuse("no axes");
  const rank = dims.length + given.length;
  const axes = given.map((axis) => node.axis(axis, rank));
  if (new Set(axes).size !== axes.length) node.refuse(`axes ${given}`);
  const rest = [...dims];
  const out = Array.from({ length: rank }, (_, axis) =>
    axes.includes(axis) ? 1 : (rest.shift() as number),
  );
  return reshaped(node, node.input(0), out);
}

function transpose(node: NodeContext): Operand {
  const input = node.input(0);
  const rank = input.dims.length;
  const perm = node.ints("perm") ?? input.dims.map((_, i) => rank - 1 - i);
  if (perm.toSorted((a, b) => a - b).some((axis, i) => axis !== i) || perm.length !== rank) {
    node.refuse(`perm [${perm.join(", ")}] for rank ${rank}`);
  }
  const dims = perm.map((axis) => input.dims[axis] as number);
  if (perm.every((axis, i) => axis === i)) return input;
  if (input.kind === "parameter" && rank === 2) {
    return { ...input, dims, transposed: !input.transposed };
  }
  if (elementCount(dims) === 0) return emptyOperand(input.dtype, dims);
  const free = relabelled(input, perm, dims);
  if (free !== undefined) return free;
  const layout = perm[0] === 0 && node.layoutOf(input) === "unbatched" ? "unbatched" : "plain";
  const order = layout === "plain" ? perm : perm.slice(1).map((axis) => axis - 1);
  const made = node.graph.transpose(node.label, node.form(input, layout), order);
  return node.result(made, dims, input.dtype, layout);
}

/** Between (N, C, …) and (N, …, C) the engine's value often stands in the wanted order already. */
function relabelled(
  input: Operand,
  perm: readonly number[],
  dims: readonly number[],
): ValueOperand | undefined {
  if (input.kind !== "value" || perm.length < 3) return undefined;
  const toLast = channelsLastPerm(perm.length);
  const toFirst = toLast.map((_, axis) => toLast.indexOf(axis));
  const batched = input.dims[0] !== 1;
  const layout = batched ? "plain" : "unbatched";
  if (sameDims(perm, toLast)) {
    const value = input.forms.get("channelsLast");
    return value && valueOperand(layout, value, dims, input.dtype);
  }
  const value = sameDims(perm, toFirst) ? input.forms.get(layout) : undefined;
  return value && valueOperand("channelsLast", value, dims, input.dtype);
}

function shape(node: NodeContext): Operand {
  const { dims } = node.input(0);
  const clamp = (place: number): number =>
    Math.min(Math.max(place < 0 ? place + dims.length : place, 0), dims.length);
  const sizes = dims.slice(clamp(node.int("start", 0)), clamp(node.int("end", dims.length)));
  return constantOperand(int64(sizes, [sizes.length]));
}

function size(node: NodeContext): Operand {
  return constantOperand(int64([elementCount(node.input(0).dims)], []));
}

function constant(node: NodeContext): Operand {
  const { attributes } = node.node;
  if (node.has("value")) {
    return constantOperand(node.tensor("value") ?? node.refuse("a tensor that is not of numbers"));
  }
  if (node.has("value_float")) {
    const data = Float32Array.of(node.float("value_float"));
    return constantOperand({ dtype: "float", dims: [], data });
  }
  const floats = node.floats("value_floats");
  if (floats !== undefined) {
    return constantOperand({
      dtype: "float",
      dims: [floats.length],
      data: Float32Array.from(floats),
    });
  }
  if (node.has("value_int")) return constantOperand(int64([node.int("value_int")], []));
  const ints = node.ints("value_ints");
  if (ints !== undefined) return constantOperand(int64(ints, [ints.length]));
  return node.refuse(`a constant of ${[...attributes.keys()].join(", ") || "nothing"}`);
}

/** A run-time value in another type: of floats only the name changes, the engine has one real type. */
function converted(node: NodeContext, input: Operand, dtype: Operand["dtype"]): Operand {
  if (dtype === input.dtype) return input;
  if (input.kind === "constant") {
    return constantOperand(castArray(input.array, dtype) ?? node.refuse(`a constant as ${dtype}`));
  }
  if (input.kind === "parameter" && isFloat(dtype) && holds(dtype, input.dtype)) {
    return { ...input, dtype };
  }
  const ids = !isFloat(input.dtype) && input.dtype !== "bool";
  if (isWhole(input) && (dtype === "float" || dtype === "double")) {
    return { ...input, dtype, largest: undefined };
  }
  if (ids && input.kind === "value" && (dtype === "int32" || dtype === "int64")) {
    return { ...input, dtype };
  }
  if (ids && !(isWhole(input) && dtype === "bool")) return node.refuse(`ids as ${dtype}`);
  if (dtype === "bool") {
    const zero = node.unary("not", input, {}, "bool");
    return node.unary("not", zero, {}, "bool");
  }
  if (input.dtype === "bool" && input.kind === "value" && !isFloat(dtype)) {
    return wholeOperand(input, dtype, 1);
  }
  if (!isFloat(dtype)) return truncated(node, input, dtype);
  if (!holds(dtype, input.dtype) && !node.final) {
    return node.refuse(`rounding a run-time value to ${dtype}`);
  }
  const layout = node.layoutOf(input);
  return node.result(node.form(input, layout), input.dims, dtype, layout);
}

/** Towards zero, as a cast to an integer type does. */
function truncated(node: NodeContext, input: Operand, dtype: Operand["dtype"]): Operand {
  const { graph, label } = node;
  const value = node.plain(input);
  const size = graph.unary(label, "floor", graph.unary(label, "abs", value));
  const made = graph.binary(label, "mul", graph.unary(label, "sign", value), size);
  return node.wholeResult(made, input.dims, dtype);
}

/** Whether every number of the second type is one of the first. */
function holds(dtype: Operand["dtype"], other: Operand["dtype"]): boolean {
  if (other === "bool" || dtype === "double" || dtype === other) return true;
  return dtype === "float" && other !== "double";
}

// TensorProto.DataType. Source: onnx/onnx.proto.
const kCastTypes: Readonly<Record<number, Operand["dtype"]>> = {
  1: "float",
  2: "uint8",
  3: "int8",
  4: "uint16",
  5: "int16",
  6: "int32",
  7: "int64",
  9: "bool",
  10: "float16",
  11: "double",
  12: "uint32",
  13: "uint64",
  16: "bfloat16",
};
const kOldCastTypes: Readonly<Record<string, Operand["dtype"]>> = {
  FLOAT: "float",
  INT32: "int32",
  INT64: "int64",
  BOOL: "bool",
  FLOAT16: "float16",
  DOUBLE: "double",
};

function cast(node: NodeContext): Operand {
  const to = node.opset < 6 ? node.string("to") : String(node.int("to"));
  const dtype = kCastTypes[Number(to)] ?? kOldCastTypes[to.toUpperCase()];
  return converted(node, node.input(0), dtype ?? node.refuse(`the type ${to}`));
}

function castLike(node: NodeContext): Operand {
  return converted(node, node.input(0), node.input(1).dtype);
}

function dropout(node: NodeContext): readonly Operand[] {
  const input = node.input(0);
  const given = node.optional(1);
  const rate =
    node.opset < 12
      ? node.float("ratio", 0.5)
      : given === undefined
        ? 0.5
        : node.scalar(given, "ratio");
  const flag = node.optional(2);
  const training =
    (flag !== undefined && node.scalar(flag, "training_mode") !== 0) ||
    (node.opset < 7 && node.int("is_test", 0) === 0);
  if (training && rate !== 0) node.refuse("training mode");
  const kept = new Uint8Array(node.wantsOutput(1) ? elementCount(input.dims) : 0).fill(1);
  const isMask = node.opset >= 10;
  if (node.wantsOutput(1) && !isMask) node.refuse("a mask that is not boolean");
  const mask = constantOperand({ dtype: "bool", dims: input.dims, data: kept });
  if (input.kind !== "value" || rate <= 0 || rate >= 1) return [input, mask];
  return [node.unary("dropout", input, { rate }), mask];
}

export const importers: Importers = {
  Identity: (node) => node.input(0),
  Reshape: reshape,
  Flatten: flatten,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Transpose: transpose,
  Shape: shape,
  Size: size,
  Constant: constant,
  Cast: cast,
  CastLike: castLike,
  Dropout: dropout,
};
