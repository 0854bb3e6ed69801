import type { Importers, NodeContext } from "../context.js";
import { Maths } from "../maths.js";
import { namedImporters } from "../naming.js";
import { elementCount, isFloat, type Operand } from "../operand.js";

/** Every pair of an axis is compared: more than this many would cost too much. */
const kLongestAxis = 512;

/**
 * The k largest (or smallest) along an axis, best first, the first of equals first. An element's place is the number of
 * those before it: better ones, and equal ones with a smaller index.
 */
function topK(node: NodeContext): readonly Operand[] {
  const x = node.input(0);
  if (!isFloat(x.dtype)) node.refuse(`ranking type ${x.dtype}`);
  const axis = node.axis(node.int("axis", -1), x.dims.length);
  const size = x.dims[axis] as number;
  const k = node.opset < 10 ? node.int("k") : node.scalar(node.input(1), "count");
  if (size > kLongestAxis || !(k >= 1 && k <= size)) node.refuse(`the best ${k} of ${size}`);
  const maths = new Maths(node, x.dtype);
  const order = [...x.dims.keys()].filter((i) => i !== axis);
  const perm = [...order, axis];
  const outer = elementCount(order.map((i) => x.dims[i] as number));
  const rows = maths.reshape(maths.transpose(node.plain(x), perm), [outer, size]);
  const self = maths.reshape(rows, [outer, size, 1]);
  const other = maths.reshape(rows, [outer, 1, size]);
  const better = maths.binary(node.int("largest", 1) !== 0 ? "greater" : "less", other, self);
  const earlier = maths.constant(
    Array.from({ length: size * size }, (_, i) => (i % size < Math.floor(i / size) ? 1 : 0)),
    [1, size, size],
  );
  const before = maths.add(better, maths.mul(maths.binary("equal", other, self), earlier));
  const rank = maths.sum(before, [2], false);
  const places = maths.constant([...Array(k).keys()], [1, k, 1]);
  const chosen = maths.binary("equal", maths.reshape(rank, [outer, 1, size]), places);
  const none = maths.zeros([1, 1, 1]);
  const values = maths.sum(maths.where(chosen, other, none, chosen.shape), [2], false);
  const count = maths.constant([...Array(size).keys()], [1, 1, size]);
  const ids = maths.sum(maths.mul(chosen, count), [2], false);
  const dims = x.dims.with(axis, k);
  const back = (value: typeof values): typeof values => {
    const shape = [...order.map((i) => x.dims[i] as number), k];
    const turned = perm.map((_, i) => perm.indexOf(i));
    return maths.transpose(maths.reshape(value, shape), turned);
  };
  const results: Operand[] = [node.result(back(values), dims, x.dtype)];
  if (node.wantsOutput(1)) results.push(node.wholeResult(back(ids), dims, "int64"));
  return results;
}

/** Ranking at run time. */
export const importers: Importers = namedImporters({ TopK: topK });
