import type { Importers, NodeContext } from "../context.js";
import type { EngineValue } from "../engine-graph.js";
import {
  broadcastDims,
  elementCount,
  isFloat,
  type Layout,
  type Operand,
  sameDims,
  type ValueOperand,
} from "../operand.js";

function checkFloat(node: NodeContext, ...operands: readonly Operand[]): void {
  for (const { dtype } of operands) {
    if (!isFloat(dtype)) node.refuse(`an operand of type ${dtype}`);
  }
}

/** A single row is a sample's vector: op `linear` is at its best without the 1 in front. */
function rowLayout(node: NodeContext, operand: Operand): Layout {
  const { dims } = operand;
  const vector = dims.length === 2 && dims[0] === 1;
  return vector || (dims[0] === 1 && node.layoutOf(operand) === "unbatched")
    ? "unbatched"
    : "plain";
}

/** Through op `linear`, where the weight is a parameter; undefined where it is in use in another order. */
function linear(
  node: NodeContext,
  input: Operand,
  weight: Operand,
  options: { readonly transposed: boolean; readonly bias?: Operand | undefined },
): ValueOperand | undefined {
  const { transposed, bias } = options;
  if (weight.kind === "value" || weight.dims.length !== 2) return undefined;
  const [rows = 0, columns = 0] = weight.dims;
  const [inner, out] = transposed ? [rows, columns] : [columns, rows];
  if (input.dims.at(-1) !== inner) {
    node.refuse(`(${input.dims.join(", ")}) with a weight for ${inner} numbers`);
  }
  const name = node.tryParameter(weight, "weight", { transposed });
  if (name === undefined) return undefined;
  const slot = bias === undefined ? undefined : biasSlot(node, bias, out);
  const layout = input.dims.length < 2 ? "plain" : rowLayout(node, input);
  const value = node.form(input, layout);
  const made = node.emit("linear", [value], [...value.shape.slice(0, -1), out], {
    parameters: { weight: name, ...(slot === undefined ? {} : { bias: slot }) },
  });
  const result = node.result(made, [...input.dims.slice(0, -1), out], input.dtype, layout);
  return bias === undefined || slot !== undefined ? result : addTo(node, result, bias);
}

function biasSlot(node: NodeContext, bias: Operand, out: number): string | undefined {
  const isVector = bias.kind !== "value" && bias.dims.at(-1) === out;
  if (!isVector || elementCount(bias.dims) !== out) return undefined;
  return node.tryParameter(bias, "bias", { shape: [out] });
}

function addTo(node: NodeContext, value: ValueOperand, other: Operand): ValueOperand {
  const aligned = node.align([value, other]);
  if (!sameDims(aligned.dims, value.dims)) {
    node.refuse(`adding (${other.dims.join(", ")}) to (${value.dims.join(", ")})`);
  }
  const [a, b] = aligned.values as [EngineValue, EngineValue];
  return aligned.finish(node.graph.binary(node.label, "binary_add", a, b), value.dtype);
}

function scaled(node: NodeContext, value: ValueOperand, scale: number): ValueOperand {
  return scale === 1 ? value : node.unary("affine", value, { scale, shift: 0 });
}

function gemm(node: NodeContext): Operand {
  const [a, b] = [node.input(0), node.input(1)];
  const c = node.optional(2);
  checkFloat(node, a, b, ...(c === undefined ? [] : [c]));
  if (a.dims.length !== 2 || b.dims.length !== 2) {
    node.refuse(`operands of rank ${a.dims.length} and ${b.dims.length}`);
  }
  const alpha = node.float("alpha", 1);
  const beta = node.float("beta", 1);
  const transA = node.int("transA", 0) !== 0;
  const transB = node.int("transB", 0) !== 0;
  const direct = alpha === 1 && beta === 1 ? c : undefined;
  const product =
    (transA ? undefined : linear(node, a, b, { transposed: !transB, bias: direct })) ??
    addOptional(node, matrixProduct(node, a, b, transA, transB), direct);
  if (direct !== undefined || (alpha === 1 && c === undefined)) return product;
  const whole = scaled(node, product, alpha);
  if (c === undefined || beta === 0) return whole;
  const shift = node.graph.affine(node.label, node.plain(c), beta);
  return addTo(node, whole, node.result(shift, c.dims, c.dtype));
}

function addOptional(
  node: NodeContext,
  value: ValueOperand,
  other: Operand | undefined,
): ValueOperand {
  return other === undefined ? value : addTo(node, value, other);
}

function matrixProduct(
  node: NodeContext,
  a: Operand,
  b: Operand,
  transA: boolean,
  transB: boolean,
): ValueOperand {
  const [rows, inner] = transA ? a.dims.toReversed() : a.dims;
  const [other, columns] = transB ? b.dims.toReversed() : b.dims;
  if (inner !== other) node.refuse(`(${a.dims.join(", ")}) times (${b.dims.join(", ")})`);
  const dims = [rows as number, columns as number];
  const made = node.emit("matmul", [node.plain(a, "weight"), node.plain(b, "weight")], dims, {
    attributes: { transpose_a: transA, transpose_b: transB },
  });
  return node.result(made, dims, a.dtype);
}

function matMul(node: NodeContext): Operand {
  const [a, b] = [node.input(0), node.input(1)];
  checkFloat(node, a, b);
  if (a.dims.length < 1 || b.dims.length < 1) node.refuse("a scalar operand");
  const product = linear(node, a, b, { transposed: true });
  if (product !== undefined) return product;
  return general(node, a, b);
}

/** Of (1, …, M, K) and (1, …, K, N) without the 1, where a factor stands so already: attention on one sample. */
function unbatchedProduct(node: NodeContext, a: Operand, b: Operand): ValueOperand | undefined {
  const both = [a, b];
  const is = both.every(({ dims }) => dims.length === a.dims.length && dims[0] === 1);
  if (!is || a.dims.length < 3) return undefined;
  if (!both.some((operand) => node.layoutOf(operand) === "unbatched")) return undefined;
  const [x, y] = [node.unbatched(a), node.unbatched(b)];
  const leading = broadcastDims(x.shape.slice(0, -2), y.shape.slice(0, -2));
  if (leading === undefined || x.shape.at(-1) !== y.shape.at(-2)) return undefined;
  const shape = [...leading, x.shape.at(-2) as number, y.shape.at(-1) as number];
  const made = node.emit("matmul", [x, y], shape, {
    attributes: { transpose_a: false, transpose_b: false },
  });
  return node.result(made, [1, ...shape], a.dtype, "unbatched");
}

/** NumPy's matmul: vectors become matrices for the time being. */
function general(node: NodeContext, a: Operand, b: Operand): ValueOperand {
  const single = unbatchedProduct(node, a, b);
  if (single !== undefined) return single;
  const { graph, label } = node;
  const left = a.dims.length === 1 ? [1, ...a.dims] : a.dims;
  const right = b.dims.length === 1 ? [...b.dims, 1] : b.dims;
  const leading = broadcastDims(left.slice(0, -2), right.slice(0, -2));
  if (leading === undefined || left.at(-1) !== right.at(-2)) {
    return node.refuse(`(${a.dims.join(", ")}) times (${b.dims.join(", ")})`);
  }
  const x = graph.reshape(label, node.plain(a, "weight"), left);
  const y = graph.reshape(label, node.plain(b, "weight"), right);
  const shape = [...leading, left.at(-2) as number, right.at(-1) as number];
  const made = node.emit("matmul", [x, y], shape, {
    attributes: { transpose_a: false, transpose_b: false },
  });
  const dims = [
    ...leading,
    ...(a.dims.length === 1 ? [] : [left.at(-2) as number]),
    ...(b.dims.length === 1 ? [] : [right.at(-1) as number]),
  ];
  return node.result(graph.reshape(label, made, dims), dims, a.dtype);
}

export const importers: Importers = { Gemm: gemm, MatMul: matMul };
