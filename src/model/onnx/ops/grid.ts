import { takePlaces } from "../axes.js";
import type { Importers, NodeContext } from "../context.js";
import { forEachIndex } from "../fold/places.js";
import { type AxisSample, sampleAxis } from "../grid-sample.js";
import { Maths } from "../maths.js";
import { namedImporters } from "../naming.js";
import { elementCount, isFloat, type Operand } from "../operand.js";

const kModes: ReadonlyMap<string, AxisSample["mode"]> = new Map([
  ["bilinear", "linear"],
  ["linear", "linear"],
  ["nearest", "nearest"],
  ["bicubic", "cubic"],
  ["cubic", "cubic"],
]);

const kPaddings: readonly string[] = ["zeros", "border", "reflection"];

function styleOf(node: NodeContext): Omit<AxisSample, "size"> {
  const mode = kModes.get(node.string("mode", "linear"));
  const padding = node.string("padding_mode", "zeros");
  if (mode === undefined || !kPaddings.includes(padding))
    return node.refuse(`mode with ${padding}`);
  return {
    mode,
    padding: padding as AxisSample["padding"],
    alignCorners: node.int("align_corners", 0) !== 0,
  };
}

/** One sampled point: flat places in an image, −1 outside, and their weights. */
interface Point {
  readonly places: readonly number[];
  readonly weights: readonly number[];
}

/** The product of the axes' taps. The grid's numbers are in the order (x, y, …): the last size first. */
function pointAt(
  coordinates: readonly number[],
  spatial: readonly number[],
  style: Omit<AxisSample, "size">,
): Point {
  let places: readonly number[] = [0];
  let weights: readonly number[] = [1];
  spatial.forEach((size, i) => {
    const coordinate = coordinates[coordinates.length - 1 - i] as number;
    const taps = sampleAxis({ ...style, size }, coordinate);
    places = places.flatMap((place) =>
      taps.places.map((at) => (place < 0 || at < 0 ? -1 : place * size + at)),
    );
    weights = weights.flatMap((weight) => taps.weights.map((each) => weight * each));
  });
  return { places, weights };
}

/** Samples images at known points: each result is a weighted sum of a few elements. */
function gridSample(node: NodeContext): Operand {
  const [x, grid] = [node.input(0), node.input(1)];
  const [count = 0, channels = 0, ...spatial] = x.dims;
  const points = grid.dims.slice(1, -1);
  if (!isFloat(x.dtype) || grid.dims.at(-1) !== spatial.length || grid.dims[0] !== count) {
    node.refuse(`a grid of sizes (${grid.dims.join(", ")})`);
  }
  const coordinates = node.numbers(grid, "grid");
  if (!coordinates.every(Number.isFinite)) node.refuse("a grid with values that are not finite");
  const style = styleOf(node);
  const perImage = elementCount(points);
  const sampled = Array.from({ length: count * perImage }, (_, i) =>
    pointAt(coordinates.slice(i * spatial.length, (i + 1) * spatial.length), spatial, style),
  );
  const taps = sampled[0]?.places.length ?? 1;
  const image = elementCount(spatial);
  const index: number[] = [];
  for (let n = 0; n < count; n++) {
    for (let c = 0; c < channels; c++) {
      for (const { places } of sampled.slice(n * perImage, (n + 1) * perImage)) {
        for (const at of places) index.push(at < 0 ? -1 : (n * channels + c) * image + at);
      }
    }
  }
  const maths = new Maths(node, x.dtype);
  const taken = maths.take(node.plain(x), [count, channels, perImage, taps], index);
  const weights = maths.constant(
    sampled.flatMap((point) => point.weights),
    [count, 1, perImage, taps],
  );
  const sums = maths.sum(maths.mul(taken, weights), [3], false);
  const dims = [count, channels, ...points];
  return node.result(maths.reshape(sums, dims), dims, x.dtype);
}

/** Positions of one axis from −1 to 1: of the outermost centres where corners are aligned, else of the edges. */
function gridLine(size: number, alignCorners: boolean): readonly number[] {
  return Array.from({ length: size }, (_, i) =>
    alignCorners ? -1 + (2 * i) / (size - 1) : (2 * i + 1) / size - 1,
  );
}

/** The grid of an affine map: (points, 1) times theta, turned. theta is (N, 2, 3) or (N, 3, 4). */
function affineGrid(node: NodeContext): Operand {
  const theta = node.input(0);
  const [count = 0, , ...spatial] = node.integers(node.input(1), "size");
  const rank = spatial.length;
  if (theta.dims.join() !== [count, rank, rank + 1].join() || (rank !== 2 && rank !== 3)) {
    node.refuse(`theta of sizes (${theta.dims.join(", ")})`);
  }
  const align = node.int("align_corners", 0) !== 0;
  if (align && spatial.includes(1)) node.refuse("aligned corners of a size of 1");
  const lines = spatial.map((size) => gridLine(size, align));
  const points: number[] = [];
  forEachIndex(spatial, (index) => {
    const position = index.map((at, axis) => lines[axis]?.[at] as number);
    points.push(...position.toReversed(), 1);
  });
  const maths = new Maths(node, theta.dtype);
  const rows = elementCount(spatial);
  const one = maths.constant(points, [1, rows, rank + 1]);
  const base = node.graph.expand(node.label, one, [count, rows, rank + 1]);
  const grid = maths.matmul(base, node.plain(theta), true);
  const dims = [count, ...spatial, rank];
  return node.result(maths.reshape(grid, dims), dims, theta.dtype);
}

/** The sizes that pooling had before, as far as they can be known from its result. */
function unpooledDims(node: NodeContext, x: Operand): readonly number[] {
  const [count = 0, channels = 0, ...spatial] = x.dims;
  const kernel = node.ints("kernel_shape") ?? [];
  const strides = node.ints("strides") ?? kernel.map(() => 1);
  const pads = node.ints("pads") ?? [...kernel, ...kernel].map(() => 0);
  if (kernel.length !== spatial.length) node.refuse(`a kernel of ${kernel.length} sizes`);
  return [
    count,
    channels,
    ...spatial.map((size, i) => {
      const pad = (pads[i] as number) + (pads[i + spatial.length] as number);
      return (size - 1) * (strides[i] as number) - pad + (kernel[i] as number);
    }),
  ];
}

/** Puts each value where the pooling found it; 0 elsewhere. */
function maxUnpool(node: NodeContext): Operand {
  const [x, indices, shape] = [node.input(0), node.input(1), node.optional(2)];
  const dims = unpooledDims(node, x);
  const total = elementCount(dims);
  const places = new Int32Array(total).fill(-1);
  node.integers(indices, "indices").forEach((place, i) => {
    if (!(place >= 0 && place < total)) node.refuse(`an index of ${place}`);
    places[place] = i;
  });
  const inner = takePlaces(node, x, { dims, places });
  const wanted = shape ? node.integers(shape, "output shape") : dims;
  if (wanted.join() === dims.join()) return inner;
  // A larger output holds the inferred one in its first corner.
  const after = wanted.map((size, i) => size - (dims[i] as number));
  if (after.some((amount) => amount < 0)) node.refuse(`an output of (${wanted.join(", ")})`);
  const before = dims.map(() => 0);
  const padded = node.emit("pad", [node.plain(inner)], wanted, {
    attributes: { before, after, value: 0 },
  });
  return node.result(padded, wanted, x.dtype);
}

/** Operators that read images at computed places. */
export const importers: Importers = namedImporters({
  GridSample: gridSample,
  AffineGrid: affineGrid,
  MaxUnpool: maxUnpool,
});
