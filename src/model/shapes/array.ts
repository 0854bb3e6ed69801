import { shapeText } from "../graph-error.js";
import {
  axisOf,
  broadcast,
  firstInput,
  inputAt,
  integer,
  list,
  type Shape,
  type ShapeContext,
  type ShapeRule,
  shapeError,
  volume,
} from "./context.js";

const kElementwise = [
  ..."abs neg exp log sqrt reciprocal erf sin cos tan asin acos atan sinh cosh tanh asinh acosh".split(
    " ",
  ),
  ..."atanh sigmoid softplus softsign relu silu mish hard_swish floor ceil round sign not isnan".split(
    " ",
  ),
  ..."gelu elu selu celu leaky_relu thresholded_relu hard_sigmoid clip shrink affine".split(" "),
  ..."dropout lrn pad_mask softmax log_softmax cumsum".split(" "),
];
const kBinary =
  "binary_add sub mul div pow minimum maximum fmod equal less less_equal greater greater_equal logical_and logical_or logical_xor".split(
    " ",
  );
const kReductions = "sum mean max min prod l1 l2 log_sum_exp".split(" ").map((r) => `reduce_${r}`);

function add(node: ShapeContext): Shape {
  const input = firstInput(node);
  if (node.inputs.some((other) => shapeText(other) !== shapeText(input))) {
    throw shapeError(node, "inputs of one shape", node.inputs.map(shapeText).join(" and "));
  }
  return input;
}

/** The second operand: an input, or the slot `other`. */
function operands(node: ShapeContext): readonly [Shape, Shape] {
  return [firstInput(node), node.parameters["other"] ?? inputAt(node, 1)];
}

function binary(node: ShapeContext): Shape {
  const [a, b] = operands(node);
  const shape = broadcast(node, [a, b]);
  // A parameter is broadcast to the input, never the input to it: the engine's contract.
  if (node.parameters["other"] !== undefined && shapeText(shape) !== shapeText(a)) {
    throw shapeError(node, `an other that broadcasts to ${shapeText(a)}`, shapeText(b));
  }
  return shape;
}

function reduce(node: ShapeContext): Shape {
  const input = firstInput(node);
  const given = node.attributes["axes"] === undefined ? [...input.keys()] : list(node, "axes");
  const axes = new Set(given.map((axis) => axisOf(node, input, axis)));
  if (node.attributes["keepdims"] === false) return input.filter((_, i) => !axes.has(i));
  return input.map((size, i) => (axes.has(i) ? 1 : size));
}

function matmul(node: ShapeContext): Shape {
  const [a, b] = operands(node);
  const received = `${shapeText(a)} and ${shapeText(b)}`;
  if (a.length < 2 || b.length < 2) throw shapeError(node, "operands of 2 sizes or more", received);
  const ends = (shape: Shape, flip: unknown): [number, number] => {
    const [rows, columns] = shape.slice(-2) as [number, number];
    return flip === true ? [columns, rows] : [rows, columns];
  };
  const [rows, inner] = ends(a, node.attributes["transpose_a"]);
  const [other, columns] = ends(b, node.attributes["transpose_b"]);
  if (inner !== other) throw shapeError(node, "(…, M, K) and (…, K, N)", received);
  return [...broadcast(node, [a.slice(0, -2), b.slice(0, -2)]), rows, columns];
}

function parameter(node: ShapeContext): Shape {
  const shape = node.parameters["value"];
  if (shape === undefined) throw shapeError(node, "a slot value", "none");
  return shape;
}

function reshape(node: ShapeContext): Shape {
  const input = firstInput(node);
  const shape = list(node, "shape");
  if (volume(shape) === volume(input) && shape.every((size) => size > 0)) return shape;
  throw shapeError(node, `a shape of ${volume(input)} values`, shapeText(shape));
}

function transpose(node: ShapeContext): Shape {
  const input = firstInput(node);
  const perm = list(node, "perm", input.length);
  if (perm.toSorted((a, b) => a - b).some((axis, i) => axis !== i)) {
    throw shapeError(node, `a permutation of ${input.length} axes`, shapeText(perm));
  }
  return perm.map((axis) => input[axis] as number);
}

function slice(node: ShapeContext): Shape {
  const input = firstInput(node);
  const [starts, steps, sizes] = ["starts", "steps", "sizes"].map((key) =>
    list(node, key, input.length),
  ) as [Shape, Shape, Shape];
  sizes.forEach((size, i) => {
    const start = starts[i] as number;
    const end = start + (size - 1) * (steps[i] as number);
    const within = (at: number): boolean => at >= 0 && at < (input[i] as number);
    if (steps[i] === 0 || size < 1 || !within(start) || !within(end)) {
      throw shapeError(node, `places within ${input[i]} along axis ${i}`, `${start} to ${end}`);
    }
  });
  return sizes;
}

function pad(node: ShapeContext): Shape {
  const input = firstInput(node);
  const [before, after] = [list(node, "before", input.length), list(node, "after", input.length)];
  return input.map((size, i) => size + (before[i] as number) + (after[i] as number));
}

function expand(node: ShapeContext): Shape {
  const shape = list(node, "shape");
  const grown = broadcast(node, [firstInput(node), shape]);
  if (shapeText(grown) === shapeText(shape)) return shape;
  throw shapeError(node, `sizes that ${shapeText(firstInput(node))} grows to`, shapeText(shape));
}

/** `axis` counts over the per-sample sizes, from the end when negative; −1 where it is left out. */
function concat(node: ShapeContext): Shape {
  const input = firstInput(node);
  const axis = axisOf(node, input, node.attributes["axis"] ?? -1);
  const rest = (shape: Shape): string => shapeText(shape.with(axis, 0));
  if (node.inputs.some((o) => o.length !== input.length || rest(o) !== rest(input))) {
    const received = node.inputs.map(shapeText).join(" and ");
    throw shapeError(node, `inputs that differ along axis ${axis} only`, received);
  }
  return input.with(
    axis,
    node.inputs.reduce((sum, shape) => sum + (shape[axis] as number), 0),
  );
}

function resample(node: ShapeContext): Shape {
  const input = firstInput(node);
  const axis = axisOf(node, input, node.attributes["axis"]);
  const taps = integer(node, "taps");
  const places = list(node, "index").length;
  if (taps < 1 || places < taps || places % taps !== 0) {
    throw shapeError(node, `an index in multiples of ${taps} taps`, `${places}`);
  }
  return input.with(axis, places / taps);
}

function gather(node: ShapeContext): Shape {
  const input = firstInput(node);
  const axis = axisOf(node, input, node.attributes["axis"]);
  return input.toSpliced(axis, 1, ...inputAt(node, 1));
}

function take(node: ShapeContext): Shape {
  const shape = list(node, "shape");
  const index = list(node, "index");
  if (index.length === volume(shape)) return shape;
  throw shapeError(node, `${volume(shape)} places as index`, `${index.length}`);
}

function every(names: readonly string[], rule: ShapeRule): Record<string, ShapeRule> {
  return Object.fromEntries(names.map((name) => [name, rule]));
}

/** Rules of the ops on arrays of any rank: elementwise, reductions, products, and those that move values. */
export const arrayRules: Readonly<Record<string, ShapeRule>> = {
  ...every(kElementwise, firstInput),
  ...every(kBinary, binary),
  ...every(kReductions, reduce),
  where: (node) => broadcast(node, [inputAt(node, 0), inputAt(node, 1), inputAt(node, 2)]),
  add,
  matmul,
  parameter,
  reshape,
  transpose,
  slice,
  pad,
  expand,
  concat,
  resample,
  gather,
  take,
  scatter: firstInput,
};
