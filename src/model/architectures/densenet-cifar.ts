import { defineArchitecture, FEATURES, imageShape, LOGITS } from "../architecture.js";
import { GraphBuilder } from "../builder.js";

const kBlocks = [6, 12, 24, 16] as const;
const kGrowth = 12;
/** The 1 × 1 convolution's channels, in multiples of the growth. */
const kBottleneck = 4;

/** Batch norm, ReLU, then a convolution without bias: `<name>.bn<i>`, `<name>.conv<i>`. */
function normConv(
  b: GraphBuilder,
  name: string,
  i: 1 | 2 | "",
  x: string,
  conv: { readonly out: number; readonly kernel: number },
): string {
  const y = b.relu(`${name}.relu${i}`, b.batchNorm(`${name}.bn${i}`, x));
  return b.conv2d(`${name}.conv${i}`, y, { ...conv, padding: (conv.kernel - 1) / 2, bias: false });
}

/** What a layer makes is put before what it read: the other way round than torchvision. */
function bottleneck(b: GraphBuilder, name: string, x: string): string {
  const inner = normConv(b, name, 1, x, { out: kBottleneck * kGrowth, kernel: 1 });
  const made = normConv(b, name, 2, inner, { out: kGrowth, kernel: 3 });
  return b.concat(`${name}.concat`, [made, x], { axis: -1 });
}

function transition(b: GraphBuilder, name: string, x: string): string {
  const out = Math.floor((b.shapeOf(x)[2] as number) / 2);
  return b.avgPool2d(`${name}.pool`, normConv(b, name, "", x, { out, kernel: 1 }), { kernel: 2 });
}

/**
 * The CIFAR form of DenseNet-121 with growth 12, under the names of kuangliu/pytorch-cifar's `densenet_cifar`: conv1,
 * dense1.0.bn1, …, trans1.conv, …, bn, linear. At 32 × 32 pixels its last pool is the mean over all positions; so it is
 * here at every size. At least 8 × 8 pixels.
 *
 * Source: Huang, Liu, van der Maaten, Weinberger, "Densely connected convolutional networks", arXiv:1608.06993;
 * kuangliu/pytorch-cifar, models/densenet.py.
 */
export const architecture = defineArchitecture({
  names: ["densenet_cifar"],
  summary: "DenseNet of 121 layers with growth 12, for small images",
  build: (options, name) => {
    imageShape(options);
    const b = new GraphBuilder(name);
    const conv = { out: 2 * kGrowth, kernel: 3, padding: 1, bias: false };
    let x = b.conv2d("conv1", b.input("input", options.inputShape), conv);
    kBlocks.forEach((layers, stage) => {
      for (let i = 0; i < layers; i += 1) x = bottleneck(b, `dense${stage + 1}.${i}`, x);
      if (stage + 1 < kBlocks.length) x = transition(b, `trans${stage + 1}`, x);
    });
    x = b.relu("relu", b.batchNorm("bn", x));
    b.globalAvgPool("avgpool", x, { output: FEATURES });
    const head = { out: options.classes, output: LOGITS };
    return b.build([b.linear("linear", FEATURES, head), FEATURES]);
  },
});
