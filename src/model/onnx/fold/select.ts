import type { OnnxArray } from "../../../io/onnx/model.js";
import { elementCount, isFloat } from "../operand.js";
import {
  bigIntsOf,
  floatArray,
  foldAxis,
  foldError,
  int64Array,
  integerArray,
  numbersOf,
  stridesOf,
  takeElements,
  withDims,
} from "./array.js";
import type { Folder, Folders } from "./attributes.js";
import { concatArrays } from "./move.js";
import {
  elementPlaces,
  forEachIndex,
  identityTables,
  ndPlaces,
  type Places,
  tablePlaces,
} from "./places.js";

const nonZero: Folder = ([x]) => {
  if (!x) return null;
  const values = numbersOf(x);
  const found: number[][] = [];
  forEachIndex(x.dims, (index, flat) => {
    if (values[flat] !== 0) found.push([...index]);
  });
  const rows = x.dims.map((_, axis) => found.map((index) => index[axis] as number));
  return [int64Array([x.dims.length, found.length], rows.flat())];
};

/**
 * Where each element of ONNX OneHot comes from: 0 is the off value, 1 the on value. Indices count from the end when
 * negative; those out of range are off everywhere.
 */
export function oneHotPlaces(
  ids: readonly number[],
  idDims: readonly number[],
  depth: number,
  axis: number,
): Places {
  const along = foldAxis(axis, idDims.length + 1);
  const dims = idDims.toSpliced(along, 0, depth);
  const strides = stridesOf(idDims);
  const places = new Int32Array(elementCount(dims));
  forEachIndex(dims, (index, flat) => {
    const at = index.toSpliced(along, 1);
    const id = ids[at.reduce((sum, each, i) => sum + each * (strides[i] as number), 0)] as number;
    places[flat] = (id < 0 ? id + depth : id) === index[along] ? 1 : 0;
  });
  return { dims, places };
}

const oneHot: Folder = ([ids, depth, values], attributes) => {
  if (!ids || !depth || !values) return null;
  const [count = 0] = numbersOf(depth);
  if (!(count > 0 && count < 2 ** 26)) throw foldError("a depth of 1 or more", String(count));
  const chosen = oneHotPlaces(
    numbersOf(ids),
    ids.dims,
    Math.trunc(count),
    attributes.int("axis", -1),
  );
  return [takeElements(values, chosen.dims, chosen.places)];
};

type Reducer<T> = (a: T, b: T) => T;

const kReal: Readonly<Record<string, Reducer<number>>> = {
  none: (_, b) => b,
  add: (a, b) => a + b,
  mul: (a, b) => a * b,
  max: Math.max,
  min: Math.min,
};

const kWhole: Readonly<Record<string, Reducer<bigint>>> = {
  none: (_, b) => b,
  add: (a, b) => a + b,
  mul: (a, b) => a * b,
  max: (a, b) => (a > b ? a : b),
  min: (a, b) => (a < b ? a : b),
};

function scattered<T>(
  data: readonly T[],
  places: Int32Array,
  updates: readonly T[],
  reducer: Reducer<T>,
): T[] {
  const out = [...data];
  places.forEach((place, i) => {
    out[place] = reducer(out[place] as T, updates[i] as T);
  });
  return out;
}

function scatter(
  data: OnnxArray,
  updates: OnnxArray,
  places: Int32Array,
  reduction: string,
): readonly OnnxArray[] | null {
  const [real, whole] = [kReal[reduction], kWhole[reduction]];
  if (!real || !whole || data.dtype !== updates.dtype || updates.data.length !== places.length)
    return null;
  if (isFloat(data.dtype)) {
    const values = scattered(numbersOf(data), places, numbersOf(updates), real);
    return [floatArray(data.dtype, data.dims, values)];
  }
  if (data.dtype === "bool" && reduction !== "none") return null;
  const values = scattered(bigIntsOf(data), places, bigIntsOf(updates), whole);
  return [integerArray(data.dtype, data.dims, values)];
}

const scatterElements: Folder = ([data, ids, updates], attributes) => {
  if (!data || !ids || !updates) return null;
  const axis = foldAxis(attributes.int("axis", 0), data.dims.length);
  const { places } = elementPlaces(data.dims, numbersOf(ids), ids.dims, axis);
  return scatter(data, updates, places, attributes.string("reduction", "none"));
};

const scatterNd: Folder = ([data, ids, updates], attributes) => {
  if (!data || !ids || !updates) return null;
  const { places } = ndPlaces(data.dims, numbersOf(ids), ids.dims, 0);
  return scatter(data, updates, places, attributes.string("reduction", "none"));
};

/** The places of one line along an axis, best first; among equals the first is better. */
function ranking(values: readonly number[], largest: boolean): number[] {
  const order = values.map((_, i) => i);
  return order.sort((i, j) => {
    const difference = (values[i] as number) - (values[j] as number);
    return (largest ? -difference : difference) || i - j;
  });
}

/** 64-bit integers are ranked as doubles: beyond 2^53 they are not folded. */
function rankable(x: OnnxArray): boolean {
  return numbersOf(x).every((value) =>
    isFloat(x.dtype) ? !Number.isNaN(value) : Number.isSafeInteger(value),
  );
}

const topK: Folder = ([x, count], attributes, opset) => {
  if (!x || !rankable(x)) return null;
  const axis = foldAxis(attributes.int("axis", -1), x.dims.length);
  const k = opset < 10 ? attributes.int("k") : count ? (numbersOf(count)[0] ?? -1) : -1;
  const size = x.dims[axis] as number;
  if (k < 0 || k > size) throw foldError(`a count of at most ${size}`, String(k));
  const largest = attributes.int("largest", 1) !== 0;
  const values = numbersOf(x);
  const strides = stridesOf(x.dims);
  const stride = strides[axis] as number;
  const dims = x.dims.with(axis, k);
  const outStrides = stridesOf(dims);
  const ids = new Array<number>(elementCount(dims)).fill(0);
  const places = new Int32Array(ids.length);
  forEachIndex(x.dims.with(axis, 1), (index) => {
    const start = index.reduce((sum, each, i) => sum + each * (strides[i] as number), 0);
    const out = index.reduce((sum, each, i) => sum + each * (outStrides[i] as number), 0);
    const line = Array.from({ length: size }, (_, i) => values[start + i * stride] as number);
    ranking(line, largest)
      .slice(0, k)
      .forEach((id, rank) => {
        ids[out + rank * (outStrides[axis] as number)] = id;
        places[out + rank * (outStrides[axis] as number)] = start + id * stride;
      });
  });
  return [takeElements(x, dims, places), int64Array(dims, ids)];
};

const unique: Folder = ([x], attributes) => {
  if (!x || !rankable(x)) return null;
  const flat = !attributes.has("axis");
  const source = flat ? withDims(x, [x.data.length]) : x;
  const axis = foldAxis(flat ? 0 : attributes.int("axis"), source.dims.length);
  const slices = Array.from({ length: source.dims[axis] as number }, (_, i) => {
    const { dims, places } = tablePlaces(source.dims, identityTables(source.dims).with(axis, [i]));
    return takeElements(source, dims, places);
  });
  const keys = slices.map((slice) => numbersOf(slice));
  const firsts = keys.flatMap((key, i) =>
    keys.findIndex((other) => sameNumbers(other, key)) === i ? [i] : [],
  );
  if (attributes.int("sorted", 1) !== 0) {
    firsts.sort((i, j) =>
      compareNumbers(keys[i] as readonly number[], keys[j] as readonly number[]),
    );
  }
  const inverse = keys.map((key) =>
    firsts.findIndex((i) => sameNumbers(keys[i] as readonly number[], key)),
  );
  const counts = firsts.map((_, place) => inverse.filter((each) => each === place).length);
  const kept = firsts.map((i) => slices[i] as OnnxArray);
  if (kept.length === 0) return null;
  return [
    concatArrays(kept, axis),
    int64Array([firsts.length], firsts),
    int64Array([inverse.length], inverse),
    int64Array([counts.length], counts),
  ];
};

function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  return a.every((value, i) => value === b[i]);
}

function compareNumbers(a: readonly number[], b: readonly number[]): number {
  const place = a.findIndex((value, i) => value !== b[i]);
  return place < 0 ? 0 : (a[place] as number) - (b[place] as number);
}

/** Operators whose result depends on which elements are chosen. */
export const selectFolders: Folders = {
  NonZero: nonZero,
  OneHot: oneHot,
  Scatter: scatterElements,
  ScatterElements: scatterElements,
  ScatterND: scatterNd,
  TopK: topK,
  Unique: unique,
};
