import {
  type ArchitectureOptions,
  defineArchitecture,
  FEATURES,
  imageShape,
  LOGITS,
} from "../architecture.js";
import { GraphBuilder } from "../builder.js";
import { expected, shapeText } from "../graph-error.js";
import type { LayerInit } from "../layer-options.js";

/** Convolutions (their channels) in each of the five stages; a pool ends each stage. */
const kStages: Readonly<Record<string, readonly (readonly number[])[]>> = {
  vgg11_bn: [[64], [128], [256, 256], [512, 512], [512, 512]],
  vgg13_bn: [
    [64, 64],
    [128, 128],
    [256, 256],
    [512, 512],
    [512, 512],
  ],
  vgg16_bn: [
    [64, 64],
    [128, 128],
    [256, 256, 256],
    [512, 512, 512],
    [512, 512, 512],
  ],
};
// As torchvision fills them.
const kConvInit: LayerInit = {
  weight: { kind: "kaiming-normal", mode: "fan-out", gain: Math.SQRT2 },
  bias: { kind: "zeros" },
};
const kLinearInit: LayerInit = { weight: { kind: "normal", std: 0.01 }, bias: { kind: "zeros" } };
const kImageNetSide = 224;
const kHiddenSize = 4096;
const kDropout = 0.5;

/** Modules are numbered through as in nn.Sequential: conv, norm and relu take three numbers, a pool one. */
function addFeatures(b: GraphBuilder, name: string, input: string): string {
  let x = input;
  let module = 0;
  for (const stage of kStages[name] ?? []) {
    for (const out of stage) {
      const conv = { out, kernel: 3, padding: 1, init: kConvInit };
      x = b.batchNorm(`features.${module + 1}`, b.conv2d(`features.${module}`, x, conv));
      x = b.relu(`features.${module + 2}`, x);
      module += 3;
    }
    x = b.maxPool2d(`features.${module}`, x, { kernel: 2 });
    module += 1;
  }
  return x;
}

/** torchvision's classifier: linear, ReLU, dropout twice (classifier.0 to classifier.5), then classifier.6. */
function imageNetHead(b: GraphBuilder, input: string): string {
  let x = b.flatten("flatten", input);
  for (const module of [0, 3]) {
    x = b.linear(`classifier.${module}`, x, { out: kHiddenSize, init: kLinearInit });
    x = b.relu(`classifier.${module + 1}`, x);
    const output = module === 3 ? FEATURES : "classifier.2";
    x = b.dropout(`classifier.${module + 2}`, x, { rate: kDropout, output });
  }
  return "classifier.6";
}

/** The CIFAR form: the mean over what positions are left (one of 32 × 32), then one linear layer. */
function smallHead(b: GraphBuilder, input: string): string {
  b.globalAvgPool("avgpool", input, { output: FEATURES });
  return "classifier.0";
}

function checkSize(options: ArchitectureOptions): number {
  const [height, width] = imageShape(options);
  if (height % 32 !== 0 || width % 32 !== 0) {
    const received = shapeText(options.inputShape);
    throw expected(
      "ERR_FM_ARGUMENT",
      "rows and columns in multiples of 32",
      "inputShape",
      received,
    );
  }
  return height === width ? height : 0;
}

/**
 * VGG with batch norm under torchvision's names: features.0.weight, features.1.running_mean, … At 224 × 224 pixels the
 * classifier is torchvision's (classifier.0, .3, .6), at all other sizes, unlike there, a single linear classifier.0
 * from 512 features: the form in use for CIFAR.
 *
 * Source: Simonyan, Zisserman, "Very deep convolutional networks", arXiv:1409.1556; torchvision.models.vgg.
 */
export const architecture = defineArchitecture({
  names: Object.keys(kStages),
  summary: "VGG with batch norm; one linear layer as its classifier but at 224 × 224",
  build: (options, name) => {
    const side = checkSize(options);
    const b = new GraphBuilder(name);
    const x = addFeatures(b, name, b.input("input", options.inputShape));
    const head = side === kImageNetSide ? imageNetHead(b, x) : smallHead(b, x);
    const last = { out: options.classes, init: kLinearInit, output: LOGITS };
    return b.build([b.linear(head, FEATURES, last), FEATURES]);
  },
});
