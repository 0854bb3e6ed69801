import type { Aligned, Importers, NodeContext, NodeImporter } from "../context.js";
import type { EngineValue } from "../engine-graph.js";
import { namedImporters } from "../naming.js";
import { elementCount, isFloat, type Operand, type ValueOperand } from "../operand.js";

/** The largest finite f32: what the clip of opsets before 11 stops at where it is given no bound. */
const kLargestF32 = 3.4028234663852886e38;

const kCommutative: ReadonlySet<string> = new Set(["binary_add", "mul", "minimum", "maximum"]);

function floats(node: NodeContext, operands: readonly Operand[]): void {
  const wrong = operands.find(({ dtype }) => !isFloat(dtype));
  if (wrong !== undefined) node.refuse(`computing with type ${wrong.dtype}`);
}

/** An operator of one float input that is one op of the engine. */
function unary(op: string): NodeImporter {
  return (node) => {
    floats(node, [node.input(0)]);
    return node.unary(op, node.input(0));
  };
}

/** The same with float attributes: ONNX's name → its default; the engine's names are ONNX's. */
function shaped(op: string, defaults: Readonly<Record<string, number>>): NodeImporter {
  return (node) => {
    floats(node, [node.input(0)]);
    const attributes = Object.fromEntries(
      Object.entries(defaults).map(([name, value]) => [name, node.float(name, value)]),
    );
    return node.unary(op, node.input(0), attributes);
  };
}

/** Before opset 7, `broadcast` lets the second operand's sizes stand anywhere in the first's: `axis` says where. */
function legacyOperands(node: NodeContext): readonly [Operand, Operand] {
  const [a, b] = [node.input(0), node.input(1)];
  if (node.opset >= 7 || node.int("broadcast", 0) === 0 || !node.has("axis")) return [a, b];
  const axis = node.axis(node.int("axis"), a.dims.length);
  const trailing = a.dims.length - axis - b.dims.length;
  if (trailing <= 0) return [a, b];
  const dims = [...b.dims, ...Array.from({ length: trailing }, () => 1)];
  const value = node.graph.reshape(node.label, node.plain(b), dims);
  return [a, node.result(value, dims, b.dtype)];
}

/** The value of a constant of one finite element, whose sizes add none to the other operand's. */
function constantNumber(operand: Operand, other: Operand): number | undefined {
  if (operand.kind !== "constant" || !isFloat(operand.dtype)) return undefined;
  if (elementCount(operand.dims) !== 1 || operand.dims.length > other.dims.length) return undefined;
  const value = Number(operand.array.data[0]);
  return Number.isFinite(value) ? value : undefined;
}

/** y = scale·x + shift on a computed operand in its own layout. */
function affine(node: NodeContext, x: Operand, scale: number, shift: number): ValueOperand {
  return node.unary("affine", x, { scale, shift });
}

/** Sums and products with a number need no second operand; undefined where there is none. */
function withNumber(node: NodeContext, op: string, a: Operand, b: Operand): Operand | undefined {
  const [left, right] = [constantNumber(a, b), constantNumber(b, a)];
  if (right !== undefined) {
    if (op === "binary_add") return affine(node, a, 1, right);
    if (op === "sub") return affine(node, a, 1, -right);
    if (op === "mul") return affine(node, a, right, 0);
  }
  if (left !== undefined) {
    if (op === "binary_add") return affine(node, b, 1, left);
    if (op === "sub") return affine(node, b, -1, left);
    if (op === "mul") return affine(node, b, left, 0);
  }
  return undefined;
}

/** The name of an initializer as slot `other`, where it has at most one size that is not 1, so that no layout moves it. */
function slotOther(node: NodeContext, a: Operand, b: Operand): string | undefined {
  if (a.kind !== "value" || b.kind !== "parameter" || b.transposed) return undefined;
  const large = b.dims.flatMap((size, axis) => (size === 1 ? [] : [axis]));
  const [axis = 0] = large;
  const place = axis - b.dims.length + a.dims.length;
  if (large.length !== 1 || b.dims.length > a.dims.length || a.dims[place] !== b.dims[axis]) {
    return undefined;
  }
  const size = b.dims[axis] as number;
  return node.tryParameter(b, "bias", { shape: slotShape(node, a, place, size) });
}

function slotShape(node: NodeContext, a: Operand, axis: number, size: number): readonly number[] {
  const layout = node.layoutOf(a);
  const rank = node.form(a, layout).shape.length;
  const ones = Array.from({ length: rank }, () => 1);
  const dropped = a.dims.length - rank;
  if (layout !== "channelsLast") return ones.with(axis - dropped, size);
  if (axis === 0) return ones.with(0, size);
  return ones.with(axis === 1 ? rank - 1 : axis - 1 - dropped, size);
}

function binaryOf(node: NodeContext, op: string, a: Operand, b: Operand): Operand {
  const number = withNumber(node, op, a, b);
  if (number !== undefined) return number;
  // PyTorch writes a layer's bias first.
  if (a.kind === "parameter" && b.kind === "value" && kCommutative.has(op)) {
    return binaryOf(node, op, b, a);
  }
  const other = slotOther(node, a, b);
  if (other !== undefined) {
    const layout = node.layoutOf(a);
    const value = node.form(a, layout);
    const sum = node.emit(op, [value], value.shape, { parameters: { other } });
    return node.result(sum, a.dims, a.dtype, layout);
  }
  const { values, shape, finish } = node.align([a, b]);
  return finish(node.emit(op, values, shape), a.dtype);
}

function binary(op: string): NodeImporter {
  return (node) => {
    const [a, b] = legacyOperands(node);
    floats(node, [a, b]);
    return binaryOf(node, op, a, b);
  };
}

/** Compares two operands of one type; of bools only equality has a meaning. */
function comparison(op: string): NodeImporter {
  return (node) => {
    const [a, b] = legacyOperands(node);
    if (op !== "equal") floats(node, [a, b]);
    const { values, shape, finish } = node.align([a, b]);
    return finish(node.emit(op, values, shape), "bool");
  };
}

function logic(op: string): NodeImporter {
  return (node) => {
    const operands = legacyOperands(node);
    if (operands.some(({ dtype }) => dtype !== "bool")) node.refuse("operands that are not bool");
    const { values, shape, finish } = node.align(operands);
    return finish(node.emit(op, values, shape), "bool");
  };
}

/** Any number of operands from left to right. */
function variadic(op: string, scaleOf: (count: number) => number = () => 1): NodeImporter {
  return (node) => {
    const operands = node.inputs.map((_, i) => node.input(i));
    floats(node, operands);
    const [first, ...rest] = operands;
    if (first === undefined) return node.refuse("no input");
    const total = rest.reduce((sum, operand) => binaryOf(node, op, sum, operand), first);
    const scale = scaleOf(operands.length);
    return scale === 1 ? total : affine(node, total, scale, 0);
  };
}

function not(node: NodeContext): Operand {
  const x = node.input(0);
  if (x.dtype !== "bool") node.refuse(`an operand of type ${x.dtype}`);
  return node.unary("not", x, {}, "bool");
}

/** The exponent may be of any type; the result has the base's. */
function pow(node: NodeContext): Operand {
  const [a, b] = legacyOperands(node);
  floats(node, [a]);
  const { values, shape, finish } = node.align([a, b]);
  return finish(node.emit("pow", values, shape), a.dtype);
}

function mod(node: NodeContext): Operand {
  if (node.int("fmod", 0) !== 1) node.refuse("a float Mod without fmod = 1");
  return binary("fmod")(node) as Operand;
}

function where(node: NodeContext): Operand {
  const [condition, a, b] = [node.input(0), node.input(1), node.input(2)];
  if (condition.dtype !== "bool" || a.dtype !== b.dtype) node.refuse("operands of these types");
  const { values, shape, finish } = node.align([condition, a, b]);
  return finish(node.emit("where", values, shape), a.dtype);
}

function isNan(node: NodeContext): Operand {
  floats(node, [node.input(0)]);
  return node.unary("isnan", node.input(0), {}, "bool");
}

/** A number beside values of the operand's type. */
function number(node: NodeContext, like: Operand, value: number, rank: number): EngineValue {
  const dims = Array.from({ length: rank }, () => 1);
  const data = like.dtype === "double" ? Float64Array.of(value) : Float32Array.of(value);
  return node.graph.constant(node.label, { dtype: like.dtype, dims, data }, dims);
}

/** Beyond the largest finite number of the engine's type there is only infinity. */
function isInf(node: NodeContext): Operand {
  const x = node.input(0);
  floats(node, [x]);
  const largest = x.dtype === "double" ? Number.MAX_VALUE : kLargestF32;
  const layout = node.layoutOf(x);
  const value = node.form(x, layout);
  const beyond = (op: string, bound: number): EngineValue =>
    node.graph.binary(node.label, op, value, number(node, x, bound, value.shape.length));
  const positive = node.int("detect_positive", 1) !== 0 ? [beyond("greater", largest)] : [];
  const negative = node.int("detect_negative", 1) !== 0 ? [beyond("less", -largest)] : [];
  const [first, second] = [...positive, ...negative];
  if (first === undefined) return node.refuse("neither infinity asked for");
  const found =
    second === undefined ? first : node.graph.binary(node.label, "logical_or", first, second);
  return node.result(found, x.dims, "bool", layout);
}

/** A bound that is a number at import, undefined where there is none or it is none. */
interface Bounds {
  readonly min: number | undefined;
  readonly max: number | undefined;
}

function legacyBounds(node: NodeContext): Bounds {
  return { min: node.float("min", -kLargestF32), max: node.float("max", kLargestF32) };
}

/** undefined: a bound is not known at import. */
function knownBounds(node: NodeContext): Bounds | undefined {
  if (node.opset < 11) return legacyBounds(node);
  const [min, max] = [1, 2].map((i) => {
    const operand = node.optional(i);
    const known = operand && operand.kind !== "parameter" ? node.known(operand) : undefined;
    return { given: operand !== undefined, value: known && Number(known.data[0]) };
  });
  if ((min?.given && min.value === undefined) || (max?.given && max.value === undefined)) {
    return undefined;
  }
  return { min: min?.value, max: max?.value };
}

/** Bounds are numbers in nearly every model; where they are not, or cross, x is raised first and lowered then. */
function clip(node: NodeContext): Operand {
  const x = node.input(0);
  floats(node, [x]);
  const bounds = knownBounds(node);
  if (bounds === undefined || (bounds.min ?? -Infinity) > (bounds.max ?? Infinity)) {
    const low = node.optional(1);
    const high = node.optional(2);
    const raised = low ? binaryOf(node, "maximum", x, low) : x;
    return high ? binaryOf(node, "minimum", raised, high) : raised;
  }
  const attributes = Object.fromEntries(
    Object.entries(bounds).filter(([, value]) => Number.isFinite(value)),
  );
  const open = [bounds.min === Infinity, bounds.max === -Infinity, Number.isNaN(bounds.min)];
  if (open.some(Boolean) || Number.isNaN(bounds.max)) node.refuse("a bound that is no number");
  return node.unary("clip", x, attributes);
}

/** x where it is not negative, else slope·x. */
function pRelu(node: NodeContext): Operand {
  const x = node.input(0);
  const slope = legacySlope(node, x);
  floats(node, [x, slope]);
  const aligned: Aligned = node.align([x, slope]);
  if (aligned.dims.join() !== x.dims.join()) node.refuse("a slope larger than the input");
  const [value, factor] = aligned.values as [EngineValue, EngineValue];
  const { graph, label } = node;
  const zero = number(node, x, 0, value.shape.length);
  const negative = graph.binary(label, "less", value, zero);
  const scaled = graph.binary(label, "mul", value, factor);
  return aligned.finish(node.emit("where", [negative, scaled, value], aligned.shape), x.dtype);
}

/** Before opset 7 a slope per channel has one size. */
function legacySlope(node: NodeContext, x: Operand): Operand {
  const slope = node.input(1);
  if (node.opset >= 7 || slope.dims.length !== 1 || x.dims.length < 3) return slope;
  const dims = [...slope.dims, ...x.dims.slice(2).map(() => 1)];
  return node.result(node.graph.reshape(node.label, node.plain(slope), dims), dims, slope.dtype);
}

function gelu(node: NodeContext): Operand {
  floats(node, [node.input(0)]);
  const approximate = node.string("approximate", "none");
  if (approximate !== "none" && approximate !== "tanh") node.refuse(`approximate ${approximate}`);
  return node.unary("gelu", node.input(0), { approximate });
}

/** x · sigmoid(alpha·x). */
function swish(node: NodeContext): Operand {
  const x = node.input(0);
  floats(node, [x]);
  const alpha = node.float("alpha", 1);
  if (alpha === 1) return node.unary("silu", x);
  return binaryOf(node, "mul", x, node.unary("sigmoid", affine(node, x, alpha, 0)));
}

function selu(node: NodeContext): Operand {
  const [alpha, gamma] =
    node.opset < 6 ? [1.6732, 1.0507] : [1.673263192176819, 1.0507010221481323];
  return shaped("selu", { alpha, gamma })(node) as Operand;
}

/** ONNX's elementwise operators. Those of floats give the first operand's type; comparisons and logic give bool. */
export const importers: Importers = namedImporters({
  Abs: unary("abs"),
  Neg: unary("neg"),
  Exp: unary("exp"),
  Log: unary("log"),
  Sqrt: unary("sqrt"),
  Reciprocal: unary("reciprocal"),
  Erf: unary("erf"),
  Sin: unary("sin"),
  Cos: unary("cos"),
  Tan: unary("tan"),
  Asin: unary("asin"),
  Acos: unary("acos"),
  Atan: unary("atan"),
  Sinh: unary("sinh"),
  Cosh: unary("cosh"),
  Tanh: unary("tanh"),
  Asinh: unary("asinh"),
  Acosh: unary("acosh"),
  Atanh: unary("atanh"),
  Sigmoid: unary("sigmoid"),
  Softplus: unary("softplus"),
  Softsign: unary("softsign"),
  Relu: unary("relu"),
  Mish: unary("mish"),
  HardSwish: unary("hard_swish"),
  Floor: unary("floor"),
  Ceil: unary("ceil"),
  Round: unary("round"),
  Sign: unary("sign"),
  Elu: shaped("elu", { alpha: 1 }),
  Selu: selu,
  Celu: shaped("celu", { alpha: 1 }),
  LeakyRelu: shaped("leaky_relu", { alpha: 0.01 }),
  ThresholdedRelu: shaped("thresholded_relu", { alpha: 1 }),
  HardSigmoid: shaped("hard_sigmoid", { alpha: 0.2, beta: 0.5 }),
  Shrink: shaped("shrink", { bias: 0, lambd: 0.5 }),
  Gelu: gelu,
  Swish: swish,
  PRelu: pRelu,
  Clip: clip,
  Add: binary("binary_add"),
  Sub: binary("sub"),
  Mul: binary("mul"),
  Div: binary("div"),
  Pow: pow,
  Mod: mod,
  Sum: variadic("binary_add"),
  Mean: variadic("binary_add", (count) => 1 / count),
  Max: variadic("maximum"),
  Min: variadic("minimum"),
  Equal: comparison("equal"),
  Less: comparison("less"),
  LessOrEqual: comparison("less_equal"),
  Greater: comparison("greater"),
  GreaterOrEqual: comparison("greater_equal"),
  And: logic("logical_and"),
  Or: logic("logical_or"),
  Xor: logic("logical_xor"),
  Not: not,
  Where: where,
  IsNaN: isNan,
  IsInf: isInf,
});
