/**
 * Where each element of a result stands in its source: operators that only move values are this map, for constants
 * (`takeElements`) as for the engine (op `take`). Flat row-major places; −1 stands for a fill.
 */
import { broadcastDims, elementCount } from "../operand.js";
import { foldAxis, foldError, stridesOf } from "./array.js";

export interface Places {
  readonly dims: readonly number[];
  readonly places: Int32Array;
}

/** More than this many places are refused: the sizes may come from a hostile file. */
const kMostPlaces = 2 ** 26;

function countOf(dims: readonly number[]): number {
  const count = elementCount(dims);
  if (dims.some((size) => !(size >= 0)) || !(count <= kMostPlaces)) {
    throw foldError(`at most ${kMostPlaces} elements`, `(${dims.join()})`);
  }
  return count;
}

/** Calls with each multi-index of the sizes in row-major order. The array is reused between calls. */
export function forEachIndex(
  dims: readonly number[],
  visit: (index: readonly number[], flat: number) => void,
): void {
  const count = countOf(dims);
  const index = dims.map(() => 0);
  for (let flat = 0; flat < count; flat++) {
    visit(index, flat);
    for (let axis = dims.length - 1; axis >= 0; axis--) {
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (dims[axis] as number)) break;
      index[axis] = 0;
    }
  }
}

function mapPlaces(
  dims: readonly number[],
  place: (index: readonly number[], flat: number) => number,
): Places {
  const count = countOf(dims);
  const places = new Int32Array(count);
  forEachIndex(dims, (index, flat) => {
    places[flat] = place(index, flat);
  });
  return { dims, places };
}

/** A result whose place along each axis of the source is a table's entry at the result's index along it (−1: the fill). */
export function tablePlaces(
  source: readonly number[],
  tables: readonly (readonly number[])[],
): Places {
  const strides = stridesOf(source);
  const dims = tables.map((table) => table.length);
  return mapPlaces(dims, (index) => {
    let place = 0;
    for (let axis = 0; axis < dims.length; axis++) {
      const at = (tables[axis] as readonly number[])[index[axis] as number] as number;
      if (at < 0) return -1;
      place += at * (strides[axis] as number);
    }
    return place;
  });
}

export function identityTables(dims: readonly number[]): number[][] {
  return dims.map((size) => Array.from({ length: size }, (_, i) => i));
}

export function transposePlaces(dims: readonly number[], perm: readonly number[]): Places {
  const strides = stridesOf(dims);
  return mapPlaces(
    perm.map((axis) => dims[axis] as number),
    (index) =>
      perm.reduce((sum, axis, i) => sum + (index[i] as number) * (strides[axis] as number), 0),
  );
}

/** The source repeated to the sizes that it broadcasts to. */
export function broadcastPlaces(source: readonly number[], dims: readonly number[]): Places {
  const lead = dims.length - source.length;
  const strides = stridesOf(source);
  return mapPlaces(dims, (index) => {
    let place = 0;
    for (let axis = 0; axis < source.length; axis++) {
      if (source[axis] !== 1) place += (index[axis + lead] as number) * (strides[axis] as number);
    }
    return place;
  });
}

/** ONNX Expand: both sides broadcast. */
export function expandPlaces(source: readonly number[], shape: readonly number[]): Places {
  const dims = broadcastDims(source, shape);
  if (dims === undefined)
    throw foldError(`sizes that (${source.join()}) broadcasts with`, `(${shape.join()})`);
  return broadcastPlaces(source, dims);
}

export function tilePlaces(source: readonly number[], repeats: readonly number[]): Places {
  if (repeats.length !== source.length || repeats.some((times) => times < 0)) {
    throw foldError(`${source.length} repeats`, `(${repeats.join()})`);
  }
  return tablePlaces(
    source,
    source.map((size, axis) =>
      Array.from({ length: size * (repeats[axis] as number) }, (_, i) => i % size),
    ),
  );
}

/** y[i] = x[starts + i·steps] with these sizes. */
export function slicePlaces(
  source: readonly number[],
  starts: readonly number[],
  steps: readonly number[],
  sizes: readonly number[],
): Places {
  return tablePlaces(
    source,
    sizes.map((size, axis) =>
      Array.from(
        { length: size },
        (_, i) => (starts[axis] as number) + i * (steps[axis] as number),
      ),
    ),
  );
}

/** An index counted from the end where negative. */
export function wrapIndex(index: number, size: number): number {
  const place = index < 0 ? index + size : index;
  if (!(Number.isInteger(place) && place >= 0 && place < size)) {
    throw foldError(`an index of ${size} elements`, String(index));
  }
  return place;
}

/** ONNX Gather: the axis's size is replaced by the sizes of the ids. */
export function gatherPlaces(
  source: readonly number[],
  ids: readonly number[],
  idDims: readonly number[],
  axis: number,
): Places {
  const size = source[axis] as number;
  const rows = ids.map((id) => wrapIndex(id, size));
  const tables = identityTables(source).with(axis, rows);
  const { places } = tablePlaces(source, tables);
  return { dims: [...source.slice(0, axis), ...idDims, ...source.slice(axis + 1)], places };
}

/** Where each id of GatherElements or ScatterElements points in the data. */
export function elementPlaces(
  source: readonly number[],
  ids: readonly number[],
  idDims: readonly number[],
  axis: number,
): Places {
  if (idDims.length !== source.length)
    throw foldError("indices of the data's rank", `(${idDims.join()})`);
  const strides = stridesOf(source);
  return mapPlaces(idDims, (index, flat) => {
    const at = index.map((each, i) =>
      wrapIndex(i === axis ? (ids[flat] as number) : each, source[i] as number),
    );
    return at.reduce((sum, each, i) => sum + each * (strides[i] as number), 0);
  });
}

/** Where each slice of GatherND or ScatterND lies: ids (batch…, …, k) → places (batch…, …, rest…). */
export function ndPlaces(
  source: readonly number[],
  ids: readonly number[],
  idDims: readonly number[],
  batchDims: number,
): Places {
  const depth = idDims.at(-1) ?? 0;
  const outer = idDims.slice(0, -1);
  const rest = source.slice(batchDims + depth);
  if (batchDims + depth > source.length || idDims.length <= batchDims) {
    throw foldError(`indices of at most ${source.length - batchDims} sizes`, `(${idDims.join()})`);
  }
  const strides = stridesOf(source);
  const restCount = elementCount(rest);
  return mapPlaces([...outer, ...rest], (index, flat) => {
    const row = Math.floor(flat / restCount);
    let place = flat % restCount;
    for (let i = 0; i < batchDims; i++)
      place += wrapIndex(index[i] as number, source[i] as number) * (strides[i] as number);
    for (let i = 0; i < depth; i++) {
      const axis = batchDims + i;
      place +=
        wrapIndex(ids[row * depth + i] as number, source[axis] as number) *
        (strides[axis] as number);
    }
    return place;
  });
}

/** Blocks of an image's channels moved into its height and width. (N, C·b·b, H, W) → (N, C, H·b, W·b). */
export function depthToSpacePlaces(
  source: readonly number[],
  block: number,
  columnRowDepth: boolean,
): Places {
  const [batch = 0, channels = 0, height = 0, width = 0] = source;
  const depth = channels / (block * block);
  if (source.length !== 4 || !Number.isInteger(depth)) {
    throw foldError(`(N, C·${block}·${block}, H, W)`, `(${source.join()})`);
  }
  return mapPlaces([batch, depth, height * block, width * block], ([n, c, y, x]) => {
    const [row, column] = [(y as number) % block, (x as number) % block];
    const cell = row * block + column;
    const channel = columnRowDepth
      ? (c as number) * block * block + cell
      : cell * depth + (c as number);
    const [top, left] = [Math.floor((y as number) / block), Math.floor((x as number) / block)];
    return (((n as number) * channels + channel) * height + top) * width + left;
  });
}

/** (N, C, H·b, W·b) → (N, C·b·b, H, W). */
export function spaceToDepthPlaces(source: readonly number[], block: number): Places {
  const [batch = 0, channels = 0, height = 0, width = 0] = source;
  const [rows, columns] = [height / block, width / block];
  if (source.length !== 4 || !Number.isInteger(rows) || !Number.isInteger(columns)) {
    throw foldError(`(N, C, H·${block}, W·${block})`, `(${source.join()})`);
  }
  return mapPlaces([batch, channels * block * block, rows, columns], ([n, d, y, x]) => {
    const cell = Math.floor((d as number) / channels);
    const channel = (d as number) % channels;
    const row = (y as number) * block + Math.floor(cell / block);
    const column = (x as number) * block + (cell % block);
    return (((n as number) * channels + channel) * height + row) * width + column;
  });
}

/** Keeps the upper or lower triangle of the last two sizes; −1 elsewhere. */
export function triluPlaces(source: readonly number[], diagonal: number, upper: boolean): Places {
  if (source.length < 2) throw foldError("a matrix", `(${source.join()})`);
  return mapPlaces(source, (index, flat) => {
    const distance = (index.at(-1) as number) - (index.at(-2) as number);
    return (upper ? distance >= diagonal : distance <= diagonal) ? flat : -1;
  });
}

/** Reverses the first `lengths[b]` steps of each sequence b. */
export function reverseSequencePlaces(
  source: readonly number[],
  lengths: readonly number[],
  timeAxis: number,
  batchAxis: number,
): Places {
  const steps = source[timeAxis] as number;
  if (
    timeAxis === batchAxis ||
    lengths.length !== source[batchAxis] ||
    lengths.some((n) => n < 0 || n > steps)
  ) {
    throw foldError(`${source[batchAxis]} lengths of at most ${steps}`, `(${lengths.join()})`);
  }
  const strides = stridesOf(source);
  return mapPlaces(source, (index, flat) => {
    const time = index[timeAxis] as number;
    const length = lengths[index[batchAxis] as number] as number;
    if (time >= length) return flat;
    return flat + (length - 1 - 2 * time) * (strides[timeAxis] as number);
  });
}

export type PadMode = "constant" | "reflect" | "edge" | "wrap";

/** Where each element of one padded axis comes from; −1 is the fill. */
export function padTable(size: number, before: number, after: number, mode: PadMode): number[] {
  const length = size + before + after;
  if (length < 0) throw foldError("pads that leave something", `(${before}, ${after}) of ${size}`);
  const within = (place: number): boolean => place >= 0 && place < size;
  return Array.from({ length }, (_, i) => {
    const place = i - before;
    if (within(place)) return place;
    if (mode === "constant" || size === 0) return -1;
    if (mode === "edge") return place < 0 ? 0 : size - 1;
    if (mode === "wrap") return ((place % size) + size) % size;
    const period = 2 * (size - 1);
    if (period === 0) return 0;
    const folded = ((place % period) + period) % period;
    return folded < size ? folded : period - folded;
  });
}

/** ONNX Pad: negative pads crop. One `before` and `after` per size. */
export function padPlaces(
  source: readonly number[],
  before: readonly number[],
  after: readonly number[],
  mode: PadMode,
): Places {
  const cropped = source.some(
    (size, i) => size + Math.min(before[i] as number, 0) + Math.min(after[i] as number, 0) < 0,
  );
  if (cropped) {
    throw foldError(
      "pads that crop no more than there is",
      `(${before.join()}), (${after.join()})`,
    );
  }
  // What a reflection of a cropped axis is, the standard leaves open.
  const mixed = source.some((size, i) => {
    const [first, last] = [before[i] as number, after[i] as number];
    return (first > 0 || last > 0) && (first < 0 || last < 0 || size === 0);
  });
  if (mode !== "constant" && mixed) {
    throw foldError(
      `axes to ${mode} that are not cropped`,
      `(${before.join()}), (${after.join()})`,
    );
  }
  return tablePlaces(
    source,
    source.map((size, i) => padTable(size, before[i] as number, after[i] as number, mode)),
  );
}

/** ONNX CenterCropPad: the middle of each axis, or zeros around it. */
export function centerPlaces(
  source: readonly number[],
  sizes: readonly number[],
  axes: readonly number[],
): Places {
  const tables = identityTables(source);
  axes.forEach((axis, i) => {
    const size = source[axis] as number;
    const wanted = sizes[i] as number;
    // Cropping starts at the floor of half the surplus, and so does padding.
    const start =
      wanted < size ? Math.floor((size - wanted) / 2) : -Math.floor((wanted - size) / 2);
    tables[axis] = Array.from({ length: wanted }, (_, j) => {
      const place = start + j;
      return place >= 0 && place < size ? place : -1;
    });
  });
  return tablePlaces(source, tables);
}

/** ONNX Compress: the entries of an axis, or of the flattened data, whose condition holds. */
export function compressPlaces(
  source: readonly number[],
  condition: readonly number[],
  axis: number | null,
): Places {
  const dims = axis === null ? [elementCount(source)] : source;
  const along = axis === null ? 0 : foldAxis(axis, source.length);
  if (condition.length > (dims[along] as number)) {
    throw foldError(`at most ${dims[along]} conditions`, String(condition.length));
  }
  const kept = condition.flatMap((holds, i) => (holds ? [i] : []));
  return tablePlaces(dims, identityTables(dims).with(along, kept));
}
