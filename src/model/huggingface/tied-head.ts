import type { Graph } from "../graph.js";
import type { StoredParameter } from "./network.js";

const kHead = "lm_head.weight";

/**
 * Where the graph's head is its embedding and the files hold a head all the same: the second place where the embedding is
 * stored, so that a change reaches both.
 */
export function tiedHead(
  graph: Graph,
  embedding: string,
  tensors: ReadonlySet<string>,
): readonly (readonly [string, StoredParameter])[] {
  const tied = !graph.parameters.some(({ name }) => name === kHead);
  if (!tied || !tensors.has(kHead)) return [];
  return [[embedding, { tensors: [embedding, kHead], transposed: false }]];
}
