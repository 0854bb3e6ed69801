import type { Importers, NodeContext, NodeImporter } from "../context.js";
import type { EngineValue } from "../engine-graph.js";
import { namedImporters } from "../naming.js";
import { elementCount, isFloat, type Operand, sameDims } from "../operand.js";

/** y = 1 at the first largest value along the axis, else 0. Opsets before 13 take all sizes from the axis on as one. */
function hardmax(node: NodeContext): Operand {
  const x = node.input(0);
  if (!isFloat(x.dtype)) node.refuse(`an operand of type ${x.dtype}`);
  const { graph, label } = node;
  const { value, axis } = flattenedAxis(node, x);
  const largest = graph.reduce(label, "reduce_max", value, [axis], true);
  const found = graph.binary(label, "equal", value, largest);
  const before = graph.unary(label, "cumsum", found, { axis, exclusive: true, reverse: false });
  const first = graph.unary(label, "not", before);
  const hit = graph.binary(label, "mul", found, first);
  return node.result(graph.reshape(label, hit, x.dims), x.dims, x.dtype);
}

/** The value and axis of a softmax: (outer, rest) before opset 13. */
function flattenedAxis(
  node: NodeContext,
  x: Operand,
): { readonly value: EngineValue; readonly axis: number } {
  const given = node.int("axis", node.opset < 13 ? 1 : -1);
  if (node.opset >= 13) return { value: node.plain(x), axis: node.axis(given, x.dims.length) };
  const axis = given === x.dims.length ? given : node.axis(given, x.dims.length);
  const matrix = [elementCount(x.dims.slice(0, axis)), elementCount(x.dims.slice(axis))];
  return { value: node.graph.reshape(node.label, node.plain(x), matrix), axis: 1 };
}

/** Checks the type: a softmax in bfloat16 is rounded in ways that differ visibly. */
function checkType(node: NodeContext, { dtype }: Operand): void {
  if (!isFloat(dtype) || dtype === "bfloat16") node.refuse(`an operand of type ${dtype}`);
}

/** Softmax over one axis; opsets before 13 take all sizes from the axis on as one. */
function softmax(op: string): NodeImporter {
  return (node) => {
    const x = node.input(0);
    checkType(node, x);
    const { value, axis } = flattenedAxis(node, x);
    const result = node.graph.unary(node.label, op, value, { axis });
    const plain = sameDims(result.shape, x.dims)
      ? result
      : node.graph.reshape(node.label, result, x.dims);
    return node.result(plain, x.dims, x.dtype);
  };
}

/** Softmax and its relatives. */
export const importers: Importers = namedImporters({
  Softmax: softmax("softmax"),
  LogSoftmax: softmax("log_softmax"),
  Hardmax: hardmax,
});
