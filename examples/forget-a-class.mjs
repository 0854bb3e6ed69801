// Trains a LeNet on the Fashion-MNIST subset beside this file, makes it forget a class, prints what was measured and
// writes a run directory with a report.
//
//     node examples/forget-a-class.mjs [CLASS] [RUN-DIRECTORY]     default: Trouser run/forget-a-class
import { argv } from "node:process";
import { fileURLToPath } from "node:url";
import {
  createModel,
  loadDataset,
  loadNetwork,
  parseNormalization,
  prepareRunDirectory,
  presets,
  readWeights,
  renderReport,
  resolveConfig,
  splitForget,
  train,
  unlearn,
  wholeView,
  writeRun,
} from "fishermask";

const [className = "Trouser", out = "run/forget-a-class"] = argv.slice(2);
const seed = 0;

// 1. The data. A sample's index is its place in file order; the split says which indices go and which stay.
const source = `idx:${fileURLToPath(new URL("data/fashion-mnist", import.meta.url))}`;
const trainSet = await loadDataset(source, { split: "train" });
const testSet = await loadDataset(source, { split: "test" });
const split = await splitForget(`class:${className}`, trainSet, { seed });
const normalization = parseNormalization("0.2860/0.3530", 1);

// 2. A network to begin with. `openModel(file, shape)` would read one from a safetensors file.
const fresh = createModel({ arch: "lenet", inputShape: trainSet.shape, classes: 10 }, seed);
const network = await loadNetwork(fresh);
await train(network, wholeView(trainSet), {
  epochs: 4,
  batchSize: 64,
  optimizer: { kind: "sgd", momentum: 0.9, weightDecay: 5e-4 },
  learningRate: 0.05,
  schedule: { kind: "cosine" },
  normalization,
  seed,
  onEpoch: ({ epoch, accuracy }) => console.error(`epoch ${epoch}: ${percent(accuracy)} right`),
});
const model = { ...fresh, weights: await readWeights(fresh.graph, network) };
network.dispose();

// 3. Forget. Nothing is written yet, and `model` keeps its weights: the result holds the new ones.
await prepareRunDirectory(out);
const result = await unlearn({
  model,
  train: trainSet,
  test: testSet,
  split,
  normalization,
  config: resolveConfig(presets.default, { seed }),
  preset: "default",
  source,
  forgetClasses: [trainSet.labels[split.forget[0]]],
});

// 4. What happened. The last column asks whether the class can still be read from the features.
const { before, after, masked, warnings } = result.metrics;
console.table(
  Object.fromEntries(
    Object.entries({ before, after }).map(([name, { forget, remain, probe }]) => [
      name,
      {
        "forget test": percent(forget.test),
        "remain test": percent(remain.test),
        "probe, forgotten class": percent(probe.forget),
      },
    ]),
  ),
);
console.log(`${masked.units} of ${masked.total} candidate weights masked`);
for (const warning of warnings) console.warn(warning);
await writeRun(out, model, result, renderReport(result.metrics, result.samples));
console.log(`report: ${out}/report.html`);

function percent(fraction) {
  return `${(100 * fraction).toFixed(1)} %`;
}
