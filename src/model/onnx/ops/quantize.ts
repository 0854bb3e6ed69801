import type { OnnxDType } from "../../../io/onnx/model.js";
import type { Importers, NodeContext } from "../context.js";
import type { EngineValue } from "../engine-graph.js";
import { Maths } from "../maths.js";
import { namedImporters } from "../naming.js";
import { elementCount, isFloat, type Operand } from "../operand.js";

const kRanges: ReadonlyMap<OnnxDType, readonly [number, number]> = new Map([
  ["int8", [-128, 127]],
  ["uint8", [0, 255]],
  ["int16", [-32768, 32767]],
  ["uint16", [0, 65535]],
] as const);

/** A scale or zero point per tensor, or per entry of the axis, in a shape that broadcasts to the data's. */
function perAxis(node: NodeContext, x: Operand, parameter: Operand): readonly number[] {
  if (node.int("block_size", 0) !== 0) node.refuse("quantisation in blocks");
  const count = elementCount(parameter.dims);
  if (count === 1) return [];
  const axis = node.axis(node.int("axis", 1), x.dims.length);
  if (parameter.dims.length !== 1 || count !== x.dims[axis]) {
    node.refuse(`a scale or zero point of sizes (${parameter.dims.join(", ")})`);
  }
  return x.dims.map((_, i) => (i === axis ? count : 1));
}

function spread(node: NodeContext, maths: Maths, x: Operand, parameter: Operand): EngineValue {
  return maths.reshape(node.plain(parameter), perAxis(node, x, parameter));
}

/** (x − zero point) · scale of known integers. */
function dequantizeLinear(node: NodeContext): Operand {
  const [x, scale, zero] = [node.input(0), node.input(1), node.optional(2)];
  if (!kRanges.has(x.dtype) || x.kind !== "constant" || !isFloat(scale.dtype)) {
    node.refuse(`dequantising type ${x.dtype}`);
  }
  if (node.has("output_dtype") && node.int("output_dtype") !== 0) node.refuse("an output_dtype");
  const maths = new Maths(node, scale.dtype);
  const value = node.plain(x);
  const centred = zero ? maths.sub(value, spread(node, maths, x, zero)) : value;
  return node.result(maths.mul(centred, spread(node, maths, x, scale)), x.dims, scale.dtype);
}

/** round(x / scale) + zero point, half to even and saturated: a last result only, as it is a whole number. */
function quantizeLinear(node: NodeContext): Operand {
  const [x, scale, zero] = [node.input(0), node.input(1), node.optional(2)];
  const dtype = zero?.dtype ?? "uint8";
  const range = kRanges.get(dtype);
  // A quotient rounded to half precision may fall on the other side of a half.
  if (range === undefined || (x.dtype !== "float" && x.dtype !== "double")) {
    return node.refuse(`quantising type ${x.dtype} to ${dtype}`);
  }
  if (["output_dtype", "precision"].some((name) => node.has(name) && node.int(name) !== 0)) {
    node.refuse("an output_dtype or precision");
  }
  const maths = new Maths(node, x.dtype);
  const divided = maths.binary("div", node.plain(x), spread(node, maths, x, scale));
  const whole = maths.unary("round", divided);
  const shifted = zero ? maths.add(whole, spread(node, maths, x, zero)) : whole;
  const bounded = maths.unary("clip", shifted, { min: range[0], max: range[1] });
  return node.wholeResult(bounded, x.dims, dtype);
}

/** Between floats and small integers. */
export const importers: Importers = namedImporters({
  DequantizeLinear: dequantizeLinear,
  QuantizeLinear: quantizeLinear,
});
