import { type AttentionBias, biasOf } from "../attention-bias.js";
import type { Importers, NodeContext } from "../context.js";
import type { EngineValue } from "../engine-graph.js";
import { forEachIndex, gatherPlaces } from "../fold/places.js";
import { Maths } from "../maths.js";
import { namedImporters } from "../naming.js";
import { isFloat, type Operand } from "../operand.js";

/** (B, heads, length, size) of an operand that is (B, length, heads·size) or already so. */
function heads(node: NodeContext, maths: Maths, x: Operand, attribute: string): EngineValue {
  const value = node.plain(x);
  if (x.dims.length === 4) return value;
  const [batch = 0, length = 0, width = 0] = x.dims;
  const count = node.int(attribute);
  const size = width / count;
  if (x.dims.length !== 3 || !Number.isInteger(size))
    node.refuse(`(${x.dims.join(", ")}) with ${count} heads`);
  return maths.transpose(maths.reshape(value, [batch, length, count, size]), [0, 2, 1, 3]);
}

function past(node: NodeContext, maths: Maths, i: number, now: EngineValue): EngineValue {
  const before = node.optional(i);
  if (before === undefined || before.dims.includes(0)) return now;
  return maths.concat([node.plain(before), now], 2);
}

/** One key head for all query heads, or one each. Versions differ on which heads share several. */
function shared(node: NodeContext, keys: EngineValue, queryHeads: number): EngineValue {
  const count = keys.shape[1] as number;
  if (count === queryHeads) return keys;
  if (count !== 1) node.refuse(`${queryHeads} query heads over ${count} key heads`);
  return node.graph.expand(node.label, keys, keys.shape.with(1, queryHeads));
}

interface Scores {
  /** The products of queries and keys. */
  readonly raw: EngineValue;
  /** With bias and cap: what the softmax takes. */
  readonly final: EngineValue;
}

function scoresOf(node: NodeContext, maths: Maths, raw: EngineValue, bias: AttentionBias): Scores {
  const cap = node.float("softcap", 0);
  if (cap > 0 && (bias.known !== null || bias.computed !== null)) {
    node.refuse("softcap with a mask, whose order differs between ONNX's versions");
  }
  let final = raw;
  if (cap > 0) final = maths.affine(maths.unary("tanh", maths.affine(raw, 1 / cap)), cap);
  if (bias.computed !== null) final = maths.add(final, bias.computed);
  if (bias.known !== null)
    final = maths.add(final, maths.constant(bias.known.values, bias.known.dims));
  return { raw, final };
}

/** What the fourth output shows. Modes 1 and 2 have changed places between ONNX's versions. */
function shown(
  node: NodeContext,
  scores: Scores,
  weights: EngineValue,
  masked: boolean,
): EngineValue {
  const mode = node.int("qk_matmul_output_mode", 0);
  const capped = node.float("softcap", 0) > 0;
  if (mode === 0) return scores.raw;
  if (mode === 3) return weights;
  if (mode === 1 && !capped && !masked) return scores.raw;
  if (mode === 2) return scores.final;
  return node.refuse(`qk_matmul_output_mode ${mode} with a mask or softcap`);
}

/** softmax(scale·Q·Kᵀ + bias)·V in ONNX's layouts (opsets 23 and 24). */
function attention(node: NodeContext): readonly Operand[] {
  const [q, k, v] = [node.input(0), node.input(1), node.input(2)];
  if (![q, k, v].every(({ dtype }) => isFloat(dtype) && dtype === q.dtype))
    node.refuse("operands of different types");
  const maths = new Maths(node, q.dtype);
  const queries = heads(node, maths, q, "q_num_heads");
  const keys = past(node, maths, 4, heads(node, maths, k, "kv_num_heads"));
  const values = past(node, maths, 5, heads(node, maths, v, "kv_num_heads"));
  const [batch = 0, count = 0, rows = 0, size = 0] = queries.shape;
  const columns = keys.shape[2] as number;
  const grown = columns !== k.dims.at(-2);
  const scale = node.float("scale", 1 / Math.sqrt(size));
  const products = maths.matmul(queries, shared(node, keys, count), true);
  const bias = biasOf(node, { batch, heads: count, rows, columns, past: grown });
  const scores = scoresOf(node, maths, maths.affine(products, scale), bias);
  const weights = maths.unary("softmax", scores.final, { axis: -1 });
  const y = maths.matmul(weights, shared(node, values, count));
  const turned = q.dims.length === 4 ? y : flat(maths, y);
  const masked = bias.known !== null || bias.computed !== null;
  const results = [node.result(turned, turned.shape, q.dtype)];
  if (node.outputCount > 1) results.push(node.result(keys, keys.shape, k.dtype));
  if (node.outputCount > 2) results.push(node.result(values, values.shape, v.dtype));
  if (node.wantsOutput(3)) {
    const seen = shown(node, scores, weights, masked);
    results.push(node.result(seen, seen.shape, q.dtype));
  }
  return results;
}

/** (B, heads, length, size) → (B, length, heads·size). */
function flat(maths: Maths, y: EngineValue): EngineValue {
  const [batch = 0, count = 0, rows = 0, size = 0] = y.shape;
  return maths.reshape(maths.transpose(y, [0, 2, 1, 3]), [batch, rows, count * size]);
}

/** cos or sin as (B or 1, T, 1, r/2): rows of the cache at known positions, or the cache itself. */
function rotation(node: NodeContext, maths: Maths, cache: Operand, batch: number): EngineValue {
  const positions = node.optional(3);
  if (positions === undefined) {
    const [first = 0, length = 0, half = 0] = cache.dims;
    if (cache.dims.length !== 3 || first !== batch) node.refuse("a cache of another batch");
    return maths.reshape(node.plain(cache), [first, length, 1, half]);
  }
  const ids = node.integers(positions, "position ids");
  const { dims, places } = gatherPlaces(cache.dims, ids, positions.dims, 0);
  const [first = 0, length = 0, half = 0] = dims;
  if (dims.length !== 3) node.refuse(`position ids of sizes (${positions.dims.join(", ")})`);
  return maths.take(node.plain(cache), [first, length, 1, half], places);
}

/** Each entry's partner in the rotated part: (first, second) halves, or even and odd places. */
function partners(
  x: EngineValue,
  width: number,
  interleaved: boolean,
): readonly [Int32Array, Int32Array] {
  const half = width / 2;
  const size = x.shape.at(-1) as number;
  const dims = x.shape.with(-1, half);
  const first = new Int32Array(dims.reduce((product, each) => product * each, 1));
  const second = new Int32Array(first.length);
  forEachIndex(dims, (index, place) => {
    const pair = index.at(-1) as number;
    const row = Math.floor(place / half) * size;
    first[place] = row + (interleaved ? 2 * pair : pair);
    second[place] = row + (interleaved ? 2 * pair + 1 : pair + half);
  });
  return [first, second];
}

/** Rotates pairs of each head's entries by the caches' angles. (B, heads, T, d), or (B, T, heads·d) with num_heads. */
function rotaryEmbedding(node: NodeContext): Operand {
  const x = node.input(0);
  if (!isFloat(x.dtype)) node.refuse(`an operand of type ${x.dtype}`);
  const maths = new Maths(node, x.dtype);
  const [batch = 0] = x.dims;
  const rows = tokensFirst(node, maths, x);
  const size = rows.shape.at(-1) as number;
  const width = node.int("rotary_embedding_dim", 0) || size;
  if (width % 2 !== 0 || width > size) node.refuse(`a rotation of ${width} of ${size}`);
  const cos = rotation(node, maths, node.input(1), batch);
  const sin = rotation(node, maths, node.input(2), batch);
  if (cos.shape.at(-1) !== width / 2 || cos.shape[1] !== rows.shape[1])
    node.refuse(`a cache of (${cos.shape.join(", ")})`);
  const interleaved = node.int("interleaved", 0) !== 0;
  const halves = rows.shape.with(-1, width / 2);
  const [a, b] = partners(rows, width, interleaved).map((index) =>
    maths.take(rows, halves, index),
  ) as [EngineValue, EngineValue];
  const real = maths.sub(maths.mul(a, cos), maths.mul(b, sin));
  const imaginary = maths.add(maths.mul(a, sin), maths.mul(b, cos));
  const rotated = joined(maths, real, imaginary, interleaved);
  const whole =
    width === size
      ? rotated
      : maths.concat([rotated, maths.narrow(rows, 3, width, size - width)], 3);
  const y =
    x.dims.length === 4 ? maths.transpose(whole, [0, 2, 1, 3]) : maths.reshape(whole, x.dims);
  return node.result(y, x.dims, x.dtype);
}

function joined(
  maths: Maths,
  real: EngineValue,
  imaginary: EngineValue,
  interleaved: boolean,
): EngineValue {
  if (!interleaved) return maths.concat([real, imaginary], 3);
  const pair = [...real.shape, 1];
  const both = maths.concat([maths.reshape(real, pair), maths.reshape(imaginary, pair)], 4);
  return maths.reshape(both, real.shape.with(-1, 2 * (real.shape.at(-1) as number)));
}

/** (B, T, heads, d). */
function tokensFirst(node: NodeContext, maths: Maths, x: Operand): EngineValue {
  const value = node.plain(x);
  if (x.dims.length === 4) return maths.transpose(value, [0, 2, 1, 3]);
  const [batch = 0, length = 0, width = 0] = x.dims;
  const count = node.int("num_heads", 0);
  if (x.dims.length !== 3 || !(count > 0) || width % count !== 0)
    node.refuse(`(${x.dims.join(", ")}) with ${count} heads`);
  return maths.reshape(value, [batch, length, count, width / count]);
}

/** Transformers' operators. */
export const importers: Importers = namedImporters({
  Attention: attention,
  RotaryEmbedding: rotaryEmbedding,
});
