import { defineArchitecture, FEATURES, LOGITS } from "../architecture.js";
import { GraphBuilder } from "../builder.js";
import { expected } from "../graph-error.js";

const kDefaultHidden = [128];

/** Linear layers with ReLU between, named fc1, fc2, … as attributes of a PyTorch module (nn.Sequential says 0, 2, …). */
export const architecture = defineArchitecture({
  names: ["mlp"],
  summary: "linear layers fc1, fc2, … with ReLU between; option hidden, the sizes between (128)",
  build: ({ inputShape, classes, hidden = kDefaultHidden }, name) => {
    if (hidden.length === 0) {
      throw expected("ERR_FM_ARGUMENT", "at least one size", "hidden", "none");
    }
    const b = new GraphBuilder(name);
    let x = b.input("input", inputShape);
    if (inputShape.length > 1) x = b.flatten("flatten", x);
    hidden.forEach((out, i) => {
      const output = i === hidden.length - 1 ? FEATURES : `relu${i + 1}`;
      x = b.relu(`relu${i + 1}`, b.linear(`fc${i + 1}`, x, { out }), { output });
    });
    const logits = b.linear(`fc${hidden.length + 1}`, x, { out: classes, output: LOGITS });
    return b.build([logits, FEATURES]);
  },
});
