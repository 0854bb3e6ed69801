import { defineArchitecture, FEATURES, imageShape, LOGITS } from "../architecture.js";
import { GraphBuilder } from "../builder.js";
import type { LayerInit } from "../layer-options.js";

// torchvision: normal with deviation 0.01 (cut off at ±2, which is 200 deviations away).
const kInit: LayerInit = { weight: { kind: "normal", std: 0.01 } };
const kEpsilon = 0.001;
const kDropout = 0.2;

/** Channels of an inception: 1 × 1; before and after the 3 × 3; before and after the "5 × 5"; after the pool. */
export type InceptionWidths = readonly [number, number, number, number, number, number];

/** By stage; a pool stands between two stages. */
export const GOOGLENET_STAGES: readonly (readonly (readonly [
  name: string,
  widths: InceptionWidths,
])[])[] = [
  [
    ["3a", [64, 96, 128, 16, 32, 32]],
    ["3b", [128, 128, 192, 32, 96, 64]],
  ],
  [
    ["4a", [192, 96, 208, 16, 48, 64]],
    ["4b", [160, 112, 224, 24, 64, 64]],
    ["4c", [128, 128, 256, 24, 64, 64]],
    ["4d", [112, 144, 288, 32, 64, 64]],
    ["4e", [256, 160, 320, 32, 128, 128]],
  ],
  [
    ["5a", [256, 160, 320, 32, 128, 128]],
    ["5b", [384, 192, 384, 48, 128, 128]],
  ],
];

/** A convolution without bias, batch norm, ReLU: `<name>.conv`, `<name>.bn`. */
function basicConv(
  b: GraphBuilder,
  name: string,
  x: string,
  conv: { readonly out: number; readonly kernel: number; readonly stride?: number },
): string {
  const padding = (conv.kernel - 1) / 2;
  const y = b.conv2d(`${name}.conv`, x, { ...conv, padding, bias: false, init: kInit });
  return b.relu(`${name}.relu`, b.batchNorm(`${name}.bn`, y, { epsilon: kEpsilon }));
}

/** How far PyTorch's ceil_mode lets the last window of stride 2 reach beyond an axis without padding. */
function overhang(size: number, kernel: number): number {
  const steps = Math.ceil((size - kernel) / 2);
  return Math.max(0, steps * 2 + kernel - size);
}

/** Stride 2, no padding, ceil_mode. */
function ceilPool(b: GraphBuilder, name: string, x: string, kernel: number): string {
  const [height = 0, width = 0] = b.shapeOf(x);
  const padding = [0, 0, overhang(height, kernel), overhang(width, kernel)] as const;
  return b.maxPool2d(name, x, { kernel, stride: 2, padding });
}

function inception(b: GraphBuilder, name: string, x: string, widths: InceptionWidths): string {
  const [one, reduceThree, three, reduceFive, five, pooled] = widths;
  const pair = (branch: string, reduce: number, out: number): string => {
    const reduced = basicConv(b, `${name}.${branch}.0`, x, { out: reduce, kernel: 1 });
    // 3 × 3 in both: torchvision's weights have it so where the paper has 5 × 5.
    return basicConv(b, `${name}.${branch}.1`, reduced, { out, kernel: 3 });
  };
  const first = basicConv(b, `${name}.branch1`, x, { out: one, kernel: 1 });
  const middle = [pair("branch2", reduceThree, three), pair("branch3", reduceFive, five)];
  const pool = b.maxPool2d(`${name}.branch4.0`, x, { kernel: 3, stride: 1, padding: 1 });
  const last = basicConv(b, `${name}.branch4.1`, pool, { out: pooled, kernel: 1 });
  return b.concat(`${name}.concat`, [first, ...middle, last], { axis: -1 });
}

function stem(b: GraphBuilder, input: string): string {
  let x = basicConv(b, "conv1", input, { out: 64, kernel: 7, stride: 2 });
  x = basicConv(b, "conv2", ceilPool(b, "maxpool1", x, 3), { out: 64, kernel: 1 });
  return ceilPool(b, "maxpool2", basicConv(b, "conv3", x, { out: 192, kernel: 3 }), 3);
}

/**
 * GoogLeNet with batch norm under torchvision's names: conv1.conv, conv1.bn, …, inception3a.branch2.0.conv, …, fc.
 * torchvision asks for at least 15 × 15 pixels. Its auxiliary heads (aux1, aux2) serve training alone and are not part of
 * the graph.
 *
 * torchvision's own weights are meant for `transform_input`, which rescales an image from ImageNet's mean and deviation to
 * 0.5 and 0.5 before the first layer. That is no layer here: give such images as --normalize '0.5,0.5,0.5/0.5,0.5,0.5',
 * which is the same input.
 *
 * Source: Szegedy et al., "Going deeper with convolutions", arXiv:1409.4842; torchvision.models.googlenet.
 */
export const architecture = defineArchitecture({
  names: ["googlenet"],
  summary: "torchvision's GoogLeNet (its own weights: normalise by 0.5 and 0.5)",
  build: (options, name) => {
    imageShape(options);
    const b = new GraphBuilder(name);
    let x = stem(b, b.input("input", options.inputShape));
    GOOGLENET_STAGES.forEach((stage, i) => {
      if (i > 0) x = ceilPool(b, `maxpool${i + 2}`, x, i === 1 ? 3 : 2);
      for (const [which, widths] of stage) x = inception(b, `inception${which}`, x, widths);
    });
    x = b.globalAvgPool("avgpool", x);
    b.dropout("dropout", x, { rate: kDropout, output: FEATURES });
    const head = { out: options.classes, init: kInit, output: LOGITS };
    return b.build([b.linear("fc", FEATURES, head), FEATURES]);
  },
});
