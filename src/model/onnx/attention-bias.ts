import type { NodeContext } from "./context.js";
import type { EngineValue } from "./engine-graph.js";
import { takeElements } from "./fold/array.js";
import { broadcastPlaces, forEachIndex } from "./fold/places.js";
import { broadcastDims, elementCount, isFloat } from "./operand.js";

/** What is added to the scores (B, heads, rows, columns) before the softmax. */
export interface AttentionBias {
  /** 0 and −∞, or other numbers known at import; broadcasts to the scores. */
  readonly known: { readonly values: readonly number[]; readonly dims: readonly number[] } | null;
  /** A mask that the engine computes. */
  readonly computed: EngineValue | null;
}

/** Taken from the scores that a bool mask hides: enough for a weight of exactly 0. As `pad_mask` has it. */
const kHidden = 1e9;

export interface ScoreSizes {
  readonly batch: number;
  readonly heads: number;
  readonly rows: number;
  readonly columns: number;
  /** Keys of earlier calls stand in front. */
  readonly past: boolean;
}

type KnownBias = NonNullable<AttentionBias["known"]>;

/** −∞ above the diagonal. */
function causal(node: NodeContext, { rows, columns, past }: ScoreSizes): KnownBias | null {
  if (node.int("is_causal", 0) === 0) return null;
  if (past || node.optional(6)) {
    node.refuse("is_causal with earlier keys, which ONNX's versions align differently");
  }
  const values: number[] = [];
  forEachIndex([rows, columns], ([row = 0, column = 0]) =>
    values.push(column > row ? Number.NEGATIVE_INFINITY : 0),
  );
  return { values, dims: [rows, columns] };
}

/** −∞ behind each sequence's known length. */
function padding(node: NodeContext, { batch, columns }: ScoreSizes): KnownBias | null {
  const lengths = node.optional(6);
  if (lengths === undefined) return null;
  const counts = node.integers(lengths, "sequence lengths");
  if (counts.length !== batch) node.refuse(`${counts.length} sequence lengths`);
  const values: number[] = [];
  forEachIndex([batch, columns], ([sample = 0, column = 0]) =>
    values.push(column < (counts[sample] as number) ? 0 : Number.NEGATIVE_INFINITY),
  );
  return { values, dims: [batch, 1, 1, columns] };
}

/** A mask that is known: bools are where to look, floats are added. A short one hides the keys behind its end. */
function knownMask(node: NodeContext, { columns }: ScoreSizes): KnownBias | null {
  const mask = node.optional(3);
  const array = mask && node.known(mask);
  if (mask === undefined || array === undefined) return null;
  const width = mask.dims.at(-1) ?? 0;
  const bool = mask.dtype === "bool";
  if (!bool && !isFloat(mask.dtype)) node.refuse(`a mask of type ${mask.dtype}`);
  if (width > columns || (width < columns && node.opset < 24)) {
    node.refuse(`a mask of ${width} keys for ${columns}`);
  }
  const given = node.numbers(mask, "mask");
  const rows = elementCount(mask.dims.slice(0, -1));
  const values = Array.from({ length: rows * columns }, (_, i) => {
    const column = i % columns;
    const value = given[Math.floor(i / columns) * width + column] as number;
    if (column >= width) return Number.NEGATIVE_INFINITY;
    if (!bool) return value;
    return value === 0 ? Number.NEGATIVE_INFINITY : 0;
  });
  return { values, dims: mask.dims.with(-1, columns) };
}

function sum(node: NodeContext, a: KnownBias | null, b: KnownBias | null): KnownBias | null {
  if (a === null || b === null) return a ?? b;
  const dims = broadcastDims(a.dims, b.dims);
  if (dims === undefined) return node.refuse(`a mask of sizes (${a.dims.join(", ")})`);
  const spread = ({ values, dims: own }: KnownBias): ArrayLike<number> => {
    const array = { dtype: "double", dims: own, data: Float64Array.from(values) } as const;
    return takeElements(array, dims, broadcastPlaces(own, dims).places).data as Float64Array;
  };
  const [left, right] = [spread(a), spread(b)];
  return { dims, values: Array.from(left, (value, i) => value + (right[i] as number)) };
}

/** A row that may look at nothing: what it gives differs between ONNX's versions. */
function checkRows(node: NodeContext, bias: KnownBias, columns: number): void {
  for (let start = 0; start < bias.values.length; start += columns) {
    const row = bias.values.slice(start, start + columns);
    if (row.every((value) => value === Number.NEGATIVE_INFINITY)) {
      node.refuse("a row whose mask hides every key");
    }
  }
}

/** Everything that the node adds to its scores. Refuses where ONNX's versions disagree. */
export function biasOf(node: NodeContext, sizes: ScoreSizes): AttentionBias {
  if (["left_window_size", "right_window_size"].some((name) => node.int(name, -1) !== -1)) {
    node.refuse("a sliding window");
  }
  const mask = node.optional(3);
  const own = knownMask(node, sizes);
  const known = sum(node, sum(node, own, causal(node, sizes)), padding(node, sizes));
  if (known !== null) checkRows(node, known, sizes.columns);
  const scores = [sizes.batch, sizes.heads, sizes.rows, sizes.columns];
  for (const dims of [known?.dims, mask?.dims.with(-1, sizes.columns)]) {
    if (dims && broadcastDims(scores, dims)?.join() !== scores.join()) {
      node.refuse(`a mask of sizes (${dims.join(", ")})`);
    }
  }
  if (mask === undefined || own !== null) return { known, computed: null };
  const bool = mask.dtype === "bool";
  if (!(isFloat(mask.dtype) || bool) || mask.dims.at(-1) !== sizes.columns) {
    node.refuse("a computed mask that is not of the scores' width, of floats or bools");
  }
  const value = node.plain(mask);
  // A row of padding that sees nothing stays finite: no label counts it.
  return {
    known,
    computed: bool ? node.graph.affine(node.label, value, kHidden, -kHidden) : value,
  };
}
