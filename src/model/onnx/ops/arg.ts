import type { Importers, NodeContext } from "../context.js";
import type { EngineValue } from "../engine-graph.js";
import { isFloat, type Operand } from "../operand.js";

/**
 * The place of the greatest or least number along an axis: the first (or last) place whose number is the extreme. A NaN is
 * the extreme, as in NumPy.
 */
function argExtreme(reduce: "reduce_max" | "reduce_min"): (node: NodeContext) => Operand {
  return (node) => {
    const { graph, label } = node;
    const input = node.input(0);
    if (!isFloat(input.dtype)) node.refuse(`an input of type ${input.dtype}`);
    const axis = node.axis(node.int("axis", 0), input.dims.length);
    const size = input.dims[axis] as number;
    const last = node.int("select_last_index", 0) !== 0;
    const keepdims = node.int("keepdims", 1) !== 0;
    const value = node.plain(input);
    const extreme = graph.reduce(label, reduce, value, [axis], true);
    const hit = graph.binary(
      label,
      "logical_or",
      graph.binary(label, "equal", value, extreme),
      graph.unary(label, "isnan", value),
    );
    const none = last ? -1 : size;
    const dims = input.dims.map((_, i) => (i === axis ? size : 1));
    const places = number(
      node,
      Array.from({ length: size }, (_, i) => i),
      dims,
    );
    const chosen = node.emit("where", [hit, places, number(node, [none], [1])], value.shape);
    const found = graph.reduce(label, last ? "reduce_max" : "reduce_min", chosen, [axis], keepdims);
    return node.wholeResult(found, found.shape, "int64");
  };
}

function number(
  node: NodeContext,
  values: readonly number[],
  dims: readonly number[],
): EngineValue {
  const array = { dtype: "double", dims, data: Float64Array.from(values) } as const;
  return node.graph.constant(node.label, array, dims);
}

export const importers: Importers = {
  ArgMax: argExtreme("reduce_max"),
  ArgMin: argExtreme("reduce_min"),
};
