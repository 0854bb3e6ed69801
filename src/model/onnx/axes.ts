import type { NodeContext } from "./context.js";
import type { EngineValue } from "./engine-graph.js";
import type { Layout, Operand } from "./operand.js";

/** An operand in the layout where an operator along some of its axes costs no move, with the engine's place of each axis. */
export interface PlacedOperand {
  readonly layout: Layout;
  readonly value: EngineValue;
  /** The engine's axis of an ONNX axis; undefined for a leading 1 that the layout leaves out. */
  readonly axisOf: (axis: number) => number | undefined;
}

function engineAxis(layout: Layout, dims: readonly number[], axis: number): number | undefined {
  if (layout === "plain") return axis;
  const dropped = layout === "unbatched" || dims[0] === 1 ? 1 : 0;
  if (axis < dropped) return undefined;
  if (layout === "unbatched" || axis === 0) return axis - dropped;
  const last = dims.length - 1 - dropped;
  return axis === 1 ? last : axis - 1 - dropped;
}

/**
 * The operand for an operator that changes the sizes of these axes (from 0) alone: in the layout that it has, or plain
 * where the first axis changes, which other layouts may leave out.
 */
export function placed(
  node: NodeContext,
  operand: Operand,
  axes: readonly number[],
): PlacedOperand {
  const own = node.layoutOf(operand);
  const layout = axes.includes(0) ? "plain" : own;
  const value = node.form(operand, layout);
  return { layout, value, axisOf: (axis) => engineAxis(layout, operand.dims, axis) };
}

/** Numbers along one axis as the engine's op `resample` takes them. */
export interface Taps {
  /** Numbers per result. */
  readonly taps: number;
  /** Places along the axis, −1 for none: results × taps. */
  readonly index: readonly number[];
  readonly weight: readonly number[];
}

/** One tap of weight 1 a result: the axis's entries in this order, −1 for 0. */
export function pickTaps(index: readonly number[]): Taps {
  return { taps: 1, index, weight: index.map(() => 1) };
}

function isIdentity({ taps, index, weight }: Taps, size: number): boolean {
  return taps === 1 && index.length === size && index.every((at, i) => at === i && weight[i] === 1);
}

/** The operand with each of these axes resampled, one after the other. */
export function resample(
  node: NodeContext,
  operand: Operand,
  plan: ReadonlyMap<number, Taps>,
): Operand {
  const changed = [...plan].filter(
    ([axis, taps]) => !isIdentity(taps, operand.dims[axis] as number),
  );
  if (changed.length === 0) return operand;
  const { layout, value, axisOf } = placed(
    node,
    operand,
    changed.map(([axis]) => axis),
  );
  let current = value;
  const dims = [...operand.dims];
  for (const [axis, { taps, index, weight }] of changed) {
    const engine = axisOf(axis) as number;
    dims[axis] = index.length / taps;
    if (dims[axis] === 0) node.refuse("a result without elements");
    current = node.emit("resample", [current], current.shape.with(engine, dims[axis] as number), {
      attributes: { axis: engine, taps, index, weight },
    });
  }
  return node.result(current, dims, operand.dtype, layout);
}

/** The operand's elements at flat places in ONNX's order of sizes; −1 gives 0. */
export function takePlaces(
  node: NodeContext,
  operand: Operand,
  { dims, places }: { readonly dims: readonly number[]; readonly places: Int32Array },
): Operand {
  const value = node.emit("take", [node.plain(operand)], dims, {
    attributes: { shape: dims, index: Array.from(places) },
  });
  return node.result(value, dims, operand.dtype);
}
