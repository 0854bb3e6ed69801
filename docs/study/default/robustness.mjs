// Is the default preset good elsewhere? Other data, other networks, other forget sets: trains a small network, makes it forget
// under several seeds, and records what was measured. Results are written after every run; a killed run goes on where it was.
//   node docs/study/default/robustness.mjs --case mnist-lenet --out docs/study/default/robustness.json [--seeds 666,777,888]
//     [--classes 0,3,7] [--preset default] [--threads 2] [--epochs N] [--limit N] [--test-limit N] [--force]
import { existsSync } from "node:fs";
import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import {
  arrayDataset,
  createModel,
  datasetDigest,
  evaluate,
  GraphBuilder,
  initialize,
  loadDataset,
  loadNetwork,
  parseNormalization,
  presets,
  readWeights,
  resolveConfig,
  splitForget,
  subset,
  train,
  wholeView,
} from "fishermask";
import {
  choice,
  classList,
  classSplit,
  dataFolder,
  labelOf,
  parseOptions,
  percent,
  ResultFile,
  required,
  runCell,
  runScript,
  seededNumber,
  seededOrder,
  UsageError,
  whole,
  wholeList,
} from "./lib.mjs";

const SGD = { kind: "sgd", momentum: 0.9, nesterov: false, weightDecay: 5e-4 };
const LENET = {
  epochs: 3,
  batchSize: 64,
  optimizer: SGD,
  learningRate: 0.05,
  schedule: { kind: "cosine" },
};
const MNIST = {
  source: () => `idx:${dataFolder()}/mnist`,
  limit: 10_000,
  normalize: "0.1307/0.3081",
};
const CIFAR = { source: () => `cifar10:${dataFolder()}/cifar10`, normalize: "cifar10" };
const FASHION_FOLDERS = [
  fileURLToPath(new URL("../../../examples/data/fashion-mnist", import.meta.url)),
  "/usr/share/datasets/fashion-mnist",
];
const MISLABELLED_SHARE = 0.02;
const PICTURES_TO_TRAIN = 8;

/** By name: data (`limit` training images at most), network, recipe, and what is forgotten. */
const CASES = {
  "mnist-lenet": { ...MNIST, arch: "lenet", recipe: LENET, forget: "classes" },
  "fashion-lenet": {
    source: () => {
      const folder = FASHION_FOLDERS.find((each) => existsSync(each));
      return folder === undefined ? null : `idx:${folder}`;
    },
    missing: `none of ${FASHION_FOLDERS.map((each) => each.replace(/^.*(?=examples\/)/, "")).join(", ")} is there`,
    limit: 10_000,
    normalize: "0.2860/0.3530",
    arch: "lenet",
    recipe: { ...LENET, epochs: 8 },
    forget: "classes",
  },
  "cifar10-lenet": {
    ...CIFAR,
    arch: "lenet",
    recipe: { ...LENET, epochs: 10, learningRate: 0.02 },
    forget: "classes",
  },
  "cifar10-vgg11_bn": {
    ...CIFAR,
    testLimit: 2000,
    arch: "vgg11_bn",
    // Trained once, under this seed: the seeds of the runs move the samples that unlearning draws.
    recipe: { ...LENET, epochs: 2, batchSize: 128, augment: { crop: 4, flip: true }, seed: 0 },
    forget: "classes",
  },
  "orl-lenet": {
    source: () => `${dataFolder()}/orl-faces`,
    load: loadFaces,
    normalize: "0.45/0.2",
    arch: "lenet-112x92",
    recipe: { ...LENET, epochs: 40, batchSize: 16, learningRate: 0.01 },
    forget: "classes",
    classes: "0,1,2",
  },
  "mnist-random1": { ...MNIST, arch: "lenet", recipe: LENET, forget: "random" },
  "mnist-mislabelled": {
    ...MNIST,
    arch: "lenet",
    limit: 5000,
    // Long and without weight decay: the wrong labels must be learnt by heart before they can be forgotten.
    recipe: { ...LENET, epochs: 40, optimizer: { ...SGD, weightDecay: 0 } },
    forget: "mislabelled",
  },
};

const USAGE = `usage: node docs/study/default/robustness.mjs --case CASE --out FILE.json
  CASE: ${Object.keys(CASES).join(", ")}
  --seeds A,B             of training and unlearning; 666,777,888
  --classes 0,3,7         the classes to forget, one at a time (cases of classes alone)
  --preset NAME           default where it is not given
  --threads N             2 where it is not given
  --epochs N, --limit N, --test-limit N   other than the case's: epochs, training images, test images
  --force                 computes anew what is recorded`;

/** Pictures chosen by index, as a data set of their own. */
function picked(dataset, indices, name) {
  const [height, width, channels] = dataset.shape;
  const bytes = height * width * channels;
  const images = new Uint8Array(indices.length * bytes);
  for (const [i, index] of indices.entries()) {
    images.set(dataset.images.subarray(index * bytes, (index + 1) * bytes), i * bytes);
  }
  const labels = Int32Array.from(indices, (index) => dataset.labels[index]);
  return arrayDataset({ name, classes: dataset.classes, shape: dataset.shape, images, labels });
}

/** The loader wants MNIST's file names: it is given links to the faces under them. */
async function readFaces(folder) {
  const links = await mkdtemp(join(tmpdir(), "fishermask-faces-"));
  try {
    for (const part of ["images-idx3-ubyte", "labels-idx1-ubyte"]) {
      await symlink(resolve(folder, `orl-${part}`), join(links, `train-${part}`));
    }
    return await loadDataset(`idx:${links}`, { split: "train" });
  } finally {
    await rm(links, { recursive: true });
  }
}

/** ORL comes in one piece: of each person eight pictures to train on and two to test with, drawn under the seed. */
async function loadFaces(folder, seed) {
  const all = await readFaces(folder);
  const isTraining = new Set();
  for (const person of all.classes.keys()) {
    const pictures = Array.from(all.labels.keys()).filter((index) => all.labels[index] === person);
    const order = seededOrder(pictures.length, `faces of ${person}`, seed);
    for (const place of order.slice(0, PICTURES_TO_TRAIN)) isTraining.add(pictures[place]);
  }
  const indices = Array.from(all.labels.keys());
  return {
    train: picked(
      all,
      indices.filter((index) => isTraining.has(index)),
      "orl-faces",
    ),
    test: picked(
      all,
      indices.filter((index) => !isTraining.has(index)),
      "orl-faces",
    ),
  };
}

async function loadData(study, seed) {
  const source = study.source();
  if (study.load !== undefined) return study.load(source, seed);
  return {
    train: await loadDataset(source, { split: "train", limit: study.limit }),
    test: await loadDataset(source, { split: "test", limit: study.testLimit }),
  };
}

/** A share of the labels replaced by another one, chosen under the seed: the data set and its split. */
function mislabel(dataset, seed) {
  const count = Math.floor(MISLABELLED_SHARE * dataset.size);
  const forget = Int32Array.from(
    seededOrder(dataset.size, "mislabelled", seed).slice(0, count),
  ).sort();
  const chosen = new Set(forget);
  const classes = dataset.classes.length;
  const wrong = (label, index) =>
    (label + 1 + seededNumber("wrong label", seed, index, classes - 1)) % classes;
  const labels = dataset.labels.map((label, index) =>
    chosen.has(index) ? wrong(label, index) : label,
  );
  const remain = Int32Array.from(dataset.labels.keys()).filter((index) => !chosen.has(index));
  return {
    train: { ...dataset, labels },
    split: { forget, remain, description: `${count} samples with a wrong label, seed ${seed}` },
  };
}

/** What a seed's runs forget: [{name, train, split, forgetClasses}]; all of a seed share one `train`. */
async function requestsOf(study, dataset, seed, classes) {
  if (study.forget === "random") {
    const split = await splitForget("random:0.01", dataset, { seed });
    return [{ name: "random:0.01", train: dataset, split, forgetClasses: [] }];
  }
  if (study.forget === "mislabelled") {
    return [
      { name: `mislabelled:${MISLABELLED_SHARE}`, ...mislabel(dataset, seed), forgetClasses: [] },
    ];
  }
  return Promise.all(
    classes.map(async (index) => ({
      name: `class:${dataset.classes[index]}`,
      train: dataset,
      ...(await classSplit(index, dataset)),
    })),
  );
}

/** LeNet's layers on whole portraits: the registered one is for 28 × 28 and 32 × 32. */
function portraitLeNet(inputShape, classes, seed) {
  const b = new GraphBuilder("lenet-112x92");
  let x = b.input("input", inputShape);
  x = b.maxPool2d("pool1", b.relu("relu1", b.conv2d("conv1", x, { out: 6, kernel: 5 })), {
    kernel: 2,
  });
  x = b.maxPool2d("pool2", b.relu("relu2", b.conv2d("conv2", x, { out: 16, kernel: 5 })), {
    kernel: 2,
  });
  x = b.relu("relu3", b.linear("fc1", b.flatten("flatten", x), { out: 120 }));
  x = b.relu("relu4", b.linear("fc2", x, { out: 84 }), { output: "features" });
  const graph = b.build([b.linear("fc3", x, { out: classes, output: "logits" }), "features"]);
  const weights = initialize(graph, seed);
  return { arch: "lenet-112x92", graph, features: "features", weights, file: null, sha256: null };
}

function freshModel(study, dataset, seed) {
  const classes = dataset.classes.length;
  return study.arch === "lenet-112x92"
    ? portraitLeNet(dataset.shape, classes, seed)
    : createModel({ arch: study.arch, inputShape: dataset.shape, classes }, seed);
}

/** Works with the model in the engine, whose memory is given back afterwards. */
async function withNetwork(model, threads, work) {
  const network = await loadNetwork(model, { threads });
  try {
    return await work(network);
  } finally {
    network.dispose();
  }
}

/** A network trained on the view by the recipe: {model, last}, `last` its last epoch. */
async function trained(study, view, recipe, normalization, threads) {
  const fresh = freshModel(study, view.dataset, recipe.seed);
  const { history, weights } = await withNetwork(fresh, threads, async (network) => ({
    history: await train(network, view, { ...recipe, normalization }),
    weights: await readWeights(fresh.graph, network),
  }));
  const last = history.at(-1);
  console.error(
    `trained on ${view.indices.length} images: ${percent(last.accuracy)} of them right`,
  );
  return { model: { ...fresh, weights }, last };
}

async function accuracyOn(model, view, { normalization, threads }) {
  const result = await withNetwork(model, threads, (network) =>
    evaluate(network, view, { batchSize: 128, normalization }),
  );
  return { accuracy: result.correct / result.total, loss: result.meanLoss };
}

/** Accuracy and mean loss on the forget set (its labels as trained on, and as they should be), and on the test set. */
async function forgottenSamples(model, { data, request }, measuring) {
  const { forget } = request.split;
  return {
    given: await accuracyOn(model, subset(request.train, forget), measuring),
    true: await accuracyOn(model, subset(data.train, forget), measuring),
    test: await accuracyOn(model, wholeView(data.test), measuring),
  };
}

/** One seed's network, trained when a run first needs it: what is recorded already costs no training. */
function lazily(make) {
  let made;
  return () => {
    made ??= make();
    return made;
  };
}

/** For forget sets that are no class: the network before and after, beside one retrained without the set. */
async function besideRetrained(context, original, result) {
  const { study, request, recipe, measuring } = context;
  const kept = subset(request.train, request.split.remain);
  const retrained = await trained(study, kept, recipe, measuring.normalization, measuring.threads);
  return {
    samples: {
      before: await forgottenSamples(original, context, measuring),
      after: await forgottenSamples({ ...original, weights: result.weights }, context, measuring),
      retrained: await forgottenSamples(retrained.model, context, measuring),
    },
  };
}

async function runSeed(name, study, seed, options) {
  const data = await loadData(study, seed);
  const classes =
    study.forget === "classes" ? classList("--classes", options.classes, data.train.classes) : [];
  const requests = await requestsOf(study, data.train, seed, classes);
  const recipe = { seed, ...study.recipe };
  const normalization = parseNormalization(study.normalize, data.train.shape[2]);
  const measuring = { normalization, threads: options.threads };
  const trainDigest = await datasetDigest(requests[0].train);
  const network = lazily(() =>
    trained(study, wholeView(requests[0].train), recipe, normalization, options.threads),
  );
  for (const request of requests) {
    const wanted = {
      subject: name,
      row: options.preset.name,
      preset: options.preset.name,
      forget: request.name,
      seed,
      config: resolveConfig(options.preset, { seed }),
      model: { arch: study.arch, file: null, sha256: null },
      data: {
        name: data.train.name,
        train: data.train.size,
        test: data.test.size,
        trainDigest,
        normalize: study.normalize,
      },
      recipe,
    };
    if (await options.file.has(wanted)) {
      console.error(`${labelOf(wanted)}: recorded already`);
      continue;
    }
    const { model, last } = await network();
    const { train: trainSet, split, forgetClasses } = request;
    const extra = async (result) => ({
      training: last,
      ...(study.forget === "classes"
        ? {}
        : await besideRetrained({ study, data, request, recipe, measuring }, model, result)),
    });
    const unlearning = {
      model,
      train: trainSet,
      trainDigest,
      test: data.test,
      split,
      forgetClasses,
      source: name,
    };
    await runCell(options.file, wanted, { ...unlearning, ...measuring }, { extra });
  }
}

/** An option that a case would not heed is a mistake. */
function refuseWithout(heeded, value, option, name) {
  if (!heeded && value !== undefined) {
    throw new UsageError(`Expected no ${option} for --case ${name} but received ${value}`);
  }
}

function parseCommandLine() {
  const { values } = parseOptions({
    case: { type: "string" },
    seeds: { type: "string", default: "666,777,888" },
    classes: { type: "string" },
    preset: { type: "string", default: "default" },
    threads: { type: "string", default: "2" },
    epochs: { type: "string" },
    limit: { type: "string" },
    "test-limit": { type: "string" },
    out: { type: "string" },
    force: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  });
  if (values.help) return null;
  const name = choice("--case", required(values, "case"), Object.keys(CASES));
  const known = Object.values(presets);
  const preset = choice(
    "--preset",
    values.preset,
    known.map((each) => each.name),
  );
  const given = (option, otherwise) =>
    values[option] === undefined ? otherwise : whole(`--${option}`, values[option], 1);
  const study = CASES[name];
  refuseWithout(study.forget === "classes", values.classes, "--classes", name);
  refuseWithout(
    study.load === undefined,
    values.limit ?? values["test-limit"],
    "--limit or --test-limit",
    name,
  );
  const recipe = { ...study.recipe, epochs: given("epochs", study.recipe.epochs) };
  const limits = {
    limit: given("limit", study.limit),
    testLimit: given("test-limit", study.testLimit),
  };
  return {
    name,
    study: { ...study, recipe, ...limits },
    seeds: wholeList("--seeds", values.seeds),
    classes: values.classes ?? study.classes ?? "0,3,7",
    preset: known.find((each) => each.name === preset),
    threads: whole("--threads", values.threads, 1),
    file: new ResultFile(required(values, "out"), values.force),
  };
}

async function main() {
  const options = parseCommandLine();
  if (options === null) {
    console.log(USAGE);
    return;
  }
  const { name, study, seeds } = options;
  if (study.source() === null) {
    console.error(`SKIPPED ${name}: ${study.missing}`);
    return;
  }
  await options.file.check();
  for (const seed of seeds) await runSeed(name, study, seed, options);
}

await runScript(main);
