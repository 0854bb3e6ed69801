// Trains a LeNet to tell 40 people by their faces, makes it forget one of them, prints what was measured and writes a run
// directory with a report.
//
//     node examples/forget-a-person.mjs [RUN-DIRECTORY] [PERSON]     default: run/forget-a-person 1
//
// The pictures are the ORL Database of Faces of AT&T Laboratories Cambridge, which is not part of this repository: it is
// looked for in $FISHERMASK_DATA/orl-faces (../shared/data where that is not set).
import { existsSync } from "node:fs";
import { join } from "node:path";
import { argv, env, exit } from "node:process";
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

const [out = "run/forget-a-person", person = "1"] = argv.slice(2);
const seed = 0;
const data = env.FISHERMASK_DATA ?? fileURLToPath(new URL("../../shared/data", import.meta.url));
const folder = join(data, "orl-faces");
if (!existsSync(folder)) {
  console.log(
    `SKIPPED: there are no faces in ${folder}; set FISHERMASK_DATA to where orl-faces/ lies`,
  );
  exit(0);
}

// 1. Eight pictures of each person to learn from, two to be tested on; LeNet reads 32 x 32 pixels.
const source = `orl:${folder}`;
const imageSize = [32, 32];
const trainSet = await loadDataset(source, { split: "train", imageSize });
const testSet = await loadDataset(source, { split: "test", imageSize });
const split = await splitForget(`class:person ${person}`, trainSet, { seed });
const normalization = parseNormalization("0.44/0.19", 1);

// 2. A network that knows them all. Crops and mirror images make up for there being so few pictures.
const fresh = createModel({ arch: "lenet", inputShape: trainSet.shape, classes: 40 }, seed);
const network = await loadNetwork(fresh);
await train(network, wholeView(trainSet), {
  epochs: 60,
  batchSize: 32,
  optimizer: { kind: "sgd", momentum: 0.9, weightDecay: 5e-4 },
  learningRate: 0.02,
  schedule: { kind: "cosine" },
  warmupEpochs: 3,
  augment: { crop: 2, flip: true },
  normalization,
  seed,
  onEpoch: ({ epoch, accuracy }) => {
    if (epoch % 10 === 0) console.error(`epoch ${epoch}: ${percent(accuracy)} right`);
  },
});
const model = { ...fresh, weights: await readWeights(fresh.graph, network) };
network.dispose();

// 3. Forget.
await prepareRunDirectory(out);
const result = await unlearn({
  model,
  train: trainSet,
  test: testSet,
  split,
  normalization,
  config: resolveConfig(presets.default, { seed }),
  preset: "default",
  source: "orl:orl-faces",
  forgetClasses: [trainSet.labels[split.forget[0]]],
});

// 4. What happened. "probe": whether the person can still be told from the features before the head.
const { before, after, masked, warnings } = result.metrics;
console.table(
  Object.fromEntries(
    Object.entries({ before, after }).map(([name, { forget, remain, probe }]) => [
      name,
      {
        [`person ${person}, seen pictures`]: percent(forget.train),
        "unseen pictures": percent(forget.test),
        "the others, seen": percent(remain.train),
        unseen: percent(remain.test),
        probe: probe?.forget == null ? "not measured" : percent(probe.forget),
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
