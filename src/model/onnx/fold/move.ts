import type { OnnxArray } from "../../../io/onnx/model.js";
import { elementCount } from "../operand.js";
import { foldAxis, foldError, numbersOf, takeElements, withDims } from "./array.js";
import type { FoldAttributes, Folder, Folders } from "./attributes.js";
import {
  centerPlaces,
  compressPlaces,
  depthToSpacePlaces,
  elementPlaces,
  expandPlaces,
  gatherPlaces,
  identityTables,
  ndPlaces,
  type PadMode,
  type Places,
  padPlaces,
  reverseSequencePlaces,
  slicePlaces,
  spaceToDepthPlaces,
  tablePlaces,
  tilePlaces,
  transposePlaces,
  triluPlaces,
} from "./places.js";

function taken(source: OnnxArray, { dims, places }: Places): readonly OnnxArray[] {
  return [takeElements(source, dims, places)];
}

/** Whole numbers of an optional input. */
function optionalNumbers(input: OnnxArray | null | undefined): readonly number[] | undefined {
  return input ? numbersOf(input) : undefined;
}

/**
 * The sizes that ONNX Reshape asks for: −1 is what is left; 0 is the source's size unless `allowZero`.
 *
 * @throws {FishermaskError} `ERR_FM_UNSUPPORTED` where they do not fit
 */
export function reshapedDims(
  source: readonly number[],
  shape: readonly number[],
  allowZero: boolean,
): readonly number[] {
  const sizes = shape.map((size, i) => (size === 0 && !allowZero ? (source[i] ?? 0) : size));
  const open = sizes.filter((size) => size === -1).length;
  const known = sizes.reduce((product, size) => (size === -1 ? product : product * size), 1);
  const total = elementCount(source);
  const dims = sizes.map((size) => (size === -1 ? total / known : size));
  const fits =
    dims.every((size) => Number.isInteger(size) && size >= 0) && elementCount(dims) === total;
  if (open > 1 || !fits) throw foldError(`sizes of ${total} elements`, `(${shape.join()})`);
  return dims;
}

/** The sizes without those of the axes; without axes, without every 1. */
export function squeezedDims(
  source: readonly number[],
  axes?: readonly number[],
): readonly number[] {
  if (axes === undefined) return source.filter((size) => size !== 1);
  const dropped = axes.map((axis) => foldAxis(axis, source.length));
  const wrong = dropped.find((axis) => source[axis] !== 1);
  if (wrong !== undefined) throw foldError(`a size of 1 at axis ${wrong}`, `(${source.join()})`);
  return source.filter((_, axis) => !dropped.includes(axis));
}

/** The sizes with a 1 at each of the axes of the result. */
export function unsqueezedDims(
  source: readonly number[],
  axes: readonly number[],
): readonly number[] {
  const rank = source.length + axes.length;
  const added = new Set(axes.map((axis) => foldAxis(axis, rank)));
  if (added.size !== axes.length) throw foldError("different axes", axes.join());
  const rest = [...source];
  return Array.from({ length: rank }, (_, axis) =>
    added.has(axis) ? 1 : (rest.shift() as number),
  );
}

/** Axes are an attribute before opset 13 and an input since. */
function axesOf(
  input: OnnxArray | null | undefined,
  attributes: FoldAttributes,
): readonly number[] | undefined {
  return optionalNumbers(input) ?? attributes.ints("axes");
}

export interface SliceRange {
  readonly starts: readonly number[];
  readonly steps: readonly number[];
  readonly sizes: readonly number[];
}

/** What ONNX Slice keeps: starts and ends count from the end when negative, and are clamped. */
export function sliceRange(
  source: readonly number[],
  starts: readonly number[],
  ends: readonly number[],
  axes: readonly number[] = starts.map((_, i) => i),
  steps: readonly number[] = starts.map(() => 1),
): SliceRange {
  const range = { starts: source.map(() => 0), steps: source.map(() => 1), sizes: [...source] };
  axes.forEach((each, i) => {
    const axis = foldAxis(each, source.length);
    const size = source[axis] as number;
    const step = steps[i] as number;
    if (!step) throw foldError("a step other than 0", String(step));
    const [low, high] = step > 0 ? [0, size] : [-1, size - 1];
    const clamp = (place: number, least: number): number =>
      Math.min(Math.max(place < 0 ? place + size : place, least), high);
    const start = clamp(starts[i] as number, Math.max(low, 0));
    const end = clamp(ends[i] as number, low);
    range.starts[axis] = start;
    range.steps[axis] = step;
    range.sizes[axis] = size === 0 ? 0 : Math.max(Math.ceil((end - start) / step), 0);
  });
  return range;
}

const slice: Folder = ([x, starts, ends, axes, steps], attributes) => {
  if (!x) return null;
  const from = optionalNumbers(starts) ?? attributes.ints("starts");
  const to = optionalNumbers(ends) ?? attributes.ints("ends");
  if (from === undefined || to === undefined) return null;
  const range = sliceRange(x.dims, from, to, axesOf(axes, attributes), optionalNumbers(steps));
  return taken(x, slicePlaces(x.dims, range.starts, range.steps, range.sizes));
};

/** The size of each part of ONNX Split. */
export function splitSizes(
  size: number,
  parts: number,
  sizes: readonly number[] | undefined,
): readonly number[] {
  if (sizes !== undefined) {
    if (sizes.reduce((sum, each) => sum + each, 0) !== size || sizes.some((each) => each < 0)) {
      throw foldError(`parts of ${size} in all`, `(${sizes.join()})`);
    }
    return sizes;
  }
  // The last part is smaller where the size is no multiple.
  const each = Math.ceil(size / parts);
  const last = size - each * (parts - 1);
  if (last < 0) throw foldError(`at most ${size} parts`, String(parts));
  return Array.from({ length: parts }, (_, i) => (i === parts - 1 ? last : each));
}

const split: Folder = ([x, sizes], attributes) => {
  if (!x) return null;
  const axis = foldAxis(attributes.int("axis", 0), x.dims.length);
  const given = optionalNumbers(sizes) ?? attributes.ints("split");
  const parts = given?.length ?? attributes.outputCount;
  if (parts < 1) return null;
  let start = 0;
  return splitSizes(x.dims[axis] as number, parts, given).map((size) => {
    const starts = x.dims.map((_, i) => (i === axis ? start : 0));
    start += size;
    const { dims, places } = slicePlaces(
      x.dims,
      starts,
      x.dims.map(() => 1),
      x.dims.with(axis, size),
    );
    return takeElements(x, dims, places);
  });
};

const concat: Folder = (inputs, attributes, opset) => {
  const parts = inputs.flatMap((input) => (input ? [input] : []));
  const [first] = parts;
  if (first === undefined) return null;
  const axis = foldAxis(attributes.int("axis", opset < 4 ? 1 : undefined), first.dims.length);
  const fits = parts.every(
    ({ dims, dtype }) =>
      dtype === first.dtype &&
      dims.length === first.dims.length &&
      dims.every((size, i) => i === axis || size === first.dims[i]),
  );
  if (!fits)
    throw foldError("tensors that differ in one size", parts.map(({ dims }) => `(${dims})`).join());
  return [concatArrays(parts, axis)];
};

/** Arrays of one dtype that differ at most in the size of the axis. */
export function concatArrays(parts: readonly OnnxArray[], axis: number): OnnxArray {
  const first = parts[0] as OnnxArray;
  const total = parts.reduce((sum, { dims }) => sum + (dims[axis] as number), 0);
  const dims = first.dims.with(axis, total);
  const result = takeElements(first, dims, new Int32Array(elementCount(dims)).fill(-1));
  const inner = elementCount(dims.slice(axis + 1));
  const outer = elementCount(dims.slice(0, axis));
  let offset = 0;
  for (const part of parts) {
    const run = (part.dims[axis] as number) * inner;
    for (let i = 0; i < outer; i++) {
      const piece = part.data.subarray(i * run, (i + 1) * run);
      // Both are of one dtype, so of one kind of typed array.
      (result.data as Float64Array).set(piece as Float64Array, i * total * inner + offset);
    }
    offset += run;
  }
  return result;
}

const kPadModes: readonly PadMode[] = ["constant", "reflect", "edge", "wrap"];

export function isPadMode(mode: string): mode is PadMode {
  return (kPadModes as readonly string[]).includes(mode);
}

/** One pad before and after every size, from ONNX's list over the axes. */
export function padsOf(
  rank: number,
  pads: readonly number[],
  axes: readonly number[] = Array.from({ length: rank }, (_, i) => i),
): { readonly before: readonly number[]; readonly after: readonly number[] } {
  if (pads.length !== 2 * axes.length)
    throw foldError(`${2 * axes.length} pads`, String(pads.length));
  const before = Array.from({ length: rank }, () => 0);
  const after = [...before];
  axes.forEach((each, i) => {
    const axis = foldAxis(each, rank);
    before[axis] = pads[i] as number;
    after[axis] = pads[i + axes.length] as number;
  });
  return { before, after };
}

const pad: Folder = ([x, pads, value, axes], attributes) => {
  const mode = attributes.string("mode", "constant");
  const amounts = optionalNumbers(pads) ?? attributes.ints("pads") ?? attributes.ints("paddings");
  if (!x || amounts === undefined || !isPadMode(mode)) return null;
  const { before, after } = padsOf(x.dims.length, amounts, optionalNumbers(axes));
  const { dims, places } = padPlaces(x.dims, before, after, mode);
  const fill = value?.data[0] ?? attributes.float("value", 0);
  return [takeElements(x, dims, places, fill)];
};

const gather: Folder = ([x, ids], attributes) => {
  if (!x || !ids) return null;
  const axis = foldAxis(attributes.int("axis", 0), x.dims.length);
  return taken(x, gatherPlaces(x.dims, numbersOf(ids), ids.dims, axis));
};

const gatherElements: Folder = ([x, ids], attributes) => {
  if (!x || !ids) return null;
  const axis = foldAxis(attributes.int("axis", 0), x.dims.length);
  return taken(x, elementPlaces(x.dims, numbersOf(ids), ids.dims, axis));
};

const gatherNd: Folder = ([x, ids], attributes) => {
  if (!x || !ids) return null;
  return taken(x, ndPlaces(x.dims, numbersOf(ids), ids.dims, attributes.int("batch_dims", 0)));
};

const transpose: Folder = ([x], attributes) => {
  if (!x) return null;
  const perm = attributes.ints("perm") ?? x.dims.map((_, i) => x.dims.length - 1 - i);
  const axes = perm.map((axis) => foldAxis(axis, x.dims.length));
  if (new Set(axes).size !== x.dims.length || axes.length !== x.dims.length) {
    throw foldError(`a permutation of ${x.dims.length} axes`, `(${perm.join()})`);
  }
  return taken(x, transposePlaces(x.dims, axes));
};

const centerCropPad: Folder = ([x, shape], attributes) => {
  if (!x || !shape) return null;
  const axes = attributes.ints("axes") ?? x.dims.map((_, i) => i);
  return taken(
    x,
    centerPlaces(
      x.dims,
      numbersOf(shape),
      axes.map((axis) => foldAxis(axis, x.dims.length)),
    ),
  );
};

const compress: Folder = ([x, condition], attributes) => {
  if (!x || !condition) return null;
  const axis = attributes.has("axis") ? attributes.int("axis") : null;
  return taken(x, compressPlaces(x.dims, numbersOf(condition), axis));
};

const trilu: Folder = ([x, k], attributes) => {
  if (!x) return null;
  return taken(
    x,
    triluPlaces(x.dims, k ? (numbersOf(k)[0] ?? 0) : 0, attributes.int("upper", 1) !== 0),
  );
};

const reverseSequence: Folder = ([x, lengths], attributes) => {
  if (!x || !lengths) return null;
  const [time, batch] = [attributes.int("time_axis", 0), attributes.int("batch_axis", 1)];
  return taken(x, reverseSequencePlaces(x.dims, numbersOf(lengths), time, batch));
};

const flatten: Folder = ([x], attributes) => {
  if (!x) return null;
  const given = attributes.int("axis", 1);
  const axis = given < 0 ? given + x.dims.length : given;
  const rows = elementCount(x.dims.slice(0, axis));
  return [withDims(x, [rows, elementCount(x.dims.slice(axis))])];
};

/** Tile before opset 6 has a count and one axis. */
const tile: Folder = ([x, repeats], _attributes, opset) => {
  if (!x || !repeats || opset < 6) return null;
  return taken(x, tilePlaces(x.dims, numbersOf(repeats)));
};

/** Operators that move elements without changing them: of any dtype. */
export const moveFolders: Folders = {
  Identity: ([x]) => (x ? [x] : null),
  Reshape: ([x, shape], attributes) => {
    const sizes = optionalNumbers(shape) ?? attributes.ints("shape");
    if (!x || sizes === undefined) return null;
    return [withDims(x, reshapedDims(x.dims, sizes, attributes.int("allowzero", 0) !== 0))];
  },
  Squeeze: ([x, axes], attributes) =>
    x ? [withDims(x, squeezedDims(x.dims, axesOf(axes, attributes)))] : null,
  Unsqueeze: ([x, axes], attributes) => {
    const added = axesOf(axes, attributes);
    return x && added ? [withDims(x, unsqueezedDims(x.dims, added))] : null;
  },
  Flatten: flatten,
  Transpose: transpose,
  Slice: slice,
  Split: split,
  Concat: concat,
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherNd,
  Expand: ([x, shape]) => (x && shape ? taken(x, expandPlaces(x.dims, numbersOf(shape))) : null),
  Tile: tile,
  Pad: pad,
  Trilu: trilu,
  CenterCropPad: centerCropPad,
  Compress: compress,
  ReverseSequence: reverseSequence,
  DepthToSpace: ([x], attributes) => {
    if (!x) return null;
    const crd = attributes.string("mode", "DCR") === "CRD";
    return taken(x, depthToSpacePlaces(x.dims, attributes.int("blocksize"), crd));
  },
  SpaceToDepth: ([x], attributes) =>
    x && attributes.string("mode", "DCR") === "DCR"
      ? taken(x, spaceToDepthPlaces(x.dims, attributes.int("blocksize")))
      : null,
};

/** The entries of one axis at these ids. */
export function pickAlong(source: OnnxArray, ids: readonly number[], axis: number): OnnxArray {
  const { dims, places } = tablePlaces(
    source.dims,
    identityTables(source.dims).with(axis, [...ids]),
  );
  return takeElements(source, dims, places);
}
