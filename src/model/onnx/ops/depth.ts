import { pickTaps, resample, type Taps } from "../axes.js";
import type { Importers, NodeContext } from "../context.js";
import { forEachIndex } from "../fold/places.js";
import { namedImporters } from "../naming.js";
import { elementCount, type Operand } from "../operand.js";

/** Four sizes and a block that fits them. */
function imageDims(node: NodeContext, x: Operand): readonly [number, number, number, number] {
  const [count, channels, height, width] = x.dims;
  if (x.dims.length !== 4) node.refuse(`an input of rank ${x.dims.length}`);
  return [count as number, channels as number, height as number, width as number];
}

function shuffled(
  node: NodeContext,
  x: Operand,
  split: readonly number[],
  perm: readonly number[],
  dims: readonly number[],
): Operand {
  if (dims.some((size) => !Number.isInteger(size)))
    node.refuse(`sizes (${x.dims.join()}) of this block`);
  const { graph, label } = node;
  const parts = graph.transpose(label, graph.reshape(label, node.plain(x), split), perm);
  return node.result(graph.reshape(label, parts, dims), dims, x.dtype);
}

/** (N, C·b·b, H, W) → (N, C, H·b, W·b); DCR reads the channels as (b, b, C), CRD as (C, b, b). */
function depthToSpace(node: NodeContext): Operand {
  const x = node.input(0);
  const [n, c, h, w] = imageDims(node, x);
  const b = node.int("blocksize");
  const mode = node.string("mode", "DCR");
  const depth = c / (b * b);
  const dims = [n, depth, h * b, w * b];
  if (mode === "CRD") return shuffled(node, x, [n, depth, b, b, h, w], [0, 1, 4, 2, 5, 3], dims);
  if (mode !== "DCR") return node.refuse(`mode ${mode}`);
  return shuffled(node, x, [n, b, b, depth, h, w], [0, 3, 4, 1, 5, 2], dims);
}

/** (N, C, H·b, W·b) → (N, b·b·C, H, W). */
function spaceToDepth(node: NodeContext): Operand {
  const x = node.input(0);
  const [n, c, height, width] = imageDims(node, x);
  const b = node.int("blocksize");
  if (node.string("mode", "DCR") !== "DCR") node.refuse("a mode other than DCR");
  const [h, w] = [height / b, width / b];
  const split = [n, c, h, b, w, b];
  return shuffled(node, x, split, [0, 3, 5, 1, 2, 4], [n, c * b * b, h, w]);
}

/** The middle of each axis, or zeros around it; an odd rest is on the far side. */
function centerCropPad(node: NodeContext): Operand {
  const x = node.input(0);
  const sizes = node.integers(node.input(1), "shape");
  const axes = (node.ints("axes") ?? x.dims.map((_, i) => i)).map((axis) =>
    node.axis(axis, x.dims.length),
  );
  if (axes.length !== sizes.length) node.refuse(`${sizes.length} sizes for ${axes.length} axes`);
  const plan = new Map<number, Taps>();
  axes.forEach((axis, i) => {
    const [size, wanted] = [x.dims[axis] as number, sizes[i] as number];
    if (!(wanted > 0 && wanted < 2 ** 26)) node.refuse(`a size of ${wanted}`);
    const start =
      wanted < size ? Math.floor((size - wanted) / 2) : -Math.floor((wanted - size) / 2);
    const index = Array.from({ length: wanted }, (_, j) => start + j);
    plan.set(axis, pickTaps(index.map((at) => (at >= 0 && at < size ? at : -1))));
  });
  return resample(node, x, plan);
}

/** Where blocks of an image lie: one of each per spatial axis. */
interface Blocks {
  readonly image: readonly number[];
  readonly block: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** Before each axis. */
  readonly pads: readonly number[];
  /** Blocks along each axis. */
  readonly counts: readonly number[];
}

function blocksOf(node: NodeContext): Blocks {
  const image = node.integers(node.input(1), "image shape");
  const block = node.integers(node.input(2), "block shape");
  const rank = image.length;
  const ones = image.map(() => 1);
  const strides = node.ints("strides") ?? ones;
  const dilations = node.ints("dilations") ?? ones;
  const pads = node.ints("pads") ?? [...ones, ...ones].map(() => 0);
  if (
    [block, strides, dilations].some((list) => list.length !== rank) ||
    pads.length !== 2 * rank
  ) {
    node.refuse("attributes of different ranks");
  }
  const counts = image.map((size, i) => {
    const extent = (dilations[i] as number) * ((block[i] as number) - 1) + 1;
    const room = size + (pads[i] as number) + (pads[i + rank] as number) - extent;
    return Math.floor(room / (strides[i] as number)) + 1;
  });
  return { image, block, strides, dilations, pads: pads.slice(0, rank), counts };
}

/** The flat place in the padded-by-one-cell image of each element of one channel's blocks: the last cell takes what falls outside. */
function blockPlaces({ image, block, strides, dilations, pads, counts }: Blocks): number[] {
  const places: number[] = [];
  const outside = elementCount(image);
  forEachIndex([...block, ...counts], (index) => {
    let place = 0;
    for (let i = 0; i < image.length; i++) {
      const offset = (index[i] as number) * (dilations[i] as number) - (pads[i] as number);
      const at = (index[i + image.length] as number) * (strides[i] as number) + offset;
      const size = image[i] as number;
      place = at < 0 || at >= size || place < 0 ? -1 : place * size + at;
    }
    places.push(place < 0 ? outside : place);
  });
  return places;
}

/** Adds up overlapping blocks: (N, C·Πblock, blocks) → (N, C, image…). */
function col2Im(node: NodeContext): Operand {
  const x = node.input(0);
  const blocks = blocksOf(node);
  const [count = 0, rows = 0, columns = 0] = x.dims;
  const channels = rows / elementCount(blocks.block);
  if (
    x.dims.length !== 3 ||
    !Number.isInteger(channels) ||
    columns !== elementCount(blocks.counts)
  ) {
    node.refuse(`an input of sizes (${x.dims.join(", ")})`);
  }
  const places = blockPlaces(blocks);
  const cell = elementCount(blocks.image) + 1;
  const images = count * channels;
  const index = Array.from({ length: images }, (_, i) => places.map((place) => i * cell + place));
  const { graph, label } = node;
  const data = new Float32Array(images * cell);
  const empty = graph.constant(label, { dtype: "float", dims: [images, cell], data }, [
    images,
    cell,
  ]);
  const sums = node.emit("scatter", [empty, node.plain(x)], [images, cell], {
    attributes: { index: index.flat(), reduction: "add" },
  });
  const inside = graph.narrow(label, sums, 1, 0, cell - 1);
  const dims = [count, channels, ...blocks.image];
  return node.result(graph.reshape(label, inside, dims), dims, x.dtype);
}

/** Operators that rearrange images. */
export const importers: Importers = namedImporters({
  DepthToSpace: depthToSpace,
  SpaceToDepth: spaceToDepth,
  CenterCropPad: centerCropPad,
  Col2Im: col2Im,
});
