import { defineArchitecture, FEATURES, imageShape, LOGITS } from "../architecture.js";
import { GraphBuilder } from "../builder.js";
import { expected, shapeText } from "../graph-error.js";

// 28 → 28 by padding, 32 → 28 without: both reach the same 5 × 5 × 16 before fc1.
const kPadding: Readonly<Record<number, number>> = { 28: 2, 32: 0 };

/**
 * LeNet-5's sizes with ReLU and max pooling: conv1 6 × 5 × 5, conv2 16 × 5 × 5, fc1 120, fc2 84, fc3.
 *
 * Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998; unlike
 * there, conv2 reads all channels, and the pools and units are today's.
 */
export const architecture = defineArchitecture({
  names: ["lenet"],
  summary: "LeNet-5 with ReLU and max pooling, for images of 28 × 28 or 32 × 32",
  build: (options, name) => {
    const [height, width] = imageShape(options);
    const padding = kPadding[height];
    if (padding === undefined || height !== width) {
      const received = shapeText(options.inputShape);
      throw expected("ERR_FM_ARGUMENT", "28 × 28 or 32 × 32 pixels", "inputShape", received);
    }
    const b = new GraphBuilder(name);
    let x = b.input("input", options.inputShape);
    x = b.relu("relu1", b.conv2d("conv1", x, { out: 6, kernel: 5, padding }));
    x = b.maxPool2d("pool1", x, { kernel: 2 });
    x = b.relu("relu2", b.conv2d("conv2", x, { out: 16, kernel: 5 }));
    x = b.flatten("flatten", b.maxPool2d("pool2", x, { kernel: 2 }));
    x = b.relu("relu3", b.linear("fc1", x, { out: 120 }));
    x = b.relu("relu4", b.linear("fc2", x, { out: 84 }), { output: FEATURES });
    return b.build([b.linear("fc3", x, { out: options.classes, output: LOGITS }), FEATURES]);
  },
});
