import { defineArchitecture, FEATURES, imageShape, LOGITS } from "../architecture.js";
import { GraphBuilder } from "../builder.js";
import { FAN_OUT } from "./fillings.js";

interface Form {
  /** Blocks in each of the four stages. */
  readonly blocks: readonly number[];
  /** Blocks of 1 × 1, 3 × 3 and 1 × 1 convolutions whose output has four times the stage's channels. */
  readonly bottleneck: boolean;
}

const kForms: Readonly<Record<string, Form>> = {
  resnet18: { blocks: [2, 2, 2, 2], bottleneck: false },
  resnet34: { blocks: [3, 4, 6, 3], bottleneck: false },
  resnet50: { blocks: [3, 4, 6, 3], bottleneck: true },
};
const kStageChannels = [64, 128, 256, 512] as const;
const kExpansion = 4;
const kSmall = "_cifar";

interface Conv {
  readonly out: number;
  readonly kernel: number;
  readonly stride?: number;
}

/** A convolution without bias that keeps rows and columns but for its stride, then its batch norm. */
function convNorm(
  b: GraphBuilder,
  names: readonly [string, string],
  x: string,
  conv: Conv,
): string {
  const padding = (conv.kernel - 1) / 2;
  const y = b.conv2d(names[0], x, { ...conv, padding, bias: false, init: FAN_OUT });
  return b.batchNorm(names[1], y);
}

function residual(b: GraphBuilder, name: string, x: string, convs: readonly Conv[]): string {
  let y = x;
  convs.forEach((conv, i) => {
    const names = [`${name}.conv${i + 1}`, `${name}.bn${i + 1}`] as const;
    y = convNorm(b, names, y, conv);
    if (i + 1 < convs.length) y = b.relu(`${name}.relu${i + 1}`, y);
  });
  return y;
}

/** The stride is that of the 3 × 3 convolution, as torchvision has it (the paper: of the first). */
function convsOf(bottleneck: boolean, width: number, stride: number): readonly Conv[] {
  const middle = { out: width, kernel: 3, stride };
  if (!bottleneck) return [middle, { out: width, kernel: 3 }];
  return [{ out: width, kernel: 1 }, middle, { out: width * kExpansion, kernel: 1 }];
}

function block(
  b: GraphBuilder,
  name: string,
  x: string,
  convs: readonly Conv[],
  stride: number,
): string {
  const out = convs.at(-1)?.out as number;
  const keeps = stride === 1 && b.shapeOf(x)[2] === out;
  const names = [`${name}.downsample.0`, `${name}.downsample.1`] as const;
  const shortcut = keeps ? x : convNorm(b, names, x, { out, kernel: 1, stride });
  const sum = b.add(`${name}.add`, [residual(b, name, x, convs), shortcut]);
  return b.relu(`${name}.relu`, sum);
}

function stem(b: GraphBuilder, input: string, small: boolean): string {
  const conv = small ? { out: 64, kernel: 3 } : { out: 64, kernel: 7, stride: 2 };
  const x = b.relu("relu", convNorm(b, ["conv1", "bn1"], input, conv));
  return small ? x : b.maxPool2d("maxpool", x, { kernel: 3, stride: 2, padding: 1 });
}

/**
 * Residual networks with projection shortcuts under torchvision's names: conv1, bn1, layer1.0.conv1, …,
 * layer2.0.downsample.0, fc. `<name>_cifar` has the same names and, for small images, a stem of one 3 × 3 convolution of
 * stride 1 without the max pool.
 *
 * Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", arXiv:1512.03385, section 4.1;
 * torchvision.models.resnet.
 */
export const architecture = defineArchitecture({
  names: Object.keys(kForms).flatMap((name) => [name, `${name}${kSmall}`]),
  summary:
    "torchvision's residual network; _cifar: a 3 × 3 stem without max pool, for small images",
  build: (options, name) => {
    imageShape(options);
    const small = name.endsWith(kSmall);
    const { blocks, bottleneck } = kForms[small ? name.slice(0, -kSmall.length) : name] as Form;
    const b = new GraphBuilder(name);
    let x = stem(b, b.input("input", options.inputShape), small);
    kStageChannels.forEach((width, stage) => {
      for (let i = 0; i < (blocks[stage] ?? 0); i += 1) {
        const stride = stage > 0 && i === 0 ? 2 : 1;
        const convs = convsOf(bottleneck, width, stride);
        x = block(b, `layer${stage + 1}.${i}`, x, convs, stride);
      }
    });
    b.globalAvgPool("avgpool", x, { output: FEATURES });
    return b.build([b.linear("fc", FEATURES, { out: options.classes, output: LOGITS }), FEATURES]);
  },
});
