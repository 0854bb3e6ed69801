import { defineArchitecture, FEATURES, imageShape, LOGITS } from "../architecture.js";
import { GraphBuilder } from "../builder.js";
import type { LayerInit } from "../layer-options.js";

// A network of depth 6n + 2 has three stages of n blocks of two convolutions.
const kBlocks: Readonly<Record<string, number>> = {
  resnet20: 3,
  resnet32: 5,
  resnet44: 7,
  resnet56: 9,
};
const kStageChannels = [16, 32, 64] as const;
// The published recipe: kaiming_normal_ with its defaults for convolutions and the head; the head's bias is PyTorch's.
const kInit: LayerInit = {
  weight: { kind: "kaiming-normal", mode: "fan-in", gain: Math.SQRT2 },
};

/** conv 3 × 3 without bias, then batch norm: `<prefix>conv<i>`, `<prefix>bn<i>`. */
function convNorm(
  b: GraphBuilder,
  prefix: string,
  i: number,
  x: string,
  out: number,
  stride: number,
): string {
  const options = { out, kernel: 3, padding: 1, stride, bias: false, init: kInit };
  return b.batchNorm(`${prefix}bn${i}`, b.conv2d(`${prefix}conv${i}`, x, options));
}

/** Option A: no parameters; every second pixel, and zeros for the new channels, half before and half after. */
function shortcut(b: GraphBuilder, name: string, x: string, out: number, stride: number): string {
  const missing = out - (b.shapeOf(x)[2] ?? 0);
  if (missing === 0 && stride === 1) return x;
  return b.pad2d(name, x, { step: stride, channels: [missing / 2, missing / 2] });
}

function basicBlock(b: GraphBuilder, name: string, x: string, out: number, stride: number): string {
  const inner = b.relu(`${name}.relu1`, convNorm(b, `${name}.`, 1, x, out, stride));
  const deep = convNorm(b, `${name}.`, 2, inner, out, 1);
  const sum = b.add(`${name}.add`, [deep, shortcut(b, `${name}.shortcut`, x, out, stride)]);
  return b.relu(`${name}.relu2`, sum);
}

/**
 * CIFAR residual networks with option A shortcuts, under the names of akamaster/pytorch_resnet_cifar10: conv1, bn1,
 * layer1.0.conv1, …, linear.
 *
 * Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", arXiv:1512.03385, section 4.2.
 */
export const architecture = defineArchitecture({
  names: Object.keys(kBlocks),
  summary: "CIFAR residual network of depth 6n + 2 with parameter-free shortcuts",
  build: (options, name) => {
    imageShape(options);
    const b = new GraphBuilder(name);
    let x = b.relu("relu1", convNorm(b, "", 1, b.input("input", options.inputShape), 16, 1));
    kStageChannels.forEach((out, stage) => {
      for (let block = 0; block < (kBlocks[name] ?? 0); block += 1) {
        const stride = stage > 0 && block === 0 ? 2 : 1;
        x = basicBlock(b, `layer${stage + 1}.${block}`, x, out, stride);
      }
    });
    x = b.globalAvgPool("pool", x, { output: FEATURES });
    const head = { out: options.classes, init: kInit, output: LOGITS };
    return b.build([b.linear("linear", x, head), FEATURES]);
  },
});
