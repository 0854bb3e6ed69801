import { defineArchitecture, FEATURES, imageShape, LOGITS } from "../architecture.js";
import { GraphBuilder } from "../builder.js";
import { GOOGLENET_STAGES, type InceptionWidths } from "./googlenet.js";

const kStemChannels = 192;

interface Conv {
  readonly out: number;
  readonly kernel: number;
}

/** Convolution with bias, batch norm, ReLU, as modules `first`, `first` + 1 and `first` + 2 of a sequence. */
function convNorm(b: GraphBuilder, name: string, first: number, x: string, conv: Conv): string {
  const padding = (conv.kernel - 1) / 2;
  const y = b.conv2d(`${name}.${first}`, x, { ...conv, padding });
  return b.relu(`${name}.${first + 2}`, b.batchNorm(`${name}.${first + 1}`, y));
}

function sequence(b: GraphBuilder, name: string, x: string, convs: readonly Conv[]): string {
  return convs.reduce((y, conv, i) => convNorm(b, name, 3 * i, y, conv), x);
}

/** The 5 × 5 convolution is two of 3 × 3. */
function inception(b: GraphBuilder, name: string, x: string, widths: InceptionWidths): string {
  const [one, reduceThree, three, reduceFive, five, pooled] = widths;
  const conv = (out: number, kernel: number): Conv => ({ out, kernel });
  const branches = [
    sequence(b, `${name}.b1`, x, [conv(one, 1)]),
    sequence(b, `${name}.b2`, x, [conv(reduceThree, 1), conv(three, 3)]),
    sequence(b, `${name}.b3`, x, [conv(reduceFive, 1), conv(five, 3), conv(five, 3)]),
  ];
  const pool = b.maxPool2d(`${name}.b4.0`, x, { kernel: 3, stride: 1, padding: 1 });
  const last = convNorm(b, `${name}.b4`, 1, pool, conv(pooled, 1));
  return b.concat(`${name}.concat`, [...branches, last], { axis: -1 });
}

/**
 * The CIFAR form of GoogLeNet under the names of kuangliu/pytorch-cifar: pre_layers.0, a3.b1.0, …, b5.b4.1, linear. At
 * 32 × 32 pixels its last pool is the mean over all positions; so it is here at every size.
 *
 * Source: Szegedy et al., "Going deeper with convolutions", arXiv:1409.4842; kuangliu/pytorch-cifar, models/googlenet.py.
 */
export const architecture = defineArchitecture({
  names: ["googlenet_cifar"],
  summary: "GoogLeNet with a 3 × 3 stem, for small images",
  build: (options, name) => {
    imageShape(options);
    const b = new GraphBuilder(name);
    const stem = { out: kStemChannels, kernel: 3 };
    let x = convNorm(b, "pre_layers", 0, b.input("input", options.inputShape), stem);
    GOOGLENET_STAGES.forEach((stage, i) => {
      if (i > 0) x = b.maxPool2d(`maxpool${i}`, x, { kernel: 3, stride: 2, padding: 1 });
      // "3a" there is "a3" here.
      for (const [which, widths] of stage) {
        x = inception(b, which.split("").toReversed().join(""), x, widths);
      }
    });
    b.globalAvgPool("avgpool", x, { output: FEATURES });
    const head = { out: options.classes, output: LOGITS };
    return b.build([b.linear("linear", FEATURES, head), FEATURES]);
  },
});
