import { pickTaps, placed, resample, type Taps } from "../axes.js";
import type { Importers, NodeContext } from "../context.js";
import type { EngineValue } from "../engine-graph.js";
import { isPadMode, padsOf } from "../fold/move.js";
import { forEachIndex, type PadMode, padTable } from "../fold/places.js";
import { Maths } from "../maths.js";
import { namedImporters } from "../naming.js";
import type { Operand } from "../operand.js";

interface Pads {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** Amounts are the attribute `paddings` or `pads` before opset 11, an input since; axes are an input since opset 18. */
function givenPads(node: NodeContext, rank: number): Pads {
  const input = node.optional(1);
  const axes = node.optional(3);
  const amounts = input
    ? node.integers(input, "pads")
    : (node.ints("pads") ?? node.ints("paddings"));
  if (amounts === undefined) return node.refuse("no pads");
  return padsOf(rank, amounts, axes && node.integers(axes, "axes"));
}

function fillValue(node: NodeContext): number {
  const input = node.optional(2);
  return input ? node.scalar(input, "fill value") : node.float("value", 0);
}

/** What the padding of a 0-filled value holds instead: infinities and NaN are no attributes. */
function filled(
  node: NodeContext,
  padded: EngineValue,
  inner: readonly number[],
  before: readonly number[],
  value: number,
): EngineValue {
  const inside: number[] = [];
  forEachIndex(padded.shape, (index) => {
    const within = index.every((at, i) => {
      const place = at - (before[i] as number);
      return place >= 0 && place < (inner[i] as number);
    });
    inside.push(within ? 1 : 0);
  });
  const maths = new Maths(node, node.input(0).dtype);
  const mask = maths.constant(inside, padded.shape);
  const fill = maths.constant(
    [value],
    padded.shape.map(() => 1),
  );
  return maths.where(mask, padded, fill);
}

/** Crops first where an amount is negative: each axis loses or gains on its own. */
function constantPad(node: NodeContext, x: Operand, pads: Pads): Operand {
  const axes = x.dims.flatMap((_, axis) => (pads.before[axis] || pads.after[axis] ? [axis] : []));
  if (axes.length === 0) return x;
  const { layout, value, axisOf } = placed(node, x, axes);
  const amounts = (list: readonly number[], sign: number): number[] => {
    const out = value.shape.map(() => 0);
    for (const axis of axes)
      out[axisOf(axis) as number] = Math.max(sign * (list[axis] as number), 0);
    return out;
  };
  const [head, tail] = [amounts(pads.before, -1), amounts(pads.after, -1)];
  const kept = value.shape.map((size, i) => size - (head[i] as number) - (tail[i] as number));
  if (kept.some((size) => size <= 0)) node.refuse("pads that leave nothing");
  const cropped = node.graph.slice(node.label, value, head, kept);
  const [before, after] = [amounts(pads.before, 1), amounts(pads.after, 1)];
  const shape = kept.map((size, i) => size + (before[i] as number) + (after[i] as number));
  const dims = x.dims.map(
    (size, i) => size + (pads.before[i] as number) + (pads.after[i] as number),
  );
  if ([...before, ...after].every((amount) => amount === 0)) {
    return node.result(cropped, dims, x.dtype, layout);
  }
  const fill = fillValue(node);
  const finite = Number.isFinite(fill) ? fill : 0;
  const padded = node.emit("pad", [cropped], shape, {
    attributes: { before, after, value: finite },
  });
  const result = Number.isFinite(fill) ? padded : filled(node, padded, kept, before, fill);
  return node.result(result, dims, x.dtype, layout);
}

function repeatingPad(node: NodeContext, x: Operand, pads: Pads, mode: PadMode): Operand {
  const plan = new Map<number, Taps>();
  x.dims.forEach((size, axis) => {
    const [before, after] = [pads.before[axis] as number, pads.after[axis] as number];
    const cropped = before < 0 || after < 0;
    if (cropped && (before > 0 || after > 0)) node.refuse(`${mode} of an axis that is cropped`);
    plan.set(axis, pickTaps(padTable(size, before, after, mode)));
  });
  return resample(node, x, plan);
}

function pad(node: NodeContext): Operand {
  const x = node.input(0);
  const mode = node.string("mode", "constant");
  if (!isPadMode(mode)) return node.refuse(`mode ${mode}`);
  const pads = givenPads(node, x.dims.length);
  return mode === "constant" ? constantPad(node, x, pads) : repeatingPad(node, x, pads, mode);
}

/** Pad of every opset. */
export const importers: Importers = namedImporters({ Pad: pad });
