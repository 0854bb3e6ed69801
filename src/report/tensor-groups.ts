import type { TensorRow } from "./tensor-rows.js";

/** Tensors that belong together, as their names or their order say. */
export interface TensorGroup {
  readonly name: string;
  readonly tensors: number;
  /** Units: those masked, and the candidates. */
  readonly masked: number;
  readonly total: number;
}

// More groups than this cannot be taken in at a glance.
const kMaxGroups = 12;
const kQuarters = ["first quarter", "second quarter", "third quarter", "last quarter"];

// The leading parts that all names share ("model.") tell nothing apart. The last part ("weight") is never one of them.
function sharedParts(paths: readonly (readonly string[])[]): number {
  const shortest = paths.reduce((least, path) => Math.min(least, path.length), Infinity);
  const differs = (depth: number) => paths.some((path) => path[depth] !== paths[0]?.[depth]);
  let depth = 0;
  while (depth < shortest - 1 && !differs(depth)) {
    depth++;
  }
  return Number.isFinite(shortest) ? depth : 0;
}

function gather(rows: readonly TensorRow[], nameOf: (row: TensorRow) => string): TensorGroup[] {
  const groups = new Map<string, TensorGroup>();
  for (const row of rows) {
    const name = nameOf(row);
    const sum = groups.get(name) ?? { name, tensors: 0, masked: 0, total: 0 };
    groups.set(name, {
      name,
      tensors: sum.tensors + 1,
      masked: sum.masked + row.masked,
      total: sum.total + row.total,
    });
  }
  return [...groups.values()];
}

/** The last quarter of the rows by their order, rounded down: none of fewer than four. */
export function lastQuarter(rows: readonly TensorRow[]): TensorRow[] {
  return rows.slice(rows.length - Math.floor(rows.length / 4));
}

/**
 * The tensors by stage, in network order: by the first part of the name that tells them apart ("layer1", "features"); by
 * quarters of the network where the names would give more than twelve stages.
 *
 * @param rows the tensors with candidates, in network order
 */
export function tensorGroups(rows: readonly TensorRow[]): TensorGroup[] {
  const paths = rows.map((row) => row.name.split("."));
  const depth = sharedParts(paths);
  const places = new Map(rows.map((row, place) => [row, place]));
  const groups = gather(rows, (row) => row.name.split(".")[depth] ?? row.name);
  if (groups.length <= kMaxGroups) {
    return groups;
  }
  const quarterOf = (row: TensorRow) => Math.floor((4 * (places.get(row) ?? 0)) / rows.length);
  return gather(rows, (row) => kQuarters[quarterOf(row)] ?? "");
}
