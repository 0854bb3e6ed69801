// Trains the networks that the study holds unlearning against: ResNet-20 on the 20,000 shared CIFAR-10 training images, all of
// them ("original") or without one class ("without-7"); one recipe for both.
//   node docs/study/default/references.mjs OUT_DIR original 7 [--threads N] [--epochs N]
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  createModel,
  loadDataset,
  loadNetwork,
  parseNormalization,
  readWeights,
  saveModel,
  splitForget,
  subset,
  train,
  wholeView,
} from "fishermask";

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: "string", default: "2" },
    epochs: { type: "string", default: "30" },
  },
});
const [outDir, ...wanted] = positionals;
const dataDir = process.env.FISHERMASK_DATA ?? "../shared/data";
const dataset = await loadDataset(`cifar10:${dataDir}/cifar10`, { split: "train" });
const normalization = parseNormalization("imagenet", 3);
const epochs = Number(values.epochs);

await mkdir(outDir, { recursive: true });
for (const what of wanted) {
  const name = what === "original" ? what : `without-${what}`;
  const view =
    what === "original"
      ? wholeView(dataset)
      : subset(dataset, (await splitForget(`class:${what}`, dataset)).remain);
  const model = createModel(
    { arch: "resnet20", inputShape: dataset.shape, classes: dataset.classes.length },
    0,
  );
  const network = await loadNetwork(model, { threads: Number(values.threads) });
  const history = await train(network, view, {
    epochs,
    batchSize: 128,
    optimizer: { kind: "sgd", momentum: 0.9, nesterov: false, weightDecay: 5e-4 },
    learningRate: 0.1,
    schedule: { kind: "cosine" },
    augment: { crop: 4, flip: true },
    normalization,
    seed: 0,
    onEpoch: ({ epoch, accuracy, seconds }) =>
      console.error(`${name}: epoch ${epoch}, ${(100 * accuracy).toFixed(1)} %, ${seconds.toFixed(0)} s`),
  });
  await saveModel(model, await readWeights(model.graph, network), join(outDir, `${name}.safetensors`));
  await writeFile(join(outDir, `${name}.json`), `${JSON.stringify({ name, epochs: history }, null, 2)}\n`);
  network.dispose();
}
