import type { OnnxDType } from "../../io/onnx/model.js";
import type { NodeContext, NodeImporter } from "./context.js";
import type { EngineValue } from "./engine-graph.js";
import { reducedAxes } from "./fold/reduce.js";
import {
  constantOperand,
  elementCount,
  isFloat,
  type Operand,
  type ValueOperand,
} from "./operand.js";

/**
 * Whole numbers at run time, as an attention mask is made of: the engine has only reals, which hold them exactly up to 2^24.
 * Only operators for which reals and integers agree take them, and only while a bound on their size is known.
 */
const kLargest = 2 ** 24;

/** Whether the operand is whole numbers that the engine computes as reals. */
export function isWhole(operand: Operand | null | undefined): operand is ValueOperand {
  return operand?.kind === "value" && operand.largest !== undefined;
}

/** The same numbers as whole numbers of this type, none larger than `largest` in size. */
export function wholeOperand(
  operand: ValueOperand,
  dtype: OnnxDType,
  largest: number,
): ValueOperand {
  return { ...operand, dtype, largest };
}

function asReal(node: NodeContext, operand: Operand | null): Operand | null {
  if (operand === null || isFloat(operand.dtype) || operand.dtype === "bool") return operand;
  if (isWhole(operand)) return { ...operand, dtype: "float", largest: undefined };
  if (operand.kind !== "constant") return node.refuse(`ids and other whole numbers at once`);
  const numbers = node.numbers(operand, "numbers");
  const data = Float32Array.from(numbers, (value) =>
    Math.abs(value) <= kLargest ? value : node.refuse(`the whole number ${value}`),
  );
  return constantOperand({ dtype: "float", dims: operand.dims, data });
}

/** The largest size of a number of the operand. */
function bound(node: NodeContext, operand: Operand): number {
  if (operand.kind === "value") return operand.largest ?? 1;
  return node.numbers(operand, "numbers").reduce((most, each) => Math.max(most, Math.abs(each)), 0);
}

type Bound = (sizes: readonly number[], node: NodeContext) => number;

const largestOf: Bound = (sizes) => Math.max(...sizes);
const sumOf: Bound = (sizes) => sizes.reduce((sum, size) => sum + size, 0);
const productOf: Bound = (sizes) => sizes.reduce((product, size) => product * size, 1);

const runningSum: Bound = ([size = 0], node) => {
  const x = node.input(0);
  const axis = node.axis(node.scalar(node.input(1), "axis"), x.dims.length);
  return size * (x.dims[axis] as number);
};

const reducedSum: Bound = ([size = 0], node) => {
  const x = node.input(0);
  const axes = node.optional(1);
  const given = axes ? node.integers(axes, "axes") : node.ints("axes");
  const counted = reducedAxes(x.dims.length, given, node).axes.map((axis) => x.dims[axis] ?? 1);
  return size * elementCount(counted);
};

/** The inputs that hold numbers (the others say places and sizes), and how large the result can be; null: bools. */
interface WholeRule {
  readonly numbers: (count: number) => readonly number[];
  readonly bound: Bound | null;
}

const first = (): readonly number[] => [0];
const every = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i);
const moved: WholeRule = { numbers: first, bound: largestOf };
const compared: WholeRule = { numbers: every, bound: null };

const kRules: Readonly<Record<string, WholeRule>> = {
  Identity: moved,
  Reshape: moved,
  Flatten: moved,
  Squeeze: moved,
  Unsqueeze: moved,
  Transpose: moved,
  Expand: moved,
  Slice: moved,
  Split: moved,
  Tile: moved,
  Gather: moved,
  GatherND: moved,
  GatherElements: moved,
  Abs: moved,
  Neg: moved,
  Sign: moved,
  Concat: { numbers: every, bound: largestOf },
  Max: { numbers: every, bound: largestOf },
  Min: { numbers: every, bound: largestOf },
  Add: { numbers: every, bound: sumOf },
  Sub: { numbers: every, bound: sumOf },
  Mul: { numbers: every, bound: productOf },
  Where: { numbers: () => [1, 2], bound: largestOf },
  CumSum: { numbers: first, bound: runningSum },
  ReduceSum: { numbers: first, bound: reducedSum },
  ReduceMax: moved,
  ReduceMin: moved,
  Equal: compared,
  Less: compared,
  LessOrEqual: compared,
  Greater: compared,
  GreaterOrEqual: compared,
};

// A row of ones and zeros as long as the table for each id: more would cost too much.
const kLongestTable = 8192;

/** Rows of a learnt table at ids that are computed (OPT's positions): each id picks its row by a product. */
function learntRows(node: NodeContext): Operand | undefined {
  const [table, ids] = [node.input(0), node.input(1)];
  if (table.kind !== "parameter" || table.dims.length !== 2 || !isWhole(ids)) return undefined;
  const [count = 0, width = 0] = table.dims;
  const other = node.tryParameter(table, "embedding");
  if (node.int("axis", 0) !== 0 || count > kLongestTable || other === undefined) return undefined;
  const { graph, label } = node;
  const id = graph.reshape(label, node.plain(ids), [...ids.dims, 1]);
  // An id below 0 counts from the end.
  const [chosen, fromEnd] = [0, -count].map((shift) => {
    const data = Float32Array.from({ length: count }, (_, i) => i + shift);
    const array = { dtype: "float", dims: [count], data } as const;
    return graph.binary(label, "equal", id, graph.constant(label, array, [count]));
  }) as [EngineValue, EngineValue];
  const hot = graph.binary(label, "binary_add", chosen, fromEnd);
  const rows = [elementCount(ids.dims), count];
  const made = node.emit("matmul", [graph.reshape(label, hot, rows)], rows.with(1, width), {
    parameters: { other },
  });
  const dims = [...ids.dims, width];
  return node.result(graph.reshape(label, made, dims), dims, table.dtype);
}

/**
 * The importer of a node that reads whole numbers at run time: the one for reals, on reals. undefined where none of the
 * node's numbers are such.
 *
 * @throws {@link FishermaskError} `ERR_FM_UNSUPPORTED` for operators in which integers differ from reals, and sizes beyond 2^24
 */
export function wholeImporter(
  node: NodeContext,
  importer: NodeImporter,
  withInputs: (inputs: readonly (Operand | null)[]) => NodeContext,
): readonly Operand[] | undefined {
  if (!node.inputs.some(isWhole)) return undefined;
  const { opType } = node.node;
  // These take them as they are.
  if (opType === "Cast" || opType === "CastLike" || opType === "Shape" || opType === "Size") {
    return undefined;
  }
  const rows = opType === "Gather" ? learntRows(node) : undefined;
  if (rows !== undefined) return [rows];
  const rule = kRules[opType] ?? node.refuse("whole numbers that are computed at run time");
  const places = rule.numbers(node.inputs.length);
  const numbers = places.flatMap((i) => node.inputs[i] ?? []);
  if (node.inputs.some((operand, i) => isWhole(operand) && !places.includes(i))) {
    node.refuse("places or sizes that are computed at run time");
  }
  const dtype = numbers[0]?.dtype ?? "int64";
  const most = rule.bound?.(
    numbers.map((operand) => bound(node, operand)),
    node,
  );
  if (most !== undefined && most > kLargest) node.refuse(`whole numbers of up to ${most}`);
  const reals = node.inputs.map((operand, i) =>
    places.includes(i) ? asReal(node, operand) : operand,
  );
  const made = importer(withInputs(reals));
  const results = Array.isArray(made) ? (made as readonly Operand[]) : [made as Operand];
  if (most === undefined) return results;
  return results.map((operand) =>
    operand.kind === "value"
      ? wholeOperand(operand, dtype, most)
      : node.refuse("a result that is known"),
  );
}
