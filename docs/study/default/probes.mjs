// What a linear probe finds in the networks of references.mjs: test accuracy and probe accuracy, class by class.
//   node docs/study/default/probes.mjs references original without-7 … --out docs/study/default/references.json [--threads 2]
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { loadDataset, loadNetwork, openModel, parseNormalization } from "fishermask";
import { measure, probeSamples } from "./cell.mjs";
import { dataFolder, parseOptions, required, runScript, UsageError, whole } from "./lib.mjs";

const share = ({ correct, total }) => correct / total;

async function measured(file, data, threads) {
  const { train, test } = data;
  const shape = { arch: "resnet20", inputShape: train.shape, classes: train.classes.length };
  const model = await openModel(file, shape);
  const network = await loadNetwork(model, { threads });
  try {
    const { perClass, probePerClass } = await measure(network, { model, ...data }, probeSamples(train, 0));
    const correct = perClass.reduce((sum, counts) => sum + counts.correct, 0);
    return {
      sha256: model.sha256,
      accuracy: correct / test.size,
      perClass: perClass.map(share),
      probePerClass,
    };
  } finally {
    network.dispose();
  }
}

async function main() {
  const { positionals, values } = parseOptions(
    { out: { type: "string" }, threads: { type: "string", default: "2" } },
    true,
  );
  const [folder, ...names] = positionals;
  if (names.length === 0) throw new UsageError("Expected a folder and names of networks in it but received none");
  const out = required(values, "out");
  const source = `cifar10:${dataFolder()}/cifar10`;
  const train = await loadDataset(source, { split: "train" });
  const test = await loadDataset(source, { split: "test" });
  const data = { train, test, normalization: parseNormalization("imagenet", 3) };
  const networks = {};
  for (const name of names) {
    networks[name] = await measured(join(folder, `${name}.safetensors`), data, whole("--threads", values.threads, 1));
    console.error(`${name}: ${(100 * networks[name].accuracy).toFixed(2)} %`);
  }
  const record = { schemaVersion: 1, classes: train.classes, probeSamplesPerClass: 300, networks };
  await writeFile(out, `${JSON.stringify(record, null, 1)}\n`);
}

await runScript(main);
