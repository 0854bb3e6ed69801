import type { FishermaskError } from "../native/errors.js";
import type { AttributeValue } from "./graph.js";
import { expected, shapeText } from "./graph-error.js";

/** Sizes of a value as one sample sees it, without the batch; images are (H, W, C). */
export type Shape = readonly number[];

/** What a shape rule sees of a node. */
export interface ShapeContext {
  readonly name: string;
  readonly op: string;
  readonly inputs: readonly Shape[];
  /** Slot → shape. */
  readonly parameters: Readonly<Record<string, Shape>>;
  readonly attributes: Readonly<Record<string, AttributeValue>>;
}

type ShapeRule = (node: ShapeContext) => Shape;

function shapeError(node: ShapeContext, what: string, received: string): FishermaskError {
  return expected("ERR_FM_SHAPE", what, `node ${node.name} (${node.op})`, received);
}

function firstInput(node: ShapeContext): Shape {
  const shape = node.inputs[0];
  if (shape === undefined) throw shapeError(node, "an input", "none");
  return shape;
}

function imageOf(node: ShapeContext): readonly [number, number, number] {
  const [height, width, channels, ...rest] = firstInput(node);
  if (height === undefined || width === undefined || channels === undefined || rest.length > 0) {
    throw shapeError(node, "an image (H, W, C)", shapeText(firstInput(node)));
  }
  return [height, width, channels];
}

/** An attribute of `fallback.length` whole numbers. */
function integers(node: ShapeContext, key: string, fallback: readonly number[]): readonly number[] {
  const value = node.attributes[key] ?? fallback;
  if (!Array.isArray(value) || value.length !== fallback.length) {
    throw shapeError(node, `${fallback.length} numbers as ${key}`, JSON.stringify(value));
  }
  return value as readonly number[];
}

/** The slot's shape, of `rank` sizes. */
function parameterShape(node: ShapeContext, slot: string, rank: number): Shape {
  const shape = node.parameters[slot];
  if (shape?.length !== rank) {
    const received = shape === undefined ? "none" : shapeText(shape);
    throw shapeError(node, `a ${slot} of ${rank} sizes`, received);
  }
  return shape;
}

/** How a window slides over rows and columns: sizes after a convolution or a pool. */
function slide(
  node: ShapeContext,
  kernel: readonly number[],
  defaultStride: readonly number[],
): readonly [number, number] {
  const [height, width] = imageOf(node);
  const [top = 0, left = 0, bottom = 0, right = 0] = integers(node, "padding", [0, 0, 0, 0]);
  const stride = integers(node, "stride", defaultStride);
  const dilation = integers(node, "dilation", [1, 1]);
  const size = (axis: 0 | 1, padded: number): number => {
    const reach = (dilation[axis] as number) * ((kernel[axis] as number) - 1) + 1;
    if (padded < reach) {
      throw shapeError(node, `an image of at least ${reach} along axis ${axis}`, `${padded}`);
    }
    return Math.floor((padded - reach) / (stride[axis] as number)) + 1;
  };
  return [size(0, height + top + bottom), size(1, width + left + right)];
}

function linear(node: ShapeContext): Shape {
  const [out, width] = parameterShape(node, "weight", 2) as [number, number];
  const input = firstInput(node);
  if (input.at(-1) !== width) {
    throw shapeError(node, `an input ending in ${width}`, shapeText(input));
  }
  return [...input.slice(0, -1), out];
}

function conv2d(node: ShapeContext): Shape {
  const weight = parameterShape(node, "weight", 4);
  const [out, perGroup] = weight as [number, number, number, number];
  const { groups = 1 } = node.attributes as { readonly groups?: number };
  if (imageOf(node)[2] !== perGroup * groups || out % groups !== 0) {
    const what = `an input of ${perGroup * groups} channels and outputs in ${groups} groups`;
    throw shapeError(node, what, `${shapeText(firstInput(node))} and ${out}`);
  }
  return [...slide(node, weight.slice(2), [1, 1]), out];
}

function pool2d(node: ShapeContext): Shape {
  const kernel = integers(node, "kernel", [1, 1]);
  return [...slide(node, kernel, kernel), imageOf(node)[2]];
}

function batchNorm(node: ShapeContext): Shape {
  const input = firstInput(node);
  const [channels] = parameterShape(node, "running_mean", 1);
  if (input.at(-1) !== channels) {
    throw shapeError(node, `an input of ${channels} channels`, shapeText(input));
  }
  return input;
}

function add(node: ShapeContext): Shape {
  const input = firstInput(node);
  if (node.inputs.some((other) => shapeText(other) !== shapeText(input))) {
    throw shapeError(node, "inputs of one shape", node.inputs.map(shapeText).join(" and "));
  }
  return input;
}

/** `axis` counts over the per-sample sizes, from the end when negative; −1 where it is left out. */
function concat(node: ShapeContext): Shape {
  const input = firstInput(node);
  const { axis: given = -1 } = node.attributes;
  const axis = typeof given === "number" && given < 0 ? given + input.length : given;
  if (typeof axis !== "number" || !(axis in input)) {
    const what = `an axis from ${-input.length} to ${input.length - 1}`;
    throw shapeError(node, what, String(given));
  }
  const rest = (shape: Shape): string => shapeText(shape.with(axis, 0));
  if (node.inputs.some((o) => o.length !== input.length || rest(o) !== rest(input))) {
    const received = node.inputs.map(shapeText).join(" and ");
    throw shapeError(node, `inputs that differ along axis ${axis} only`, received);
  }
  return input.with(
    axis,
    node.inputs.reduce((sum, shape) => sum + (shape[axis] as number), 0),
  );
}

function pad2d(node: ShapeContext): Shape {
  const [height, width, channels] = imageOf(node);
  const [top = 0, left = 0, bottom = 0, right = 0] = integers(node, "padding", [0, 0, 0, 0]);
  const [before = 0, after = 0] = integers(node, "channels", [0, 0]);
  const [rows = 1, columns = 1] = integers(node, "step", [1, 1]);
  return [
    Math.ceil(height / rows) + top + bottom,
    Math.ceil(width / columns) + left + right,
    channels + before + after,
  ];
}

const kRules: Readonly<Record<string, ShapeRule>> = {
  linear,
  conv2d,
  batch_norm: batchNorm,
  relu: firstInput,
  dropout: firstInput,
  max_pool2d: pool2d,
  avg_pool2d: pool2d,
  global_avg_pool: (node) => [imageOf(node)[2]],
  add,
  concat,
  flatten: (node) => [firstInput(node).reduce((product, size) => product * size, 1)],
  pad2d,
};

/**
 * The output's per-sample shape of a node of the image ops; undefined for an op without a rule here (the engine infers
 * every shape anew and has the last word).
 *
 * @throws {@link FishermaskError} `ERR_FM_SHAPE` naming the node
 */
export function inferShape(node: ShapeContext): Shape | undefined {
  return Object.hasOwn(kRules, node.op) ? kRules[node.op]?.(node) : undefined;
}
