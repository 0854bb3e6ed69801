import { pickTaps, resample, takePlaces } from "../axes.js";
import type { Importers, NodeContext } from "../context.js";
import type { EngineValue } from "../engine-graph.js";
import { takeElements } from "../fold/array.js";
import {
  compressPlaces,
  elementPlaces,
  forEachIndex,
  ndPlaces,
  reverseSequencePlaces,
  wrapIndex,
} from "../fold/places.js";
import { oneHotPlaces } from "../fold/select.js";
import { namedImporters } from "../naming.js";
import { elementCount, type Operand, sameDims } from "../operand.js";

/** A row of an embedding for each id of a run-time input. */
function embedding(node: NodeContext, table: Operand, ids: Operand): Operand | undefined {
  if (table.kind !== "parameter" || table.dims.length !== 2) return undefined;
  const weight = node.tryParameter(table, "embedding");
  if (weight === undefined) return undefined;
  node.note(
    `an id of −1 is padding for ${table.initializer}, unlike ONNX's, where it is the last row`,
  );
  const width = table.dims[1] as number;
  const rows = node.ids(ids);
  const layout = rows.shape.length === ids.dims.length ? "plain" : "unbatched";
  const made = node.emit("embedding", [rows], [...rows.shape, width], { parameters: { weight } });
  return node.result(made, [...ids.dims, width], table.dtype, layout);
}

function gatherAtRunTime(node: NodeContext, x: Operand, ids: Operand, axis: number): Operand {
  const rows = axis === 0 ? embedding(node, x, ids) : undefined;
  if (rows !== undefined) return rows;
  const dims = [...x.dims.slice(0, axis), ...ids.dims, ...x.dims.slice(axis + 1)];
  const places = node.ids(ids);
  if (places.shape.length !== ids.dims.length) node.refuse("ids of a sequence as places");
  const value = node.emit("gather", [node.plain(x), places], dims, { attributes: { axis } });
  return node.result(value, dims, x.dtype);
}

/** Neighbours along the axis are a slice; undefined where the ids are none. */
function neighbours(
  node: NodeContext,
  x: Operand,
  ids: readonly number[],
  idDims: readonly number[],
  axis: number,
): Operand | undefined {
  const rows = ids.map((id) => wrapIndex(id, x.dims[axis] as number));
  const [first] = rows;
  if (first === undefined || rows.some((row, i) => row !== first + i)) return undefined;
  const part = node.graph.narrow(node.label, node.plain(x), axis, first, rows.length);
  const dims = [...x.dims.slice(0, axis), ...idDims, ...x.dims.slice(axis + 1)];
  return node.result(node.graph.reshape(node.label, part, dims), dims, x.dtype);
}

/** The axis's entries in the order of the ids, whose sizes then take the axis's place. */
function entries(
  node: NodeContext,
  x: Operand,
  ids: readonly number[],
  idDims: readonly number[],
  axis: number,
): Operand {
  const rows = ids.map((id) => wrapIndex(id, x.dims[axis] as number));
  const picked = resample(node, x, new Map([[axis, pickTaps(rows)]]));
  if (idDims.length === 1) return picked;
  const dims = [...x.dims.slice(0, axis), ...idDims, ...x.dims.slice(axis + 1)];
  return node.result(node.graph.reshape(node.label, node.plain(picked), dims), dims, x.dtype);
}

function gather(node: NodeContext): Operand {
  const [x, ids] = [node.input(0), node.input(1)];
  const axis = node.axis(node.int("axis", 0), x.dims.length);
  if (node.known(ids) === undefined) return gatherAtRunTime(node, x, ids, axis);
  if (x.kind === "parameter" && axis === 0 && x.dims.length === 2)
    node.tryParameter(x, "embedding");
  const places = node.integers(ids, "indices");
  return neighbours(node, x, places, ids.dims, axis) ?? entries(node, x, places, ids.dims, axis);
}

function gatherElements(node: NodeContext): Operand {
  const [x, ids] = [node.input(0), node.input(1)];
  const axis = node.axis(node.int("axis", 0), x.dims.length);
  return takePlaces(node, x, elementPlaces(x.dims, node.integers(ids, "indices"), ids.dims, axis));
}

function gatherNd(node: NodeContext): Operand {
  const [x, ids] = [node.input(0), node.input(1)];
  const batch = node.int("batch_dims", 0);
  return takePlaces(node, x, ndPlaces(x.dims, node.integers(ids, "indices"), ids.dims, batch));
}

/** The data with updates at flat places, one after the other. */
function scattered(
  node: NodeContext,
  data: Operand,
  updates: Operand,
  { dims, places }: { readonly dims: readonly number[]; readonly places: Int32Array },
): Operand {
  const reduction = node.string("reduction", "none");
  if (!["none", "add", "mul", "max", "min"].includes(reduction))
    node.refuse(`reduction ${reduction}`);
  if (data.dtype !== updates.dtype) node.refuse(`updates of type ${updates.dtype}`);
  if (!sameDims(dims, updates.dims)) node.refuse(`updates of sizes (${updates.dims.join(", ")})`);
  const inputs: EngineValue[] = [node.plain(data), node.plain(updates)];
  const value = node.emit("scatter", inputs, data.dims, {
    attributes: { index: Array.from(places), reduction },
  });
  return node.result(value, data.dims, data.dtype);
}

function scatterElements(node: NodeContext): Operand {
  const [data, ids, updates] = [node.input(0), node.input(1), node.input(2)];
  const axis = node.axis(node.int("axis", 0), data.dims.length);
  const places = elementPlaces(data.dims, node.integers(ids, "indices"), ids.dims, axis);
  return scattered(node, data, updates, places);
}

function scatterNd(node: NodeContext): Operand {
  const [data, ids, updates] = [node.input(0), node.input(1), node.input(2)];
  const places = ndPlaces(data.dims, node.integers(ids, "indices"), ids.dims, 0);
  return scattered(node, data, updates, places);
}

function compress(node: NodeContext): Operand {
  const x = node.input(0);
  const condition = node.integers(node.input(1), "condition");
  const axis = node.has("axis") ? node.int("axis") : null;
  return takePlaces(node, x, compressPlaces(x.dims, condition, axis));
}

/** The values are [off, on]; ids and depth must be known. */
function oneHot(node: NodeContext): Operand {
  const [ids, depth, values] = [node.input(0), node.input(1), node.input(2)];
  const count = Math.trunc(node.scalar(depth, "depth"));
  if (elementCount(values.dims) !== 2) node.refuse("values other than off and on");
  if (!(count >= 1) || elementCount(ids.dims) * count > 2 ** 26) node.refuse(`a depth of ${count}`);
  const places = oneHotPlaces(node.numbers(ids, "indices"), ids.dims, count, node.int("axis", -1));
  if (values.kind === "constant") {
    return node.constant(takeElements(values.array, places.dims, places.places));
  }
  return takePlaces(node, values, places);
}

function reverseSequence(node: NodeContext): Operand {
  const [x, lengths] = [node.input(0), node.input(1)];
  const time = node.axis(node.int("time_axis", 0), x.dims.length);
  const batch = node.axis(node.int("batch_axis", 1), x.dims.length);
  const steps = node.integers(lengths, "sequence lengths");
  return takePlaces(node, x, reverseSequencePlaces(x.dims, steps, time, batch));
}

/** Writes a run of steps into a cache at each sample's known place, going round where the mode is circular. */
function tensorScatter(node: NodeContext): Operand {
  const [cache, update, start] = [node.input(0), node.input(1), node.optional(2)];
  const axis = node.axis(node.int("axis", -2), cache.dims.length);
  const mode = node.string("mode", "linear");
  if (mode !== "linear" && mode !== "circular") node.refuse(`mode ${mode}`);
  const size = cache.dims[axis] as number;
  if (axis === 0 || !sameDims(update.dims.with(axis, size), cache.dims)) {
    node.refuse(`updates of sizes (${update.dims.join(", ")})`);
  }
  const starts = start ? node.integers(start, "write indices") : cache.dims.map(() => 0);
  const ids: number[] = [];
  forEachIndex(update.dims, (index) => {
    const step = (starts[index[0] as number] as number) + (index[axis] as number);
    if (step < 0 || (mode === "linear" && step >= size)) node.refuse(`a write index of ${step}`);
    ids.push(step % size);
  });
  return scattered(node, cache, update, elementPlaces(cache.dims, ids, update.dims, axis));
}

/** Operators that pick or replace elements at known places, and embeddings by run-time ids. */
export const importers: Importers = namedImporters({
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherNd,
  Scatter: scatterElements,
  ScatterElements: scatterElements,
  ScatterND: scatterNd,
  Compress: compress,
  OneHot: oneHot,
  ReverseSequence: reverseSequence,
  TensorScatter: tensorScatter,
});
