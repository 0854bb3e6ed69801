// Makes an ONNX file forget a class: only the bytes of changed weights differ from the file that it came from, and
// onnxruntime runs it as it ran the old one.
//
//     node examples/forget-in-onnx.mjs [FOLDER] [CLASS]     default: run/forget-in-onnx cat
//
// The network is a pretrained CIFAR-10 ResNet-20, exported to ONNX here; any classifier in an .onnx file goes the same way.
// It and the images are not part of this repository: they are looked for in $FISHERMASK_DATA (../shared/data where that is
// not set). Needs the package onnxruntime-node.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { argv, env, exit } from "node:process";
import { fileURLToPath } from "node:url";
import {
  evaluate,
  exportOnnx,
  loadDataset,
  loadNetwork,
  openAnyModel,
  parseNormalization,
  presets,
  resolveConfig,
  saveModel,
  splitForget,
  unlearn,
  wholeView,
} from "fishermask";

const [out = "run/forget-in-onnx", className = "cat"] = argv.slice(2);
const seed = 0;
const data = env.FISHERMASK_DATA ?? fileURLToPath(new URL("../../shared/data", import.meta.url));
const stateDict = join(data, "models/resnet20-12fca82f.safetensors");
const images = join(data, "cifar10");
const missing = [stateDict, images].filter((path) => !existsSync(path));
if (missing.length > 0) {
  console.log(
    `SKIPPED: there is no ${missing.join(", no ")}; set FISHERMASK_DATA to where they lie`,
  );
  exit(0);
}

// 1. An ONNX file, as another tool would have left it: images (N, 3, 32, 32) in, logits (N, 10) out.
await mkdir(out, { recursive: true });
const [file, forgetful] = [join(out, "resnet20.onnx"), join(out, `without-${className}.onnx`)];
const shape = { arch: "resnet20", inputShape: [32, 32, 3], classes: 10 };
const pretrained = await openAnyModel(stateDict, shape);
await exportOnnx(pretrained, pretrained.weights, file);

// 2. Forget, on a few hundred images of each class: a request on all of them takes longer and keeps a little more.
const source = `cifar10:${images}`;
const train = await loadDataset(source, { split: "train", limit: 2000 });
const test = await loadDataset(source, { split: "test", limit: 1000 });
const normalization = parseNormalization("imagenet", 3);
const model = await openAnyModel(file);
const split = await splitForget(`class:${className}`, train, { seed });
const forgotten = train.labels[split.forget[0]];
const { selection } = presets.default.config;
const result = await unlearn({
  model,
  train,
  test,
  split,
  normalization,
  config: resolveConfig(presets.default, {
    seed,
    fisher: { forgetSamples: 100, remainSamples: 200 },
    selection: { ...selection, ratioPerRound: 0.004, watchSamples: 360 },
  }),
  preset: "default",
  source,
  forgetClasses: [forgotten],
});
await saveModel(model, result.weights, forgetful);
for (const warning of result.metrics.warnings) console.warn(warning);

// 3. The file: as long as before, and the same but for the weights that changed.
const [old, young] = [file, forgetful].map((path) => readFileSync(path));
assert.equal(young.length, old.length);
const ranges = changedRanges();
let differing = 0;
for (let i = 0; i < old.length; i += 1) {
  if (old[i] === young[i]) continue;
  differing += 1;
  const isWeight = ranges.some(([begin, end]) => i >= begin && i < end);
  assert.ok(isWeight, `byte ${i} differs and belongs to no changed weight`);
}
assert.ok(differing > 0);
const { units } = result.metrics.masked;
console.log(
  `${forgetful}: ${units} weights of ${ranges.length} tensors are 0 now; ` +
    `${differing} of ${old.length} bytes differ, all of them theirs`,
);

// 4. onnxruntime makes of the new file what the engine makes of the new weights.
const runtime = await logitsOfRuntime(forgetful);
const before = await logitsOfRuntime(file);
const engine = await logitsOfEngine(result.weights);
const apart = runtime.reduce((most, logit, i) => Math.max(most, Math.abs(logit - engine[i])), 0);
assert.ok(apart <= 1e-4, `logits differ by ${apart}`);
console.log(
  `onnxruntime and the engine: ${test.size} x 10 logits, at most ${apart.toExponential(1)} apart`,
);
const [was, is] = [before, runtime].map(accuracies);
console.table({ before: shown(was), after: shown(is) });
assert.ok(is.forget < was.forget / 2, "the class is still recognised");
assert.ok(is.remain > was.remain - 0.05, "the other classes were hurt");

/** Where the file holds the weights that changed: their old bytes, wherever they lie. */
function changedRanges() {
  const changed = [...model.weights].filter(([name, values]) =>
    values.some((value, i) => value !== result.weights.get(name)[i]),
  );
  return changed.map(([name, values]) => {
    const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
    const begin = old.indexOf(bytes);
    assert.ok(begin >= 0, `${name} is not in ${file}`);
    return [begin, begin + bytes.length];
  });
}

/** (N, 10), row by row, of all test images. */
async function logitsOfRuntime(path) {
  const { InferenceSession, Tensor } = await import("onnxruntime-node");
  const session = await InferenceSession.create(path);
  const input = new Tensor("float32", channelsFirst(), [test.size, 3, 32, 32]);
  const outputs = await session.run({ [session.inputNames[0]]: input });
  return outputs[session.outputNames[0]].data;
}

/** The test images as ONNX has them, normalised: (N, C, H, W). */
function channelsFirst() {
  const { divisor, mean, std } = normalization;
  const pixels = 32 * 32;
  return Float32Array.from({ length: test.images.length }, (_, i) => {
    const [sample, channel, pixel] = [
      Math.floor(i / (3 * pixels)),
      Math.floor(i / pixels) % 3,
      i % pixels,
    ];
    const byte = test.images[(sample * pixels + pixel) * 3 + channel];
    return (byte / divisor - mean[channel]) / std[channel];
  });
}

async function logitsOfEngine(weights) {
  const network = await loadNetwork({ ...model, weights });
  try {
    const keep = model.graph.outputs[0];
    const evaluation = await evaluate(network, wholeView(test), {
      batchSize: 250,
      normalization,
      keep,
    });
    return evaluation.features;
  } finally {
    network.dispose();
  }
}

/** Accuracy on the forgotten class and on the others. */
function accuracies(logits) {
  const right = { forget: 0, remain: 0 };
  const total = { forget: 0, remain: 0 };
  for (const [sample, label] of test.labels.entries()) {
    const row = logits.subarray(sample * 10, sample * 10 + 10);
    const part = label === forgotten ? "forget" : "remain";
    total[part] += 1;
    if (row.indexOf(Math.max(...row)) === label) right[part] += 1;
  }
  return { forget: right.forget / total.forget, remain: right.remain / total.remain };
}

function shown({ forget, remain }) {
  return { [className]: percent(forget), "the other classes": percent(remain) };
}

function percent(fraction) {
  return `${(100 * fraction).toFixed(1)} %`;
}
