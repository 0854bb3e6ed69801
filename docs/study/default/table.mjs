// The study's main table: makes a trained network forget each CIFAR-10 class in turn under each row's rule, and records what
// was measured. Results are written after every run; a run that was killed goes on where it was.
//   node docs/study/default/table.mjs --net resnet20 --rows liu2023,ratio,prototype,default --classes 0,1,2,3,4,5,6,7,8,9
//     --out docs/study/default/resnet20.json [--seeds 0] [--model FILE --arch NAME] [--threads 2] [--liu-samples 500,4500|all]
//     [--limit N] [--force]
import { basename } from "node:path";
import {
  datasetDigest,
  loadDataset,
  openModel,
  parseNormalization,
  presets,
  resolveConfig,
} from "fishermask";
import { measuredOnTest } from "./cell.mjs";
import {
  choice,
  classList,
  classSplit,
  dataFolder,
  list,
  parseOptions,
  ResultFile,
  required,
  runCell,
  runScript,
  UsageError,
  whole,
  wholeList,
} from "./lib.mjs";

const USAGE = `usage: node docs/study/default/table.mjs --net resnet20|resnet56 --rows ROW,… --out FILE.json
  --classes 0,3,cat       the classes to forget, one at a time; all ten where it is not given
  --seeds 0,1             0 where it is not given
  --model FILE --arch NAME  another network; its results go by --net, or else by the file's name
  --threads N             2 where it is not given
  --liu-samples F,R|all   samples of the forget and the remain set that the rows liu2023 look at; 500,4500
  --limit N               the first N training images alone
  --force                 computes anew what is recorded`;

const NETS = {
  resnet20: { arch: "resnet20", file: "resnet20-12fca82f.safetensors" },
  resnet56: { arch: "resnet56", file: "resnet56-4bfd9763.safetensors" },
};
const MOST_MASKED = 0.01;

/** A row's rule under a seed. Presets are looked up when their row is asked for. */
const ROWS = {
  // The table demands the head's exclusion; the published rule masks it like the rest.
  liu2023: ({ seed, liuSamples }) => [
    "liu2023",
    { seed, excludeHead: true, ...oneShot(0.02), fisher: liuSamples },
  ],
  "liu2023-head": ({ seed, liuSamples }) => [
    "liu2023",
    { seed, ...oneShot(0.02), fisher: liuSamples },
  ],
  // The exact Fisher with the textbook's T, and just as many weights as it takes.
  ratio: ({ seed }) => [
    "liu2023",
    {
      seed,
      fisher: {
        labels: "empirical",
        gradient: "per-sample",
        temperature: 1,
        forgetSamples: 500,
        remainSamples: 4500,
      },
      criterion: "ratio",
      unit: "weight",
      excludeHead: true,
      selection: { kind: "adaptive", maxRatio: MOST_MASKED },
      target: { accuracy: 0.01, samples: 500 },
      hold: true,
    },
  ],
  prototype: ({ seed }) => [
    "prototype",
    { seed, selection: { ...presetOf("prototype").config.selection, maxRatio: MOST_MASKED } },
  ],
  default: ({ seed }) => [
    "default",
    { seed, selection: { ...presetOf("default").config.selection, maxRatio: MOST_MASKED } },
  ],
  deep: ({ seed }) => ["deep", { seed }],
};

function oneShot(ratio) {
  return { selection: { kind: "fixed", ratio } };
}

function presetOf(name) {
  const preset = Object.values(presets).find((known) => known.name === name);
  if (preset !== undefined) return preset;
  const known = Object.values(presets).map((each) => each.name);
  throw new UsageError(
    `Expected rows of the presets ${known.join(", ")} but received one of preset ${name}`,
  );
}

/** The preset that a row starts from (null where little of it is left) and the resolved configuration. */
function ruleOf(row, options) {
  const [name, overrides] = ROWS[row](options);
  const preset = row === "ratio" ? null : name;
  return { preset, config: resolveConfig(presetOf(name), overrides) };
}

function liuSamplesOf(text) {
  if (text === "all") return { forgetSamples: null, remainSamples: null };
  const counts = text.split(",").map((count) => whole("--liu-samples", count, 1));
  if (counts.length !== 2)
    throw new UsageError(`Expected all or two numbers for --liu-samples but received ${text}`);
  return { forgetSamples: counts[0], remainSamples: counts[1] };
}

/** What goes by which name: {subject, arch, path}. */
function netOf(values) {
  if ((values.model === undefined) !== (values.arch === undefined)) {
    throw new UsageError("Expected --model and --arch together but received one of them");
  }
  if (values.model !== undefined) {
    const subject = values.net ?? basename(values.model).replace(/\.safetensors$/, "");
    return { subject, arch: values.arch, path: values.model };
  }
  const subject = choice("--net", required(values, "net"), Object.keys(NETS));
  return {
    subject,
    arch: NETS[subject].arch,
    path: `${dataFolder()}/models/${NETS[subject].file}`,
  };
}

function parseCommandLine() {
  const { values } = parseOptions({
    net: { type: "string" },
    rows: { type: "string" },
    classes: { type: "string" },
    seeds: { type: "string", default: "0" },
    model: { type: "string" },
    arch: { type: "string" },
    threads: { type: "string", default: "2" },
    "liu-samples": { type: "string", default: "500,4500" },
    limit: { type: "string" },
    out: { type: "string" },
    force: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  });
  if (values.help) return null;
  const net = netOf(values);
  const rows = list("--rows", required(values, "rows"));
  for (const row of rows) choice("--rows", row, Object.keys(ROWS));
  const seeds = wholeList("--seeds", values.seeds);
  const liuSamples = liuSamplesOf(values["liu-samples"]);
  // Resolved here so that a row without its preset is refused before any work.
  const rules = rows.flatMap((row) =>
    seeds.map((seed) => ({ row, seed, ...ruleOf(row, { seed, liuSamples }) })),
  );
  return {
    net,
    rules,
    classes: values.classes,
    threads: whole("--threads", values.threads, 1),
    limit: values.limit === undefined ? undefined : whole("--limit", values.limit, 1),
    file: new ResultFile(required(values, "out"), values.force),
  };
}

async function main() {
  const options = parseCommandLine();
  if (options === null) {
    console.log(USAGE);
    return;
  }
  const { net, rules, threads, limit, file } = options;
  const source = `cifar10:${dataFolder()}/cifar10`;
  const train = await loadDataset(source, { split: "train", limit });
  const test = await loadDataset(source, { split: "test" });
  const classes = classList(
    "--classes",
    options.classes ?? [...train.classes.keys()].join(","),
    train.classes,
  );
  const model = await openModel(net.path, {
    arch: net.arch,
    inputShape: train.shape,
    classes: train.classes.length,
  });
  await file.check();
  const trainDigest = await datasetDigest(train);
  const data = {
    name: train.name,
    train: train.size,
    test: test.size,
    trainDigest,
    normalize: "imagenet",
  };
  const normalization = parseNormalization(data.normalize, 3);
  const modelRecord = { arch: net.arch, file: basename(net.path), sha256: model.sha256 };
  for (const { row, seed, preset, config } of rules) {
    for (const index of classes) {
      const wanted = {
        subject: net.subject,
        row,
        preset,
        forget: `class:${train.classes[index]}`,
        seed,
        config,
        model: modelRecord,
        data,
      };
      const classRequest = await classSplit(index, train);
      const common = { model, train, trainDigest, test, normalization, source, threads };
      await runCell(file, wanted, { ...common, ...classRequest }, { run: measuredOnTest });
    }
  }
}

await runScript(main);
