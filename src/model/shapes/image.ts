import { shapeText } from "../graph-error.js";
import {
  firstInput,
  imageOf,
  integers,
  parameterShape,
  type Shape,
  type ShapeContext,
  type ShapeRule,
  shapeError,
  volume,
} from "./context.js";

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

/** Along one axis: (size − 1)·stride − padding + reach + output_padding. */
function convTranspose2d(node: ShapeContext): Shape {
  const weight = parameterShape(node, "weight", 4);
  const [channels, perGroup, ...kernel] = weight as [number, number, number, number];
  const image = imageOf(node);
  if (image[2] !== channels) {
    throw shapeError(node, `an input of ${channels} channels`, shapeText(image));
  }
  const padding = integers(node, "padding", [0, 0, 0, 0]);
  const stride = integers(node, "stride", [1, 1]);
  const dilation = integers(node, "dilation", [1, 1]);
  const extra = integers(node, "output_padding", [0, 0]);
  const size = (axis: 0 | 1): number => {
    const reach = (dilation[axis] as number) * ((kernel[axis] as number) - 1) + 1;
    const cut = (padding[axis] as number) + (padding[axis + 2] as number);
    const out = (image[axis] - 1) * (stride[axis] as number) - cut + reach;
    if (out + (extra[axis] as number) >= 1) return out + (extra[axis] as number);
    throw shapeError(node, `less padding along axis ${axis}`, `${cut}`);
  };
  const { groups = 1 } = node.attributes as { readonly groups?: number };
  return [size(0), size(1), perGroup * groups];
}

/** Rules of the ops that read images (H, W, C). */
export const imageRules: Readonly<Record<string, ShapeRule>> = {
  conv2d,
  conv_transpose2d: convTranspose2d,
  max_pool2d: pool2d,
  avg_pool2d: pool2d,
  global_avg_pool: (node) => [imageOf(node)[2]],
  flatten: (node) => [volume(firstInput(node))],
  pad2d,
};
