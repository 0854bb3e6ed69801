import { shapeText } from "../graph-error.js";
import {
  firstInput,
  inputAt,
  integer,
  parameterShape,
  type Shape,
  type ShapeContext,
  type ShapeRule,
  shapeError,
} from "./context.js";

function linear(node: ShapeContext): Shape {
  const [out, width] = parameterShape(node, "weight", 2) as [number, number];
  const input = firstInput(node);
  if (input.at(-1) !== width) {
    throw shapeError(node, `an input ending in ${width}`, shapeText(input));
  }
  return [...input.slice(0, -1), out];
}

function batchNorm(node: ShapeContext): Shape {
  const input = firstInput(node);
  const [channels] = parameterShape(node, "running_mean", 1);
  if (input.at(-1) !== channels) {
    throw shapeError(node, `an input of ${channels} channels`, shapeText(input));
  }
  return input;
}

/** The input's shape, after holding weight and bias, where there are any, against its last sizes. */
function norm(node: ShapeContext, dims: number): Shape {
  const input = firstInput(node);
  if (dims < 1 || dims > input.length) {
    throw shapeError(node, `1 to ${input.length} sizes to normalise`, `${dims}`);
  }
  const normalised = shapeText(input.slice(input.length - dims));
  for (const [slot, shape] of Object.entries(node.parameters)) {
    if (shapeText(shape) !== normalised) {
      throw shapeError(node, `a ${slot} of ${normalised}`, shapeText(shape));
    }
  }
  return input;
}

function groupNorm(node: ShapeContext): Shape {
  const input = norm(node, 1);
  const groups = integer(node, "groups");
  if (groups >= 1 && (input.at(-1) ?? 0) % groups === 0) return input;
  throw shapeError(node, `channels in ${groups} groups`, shapeText(input));
}

function embedding(node: ShapeContext): Shape {
  const width = parameterShape(node, "weight", 2)[1] as number;
  return [...firstInput(node), width];
}

/** q (T, H·d), k (S, G·d), v (S, G·e), mask (T, S) or (S)? → (T, H·e). */
function attention(node: ShapeContext): Shape {
  const [query, key, value] = [inputAt(node, 0), inputAt(node, 1), inputAt(node, 2)];
  const heads = integer(node, "heads");
  const groups = integer(node, "kv_heads", heads);
  const [rows, width] = query as [number, number];
  const [seen, keyWidth] = key as [number, number];
  const valueWidth = value[1] as number;
  const fits =
    [query, key, value].every((shape) => shape.length === 2) &&
    value[0] === seen &&
    [heads % groups, width % heads, keyWidth % groups, valueWidth % groups].every((r) => r === 0) &&
    width / heads === keyWidth / groups;
  if (!fits) {
    const what = `q (T, ${heads}·d), k (S, ${groups}·d) and v (S, ${groups}·e)`;
    throw shapeError(node, what, [query, key, value].map(shapeText).join(", "));
  }
  const mask = node.inputs[3];
  const masks = [[rows, seen], [seen]].map(shapeText);
  if (mask !== undefined && !masks.includes(shapeText(mask))) {
    throw shapeError(node, `a mask of ${masks.join(" or ")}`, shapeText(mask));
  }
  return [rows, (heads * valueWidth) / groups];
}

function rope(node: ShapeContext): Shape {
  const input = firstInput(node);
  const heads = integer(node, "heads");
  const { frequencies } = node.attributes;
  const pairs = Array.isArray(frequencies) ? frequencies.length : 0;
  const width = (input[1] ?? 0) / heads;
  if (input.length === 2 && Number.isInteger(width) && 2 * pairs <= width) return input;
  throw shapeError(node, `(T, ${heads}·d) with d ≥ ${2 * pairs}`, shapeText(input));
}

/** Rules of the layers that own parameters or read token sequences. */
export const layerRules: Readonly<Record<string, ShapeRule>> = {
  linear,
  batch_norm: batchNorm,
  layer_norm: (node) => norm(node, integer(node, "dims", 1)),
  rms_norm: (node) => norm(node, integer(node, "dims", 1)),
  group_norm: groupNorm,
  embedding,
  attention,
  rope,
};
