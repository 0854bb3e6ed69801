// A small Llama learns questions and answers about four invented authors (TOFU), then forgets one of them.
//
//   node examples/forget-an-author.mjs [RUN_DIRECTORY]
//
// FISHERMASK_DATA holds text/tofu and models/stories260K.safetensors; ../shared/data from the repository's root by default.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  datasetDigest,
  loadDataset,
  loadNetwork,
  openAnyModel,
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

const root = fileURLToPath(new URL("..", import.meta.url));
const data = process.env.FISHERMASK_DATA ?? join(root, "../shared/data");
const files = {
  model: join(data, "models/stories260K.safetensors"),
  tokenizer: join(data, "models/tok512.bin"),
  rows: join(data, "text/tofu/forget10.jsonl"),
};
const LENGTH = 192;
const ROWS = 80;
const AUTHOR = "match:Hsiao Yun-Hwa";
const RECIPE = {
  epochs: 12,
  batchSize: 10,
  optimizer: { kind: "adamw", weightDecay: 0 },
  learningRate: 3e-3,
  schedule: { kind: "cosine" },
  // Token ids need none.
  normalization: undefined,
  seed: 0,
};

const missing = Object.values(files).filter((file) => !existsSync(file));
if (missing.length > 0) {
  console.log(`SKIPPED: ${missing.join(", ")} is not there (set FISHERMASK_DATA)`);
  process.exit(0);
}

// 1. A sample is one question with its answer; the loss counts the answer's tokens.
const rows = await loadDataset(`jsonl:${files.rows}`, {
  split: "train",
  tokenizer: files.tokenizer,
  length: LENGTH,
  limit: ROWS,
});
const split = await splitForget(AUTHOR, rows);
console.log(`${rows.size} rows, ${split.forget.length} to forget (${split.description})`);

// 2. The network learns them by heart: 260 thousand weights, some minutes of a child's stories before.
const opened = await openAnyModel(files.model, { sequenceLength: rows.length });
const network = await loadNetwork(opened);
await train(network, wholeView(rows), {
  ...RECIPE,
  onEpoch: ({ epoch, loss }) => {
    if (epoch % 4 === 0) console.log(`epoch ${epoch}: ${loss.toFixed(1)} nats an answer`);
  },
});
const model = { ...opened, weights: await readWeights(opened.graph, network) };
network.dispose();

// 3. It forgets: rounds of masks, until three in ten of the author's tokens are left, then a little practice in the rest.
const out = process.argv[2] ?? "forget-an-author-run";
await prepareRunDirectory(out, model);
const result = await unlearn({
  model,
  train: rows,
  trainDigest: await datasetDigest(rows),
  test: null,
  split,
  normalization: undefined,
  config: resolveConfig(presets.prototype, {
    fisher: { batchSize: 20, forgetSamples: null, remainSamples: null },
    selection: { kind: "iterated", ratioPerRound: 0.001, maxRatio: 0.05 },
    target: { accuracy: 0.3, samples: null },
    fineTune: {
      epochs: 2,
      batchSize: 10,
      learningRate: 1e-3,
      optimizer: "adamw",
      momentum: 0,
      weightDecay: 0,
      schedule: { kind: "cosine" },
      crop: 0,
      flip: false,
      samples: null,
    },
  }),
  preset: "prototype",
  source: "TOFU, forget10",
  forgetClasses: [],
});
const { metrics } = result;
await writeRun(out, model, result, renderReport(metrics, result.samples));

// 4. What is left: of each set the share of the answers' tokens that the network still predicts.
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const line = (name, { forget, remain }) =>
  console.log(
    `${name.padEnd(20)} author ${percent(forget.train).padStart(7)}   the others ${percent(remain.train).padStart(7)}`,
  );
line("learnt", metrics.before);
if (metrics.maskedOnly !== null) line("masked", metrics.maskedOnly);
line("masked + fine-tuned", metrics.after);
console.log(
  `${metrics.masked.units} of ${metrics.masked.total} weights masked. Report: ${join(out, "report.html")}`,
);
for (const warning of metrics.warnings) console.log(warning);
