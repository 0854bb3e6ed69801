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
import { FAN_OUT } from "./fillings.js";

/** Convolutions in each of the five stages; a pool ends each stage. */
const kConvs: Readonly<Record<string, readonly number[]>> = {
  vgg11: [1, 1, 2, 2, 2],
  vgg13: [2, 2, 2, 2, 2],
  vgg16: [2, 2, 3, 3, 3],
  vgg19: [2, 2, 4, 4, 4],
};
const kStageChannels = [64, 128, 256, 512, 512] as const;
const kNormed = "_bn";
// As torchvision fills it.
const kLinearInit: LayerInit = { weight: { kind: "normal", std: 0.01 }, bias: { kind: "zeros" } };
const kImageNetSide = 224;
/** What torchvision's adaptive pool leaves of rows and columns. */
const kPooled = 7;
const kHiddenSize = 4096;
const kDropout = 0.5;

/** Modules are numbered through as in nn.Sequential: conv, norm (if any) and relu take one number each, a pool one. */
function addFeatures(b: GraphBuilder, name: string, input: string): string {
  const normed = name.endsWith(kNormed);
  const convs = kConvs[normed ? name.slice(0, -kNormed.length) : name] ?? [];
  let x = input;
  let module = 0;
  const next = (): string => `features.${module++}`;
  kStageChannels.forEach((out, stage) => {
    for (let i = 0; i < (convs[stage] ?? 0); i += 1) {
      x = b.conv2d(next(), x, { out, kernel: 3, padding: 1, init: FAN_OUT });
      if (normed) x = b.batchNorm(next(), x);
      x = b.relu(next(), x);
    }
    x = b.maxPool2d(next(), x, { kernel: 2 });
  });
  return x;
}

/**
 * torchvision's adaptive pool to 7 × 7. At multiples of 224 pixels its windows are equal and do not overlap, so that they
 * are those of a plain pool; at 224 each holds one pixel.
 */
function adaptivePool(b: GraphBuilder, x: string): string {
  const [height = 0, width = 0] = b.shapeOf(x);
  const kernel = [height / kPooled, width / kPooled] as const;
  return kernel.every((size) => size === 1) ? x : b.avgPool2d("avgpool", x, { kernel });
}

/** torchvision's classifier: linear, ReLU, dropout twice (classifier.0 to classifier.5), then classifier.6. */
function imageNetHead(b: GraphBuilder, input: string): string {
  let x = b.flatten("flatten", adaptivePool(b, input));
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

/** Whether the classifier is torchvision's. */
function isImageNet(options: ArchitectureOptions): boolean {
  const [height, width] = imageShape(options);
  if (height % 32 !== 0 || width % 32 !== 0) {
    const received = shapeText(options.inputShape);
    const what = "rows and columns in multiples of 32";
    throw expected("ERR_FM_ARGUMENT", what, "inputShape", received);
  }
  return height % kImageNetSide === 0 && width % kImageNetSide === 0;
}

/**
 * VGG under torchvision's names, with batch norm where the name ends in _bn: features.0.weight, features.1.running_mean,
 * … At 224 × 224 pixels and its multiples the classifier is torchvision's (classifier.0, .3, .6), at all other sizes,
 * unlike there, a single linear classifier.0 from 512 features: the form in use for CIFAR. (torchvision pools other sizes
 * to 7 × 7 with windows that overlap.)
 *
 * Source: Simonyan, Zisserman, "Very deep convolutional networks", arXiv:1409.1556; torchvision.models.vgg.
 */
export const architecture = defineArchitecture({
  names: Object.keys(kConvs).flatMap((name) => [name, `${name}${kNormed}`]),
  summary: "VGG, _bn: with batch norm; one linear layer as its classifier but at multiples of 224",
  build: (options, name) => {
    const imageNet = isImageNet(options);
    const b = new GraphBuilder(name);
    const x = addFeatures(b, name, b.input("input", options.inputShape));
    const head = imageNet ? imageNetHead(b, x) : smallHead(b, x);
    const last = { out: options.classes, init: kLinearInit, output: LOGITS };
    return b.build([b.linear(head, FEATURES, last), FEATURES]);
  },
});
