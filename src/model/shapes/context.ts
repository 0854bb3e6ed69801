import type { FishermaskError } from "../../native/errors.js";
import type { AttributeValue } from "../graph.js";
import { expected, shapeText } from "../graph-error.js";

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

export type ShapeRule = (node: ShapeContext) => Shape;

export function shapeError(node: ShapeContext, what: string, received: string): FishermaskError {
  return expected("ERR_FM_SHAPE", what, `node ${node.name} (${node.op})`, received);
}

export function firstInput(node: ShapeContext): Shape {
  const shape = node.inputs[0];
  if (shape === undefined) throw shapeError(node, "an input", "none");
  return shape;
}

export function imageOf(node: ShapeContext): readonly [number, number, number] {
  const [height, width, channels, ...rest] = firstInput(node);
  if (height === undefined || width === undefined || channels === undefined || rest.length > 0) {
    throw shapeError(node, "an image (H, W, C)", shapeText(firstInput(node)));
  }
  return [height, width, channels];
}

/** An attribute of `fallback.length` whole numbers. */
export function integers(
  node: ShapeContext,
  key: string,
  fallback: readonly number[],
): readonly number[] {
  const value = node.attributes[key] ?? fallback;
  if (!Array.isArray(value) || value.length !== fallback.length) {
    throw shapeError(node, `${fallback.length} numbers as ${key}`, JSON.stringify(value));
  }
  return value as readonly number[];
}

/** The slot's shape, of `rank` sizes. */
export function parameterShape(node: ShapeContext, slot: string, rank: number): Shape {
  const shape = node.parameters[slot];
  if (shape?.length !== rank) {
    const received = shape === undefined ? "none" : shapeText(shape);
    throw shapeError(node, `a ${slot} of ${rank} sizes`, received);
  }
  return shape;
}

/** An attribute that is a list of whole numbers, `length` of them where given. */
export function list(node: ShapeContext, key: string, length?: number): readonly number[] {
  const value = node.attributes[key];
  if (!Array.isArray(value) || (length !== undefined && value.length !== length)) {
    const what = `${length ?? "a list of"} numbers as ${key}`;
    throw shapeError(node, what, JSON.stringify(value) ?? "none");
  }
  return value as readonly number[];
}

/** An attribute that is a whole number. */
export function integer(node: ShapeContext, key: string, fallback?: number): number {
  const value = node.attributes[key] ?? fallback;
  if (typeof value === "number" && Number.isSafeInteger(value)) return value;
  throw shapeError(node, `a whole number as ${key}`, JSON.stringify(value) ?? "none");
}

/** Input `i`; an op of two or more operands must have it. */
export function inputAt(node: ShapeContext, i: number): Shape {
  const shape = node.inputs[i];
  if (shape === undefined) throw shapeError(node, `${i + 1} inputs`, `${node.inputs.length}`);
  return shape;
}

/** An axis over the per-sample sizes, from the end when negative, as its place from 0. */
export function axisOf(node: ShapeContext, shape: Shape, given: unknown): number {
  const axis = typeof given === "number" && given < 0 ? given + shape.length : given;
  if (typeof axis === "number" && axis in shape) return axis;
  const what = `an axis from ${-shape.length} to ${shape.length - 1}`;
  throw shapeError(node, what, String(given));
}

/** The product of the sizes. */
export function volume(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** NumPy's rule: sizes are aligned at the end; where they differ, one of them is 1. */
export function broadcast(node: ShapeContext, shapes: readonly Shape[]): Shape {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, i) => {
    const sizes = shapes.map((shape) => shape[shape.length - rank + i] ?? 1);
    const size = sizes.find((other) => other !== 1) ?? 1;
    if (sizes.every((other) => other === 1 || other === size)) return size;
    throw shapeError(node, "sizes that broadcast", shapes.map(shapeText).join(" and "));
  });
}
