import { defineArchitecture, FEATURES, imageShape, LOGITS } from "../architecture.js";
import { GraphBuilder } from "../builder.js";
import { FAN_IN } from "./fillings.js";

const kBlocks = [6, 12, 24, 16] as const;
const kGrowth = 32;
const kStemChannels = 64;
/** The 1 × 1 convolution's channels, in multiples of the growth. */
const kBottleneck = 4;

interface Names {
  readonly norm: string;
  readonly relu: string;
  readonly conv: string;
}

/** Batch norm, ReLU, then a convolution without bias. */
function normConv(
  b: GraphBuilder,
  names: Names,
  x: string,
  conv: { readonly out: number; readonly kernel: number },
): string {
  const y = b.relu(names.relu, b.batchNorm(names.norm, x));
  const padding = (conv.kernel - 1) / 2;
  return b.conv2d(names.conv, y, { ...conv, padding, bias: false, init: FAN_IN });
}

function numbered(name: string, i: 1 | 2): Names {
  return { norm: `${name}.norm${i}`, relu: `${name}.relu${i}`, conv: `${name}.conv${i}` };
}

/** Each layer reads all that came before in its block; what it makes is put after that. */
function denseBlock(b: GraphBuilder, name: string, input: string, layers: number): string {
  let x = input;
  for (let i = 1; i <= layers; i += 1) {
    const layer = `${name}.denselayer${i}`;
    const inner = normConv(b, numbered(layer, 1), x, { out: kBottleneck * kGrowth, kernel: 1 });
    const made = normConv(b, numbered(layer, 2), inner, { out: kGrowth, kernel: 3 });
    x = b.concat(`${layer}.concat`, [x, made], { axis: -1 });
  }
  return x;
}

function transition(b: GraphBuilder, name: string, x: string): string {
  const names = { norm: `${name}.norm`, relu: `${name}.relu`, conv: `${name}.conv` };
  const out = Math.floor((b.shapeOf(x)[2] as number) / 2);
  return b.avgPool2d(`${name}.pool`, normConv(b, names, x, { out, kernel: 1 }), { kernel: 2 });
}

function stem(b: GraphBuilder, input: string): string {
  const conv = { out: kStemChannels, kernel: 7, stride: 2, padding: 3, bias: false, init: FAN_IN };
  const x = b.relu(
    "features.relu0",
    b.batchNorm("features.norm0", b.conv2d("features.conv0", input, conv)),
  );
  return b.maxPool2d("features.pool0", x, { kernel: 3, stride: 2, padding: 1 });
}

/**
 * DenseNet-121 under torchvision's names: features.conv0, features.denseblock1.denselayer1.norm1, …,
 * features.transition1.conv, …, features.norm5, classifier. At least 29 × 29 pixels.
 *
 * Source: Huang, Liu, van der Maaten, Weinberger, "Densely connected convolutional networks", arXiv:1608.06993;
 * torchvision.models.densenet.
 */
export const architecture = defineArchitecture({
  names: ["densenet121"],
  summary: "torchvision's DenseNet of 121 layers",
  build: (options, name) => {
    imageShape(options);
    const b = new GraphBuilder(name);
    let x = stem(b, b.input("input", options.inputShape));
    kBlocks.forEach((layers, i) => {
      x = denseBlock(b, `features.denseblock${i + 1}`, x, layers);
      if (i + 1 < kBlocks.length) x = transition(b, `features.transition${i + 1}`, x);
    });
    x = b.relu("relu", b.batchNorm("features.norm5", x));
    b.globalAvgPool("avgpool", x, { output: FEATURES });
    const init = { bias: { kind: "zeros" } } as const;
    const head = { out: options.classes, init, output: LOGITS };
    return b.build([b.linear("classifier", FEATURES, head), FEATURES]);
  },
});
