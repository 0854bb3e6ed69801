import { pickTaps, resample, type Taps, takePlaces } from "../axes.js";
import type { Importers, NodeContext } from "../context.js";
import { floatArray, takeElements } from "../fold/array.js";
import { dtypeOf } from "../fold/cast.js";
import { triluPlaces } from "../fold/places.js";
import { namedImporters } from "../naming.js";
import { broadcastDims, isFloat, type Operand, sameDims } from "../operand.js";

function expand(node: NodeContext): Operand {
  const x = node.input(0);
  const shape = node.integers(node.input(1), "shape");
  const dims = broadcastDims(x.dims, shape);
  if (dims === undefined || shape.some((size) => size < 0)) {
    return node.refuse(`(${x.dims.join()}) expanded to (${shape.join()})`);
  }
  if (sameDims(dims, x.dims)) return x;
  return node.result(node.graph.expand(node.label, node.plain(x), dims), dims, x.dtype);
}

function tile(node: NodeContext): Operand {
  const x = node.input(0);
  if (node.opset < 6) node.refuse("a Tile before opset 6");
  const repeats = node.integers(node.input(1), "repeats");
  if (repeats.length !== x.dims.length) node.refuse(`${repeats.length} repeats`);
  const plan = new Map<number, Taps>();
  x.dims.forEach((size, axis) => {
    const length = size * (repeats[axis] as number);
    if (!(length > 0 && length < 2 ** 26)) node.refuse(`${repeats[axis]} repeats`);
    plan.set(axis, pickTaps(Array.from({ length }, (_, i) => i % size)));
  });
  return resample(node, x, plan);
}

function trilu(node: NodeContext): Operand {
  const x = node.input(0);
  const k = node.optional(1);
  const diagonal = k ? node.scalar(k, "diagonal") : 0;
  return takePlaces(node, x, triluPlaces(x.dims, diagonal, node.int("upper", 1) !== 0));
}

function cumSum(node: NodeContext): Operand {
  const x = node.input(0);
  if (!isFloat(x.dtype)) node.refuse(`a sum of type ${x.dtype}`);
  const axis = node.axis(node.scalar(node.input(1), "axis"), x.dims.length);
  const exclusive = node.int("exclusive", 0) !== 0;
  const reverse = node.int("reverse", 0) !== 0;
  const value = node.graph.unary(node.label, "cumsum", node.plain(x), { axis, exclusive, reverse });
  return node.result(value, x.dims, x.dtype);
}

/** Only the sizes of the input matter. */
function eyeLike(node: NodeContext): Operand {
  const { dims, dtype: own } = node.input(0);
  const dtype = node.has("dtype") ? dtypeOf(node.int("dtype")) : own;
  if (dtype === undefined || !isFloat(dtype) || dims.length !== 2)
    return node.refuse("this type or rank");
  const k = node.int("k", 0);
  const [rows = 0, columns = 0] = dims;
  const places = Array.from({ length: rows * columns }, (_, i) =>
    (i % columns) - Math.floor(i / columns) === k ? 0 : -1,
  );
  return node.constant(takeElements(floatArray(dtype, [], [1]), dims, places));
}

/** Of floats that are known: the number of results hangs on them. */
function range(node: NodeContext): Operand {
  const operands = [node.input(0), node.input(1), node.input(2)];
  const { dtype } = node.input(0);
  if (dtype === "bfloat16") node.refuse("a range in bfloat16");
  const [start = 0, limit = 0, delta = 0] = operands.map((each) => node.scalar(each, "range"));
  const length = Math.max(Math.ceil((limit - start) / delta), 0);
  if (!(length < 2 ** 26)) node.refuse(`a range of ${length}`);
  const values = Array.from({ length }, (_, i) => start + i * delta);
  return node.constant(floatArray(dtype, [length], values));
}

/** Operators that repeat, sum up or blank out along axes. */
export const importers: Importers = namedImporters({
  Expand: expand,
  Tile: tile,
  Trilu: trilu,
  CumSum: cumSum,
  EyeLike: eyeLike,
  Range: range,
});
