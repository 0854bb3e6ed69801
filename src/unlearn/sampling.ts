import type { Dataset } from "../data/dataset.js";
import { randomStream } from "../data/random-stream.js";
import { shuffled } from "../data/shuffle.js";

/** Up to `count` of the indices, ascending, drawn under (seed, round); all of them for null. */
export function drawSamples(
  indices: Int32Array,
  count: number | null,
  seed: number,
  round: number,
): Int32Array {
  if (count === null || count >= indices.length) return indices;
  return shuffled(indices, randomStream("forget", seed, round))
    .slice(0, count)
    .sort();
}

/** Indices by label. */
export function byClass(dataset: Dataset, indices: Int32Array): Map<number, Int32Array> {
  const lists = new Map<number, number[]>();
  for (const index of indices) {
    const label = dataset.labels[index] as number;
    const list = lists.get(label);
    if (list === undefined) lists.set(label, [index]);
    else list.push(index);
  }
  return new Map(
    [...lists].sort(([a], [b]) => a - b).map(([label, list]) => [label, Int32Array.from(list)]),
  );
}

/**
 * About `count` of the indices, the same number of each class as far as there are that many, ascending; all for null.
 */
export function drawStratified(
  dataset: Dataset,
  indices: Int32Array,
  count: number | null,
  seed: number,
  round: number,
): Int32Array {
  if (count === null || count >= indices.length) return indices;
  const classes = byClass(dataset, indices);
  const each = Math.max(1, Math.floor(count / Math.max(classes.size, 1)));
  const drawn = [...classes.values()].flatMap((list) => [...drawSamples(list, each, seed, round)]);
  return Int32Array.from(drawn).sort();
}

/** The indices without those in the set. */
export function without(indices: Int32Array, excluded: ReadonlySet<number>): Int32Array {
  return excluded.size === 0 ? indices : indices.filter((index) => !excluded.has(index));
}
