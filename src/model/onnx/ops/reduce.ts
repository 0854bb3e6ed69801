import type { Importers, NodeContext, NodeImporter } from "../context.js";
import type { EngineValue } from "../engine-graph.js";
import { reducedAxes, reducedDims } from "../fold/reduce.js";
import { namedImporters } from "../naming.js";
import { isFloat } from "../operand.js";

/** What is done to each value before, and to each result after, the engine's reduction. */
interface Reduction {
  readonly op: string;
  readonly before?: (node: NodeContext, value: EngineValue) => EngineValue;
  readonly after?: (node: NodeContext, value: EngineValue) => EngineValue;
}

/** Axes are an attribute at first and an input since opset 13 (ReduceSum) or 18; where both exist the input is meant. */
function givenAxes(node: NodeContext): readonly number[] | undefined {
  const input = node.optional(1);
  return input ? node.integers(input, "axes") : node.ints("axes");
}

function reduce({ op, before, after }: Reduction): NodeImporter {
  return (node) => {
    const x = node.input(0);
    if (!isFloat(x.dtype)) node.refuse(`a reduction of type ${x.dtype}`);
    const reduced = reducedAxes(x.dims.length, givenAxes(node), node);
    const dims = reducedDims(x.dims, reduced);
    const plain = node.plain(x);
    const value = before ? before(node, plain) : plain;
    // Without axes the operator still applies what it does to each value.
    const total =
      reduced.axes.length === 0
        ? value
        : node.graph.reduce(node.label, op, value, reduced.axes, reduced.keepdims);
    const result = after ? after(node, total) : total;
    return result === plain ? x : node.result(result, dims, x.dtype);
  };
}

/** Over no axes a norm is the value's size and a log-sum-exp the value itself. */
function unless(none: string | null, op: string): NodeImporter {
  const whole = reduce({ op });
  return (node) => {
    const x = node.input(0);
    if (reducedAxes(x.dims.length, givenAxes(node), node).axes.length > 0) return whole(node);
    return none === null ? x : node.unary(none, x);
  };
}

const square: Reduction["before"] = (node, value) =>
  node.graph.binary(node.label, "mul", value, value);

const logarithm: Reduction["after"] = (node, value) => node.graph.unary(node.label, "log", value);

/** ONNX's reductions of floats. */
export const importers: Importers = namedImporters({
  ReduceSum: reduce({ op: "reduce_sum" }),
  ReduceMean: reduce({ op: "reduce_mean" }),
  ReduceMax: reduce({ op: "reduce_max" }),
  ReduceMin: reduce({ op: "reduce_min" }),
  ReduceProd: reduce({ op: "reduce_prod" }),
  ReduceL1: unless("abs", "reduce_l1"),
  ReduceL2: unless("abs", "reduce_l2"),
  ReduceLogSumExp: unless(null, "reduce_log_sum_exp"),
  ReduceSumSquare: reduce({ op: "reduce_sum", before: square }),
  ReduceLogSum: reduce({ op: "reduce_sum", after: logarithm }),
});
