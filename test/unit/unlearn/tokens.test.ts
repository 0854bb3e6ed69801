import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  datasetDigest,
  subset,
  type TokenDataset,
  tokenDataset,
  wholeView,
} from "../../../src/data/dataset.js";
import { evaluate } from "../../../src/evaluate/accuracy.js";
import { GraphBuilder } from "../../../src/model/builder.js";
import { initialize } from "../../../src/model/initialize.js";
import { loadNetwork, type Model, readWeights } from "../../../src/model/model.js";
import { train } from "../../../src/train/train.js";
import { resolveConfig, type UnlearnOverrides } from "../../../src/unlearn/config.js";
import { computeFisher } from "../../../src/unlearn/fisher.js";
import { addFishers, loadFisher, saveFisher } from "../../../src/unlearn/fisher-store.js";
import { presets } from "../../../src/unlearn/presets.gen.js";
import { type UnlearnRequest, unlearn } from "../../../src/unlearn/unlearn.js";
import { expectError } from "../io/support.js";
import { stripes } from "./support.js";

const LENGTH = 6;
const VOCABULARY = 20;

/** Sentences 0..11: the first word decides the others. The fourth quarter ends early. */
function sentences(length = LENGTH): TokenDataset {
  const size = 12;
  const tokens = new Int32Array(size * length).fill(-1);
  const targets = new Int32Array(size * length).fill(-1);
  for (let i = 0; i < size; i++) {
    const words = i % 4 === 3 ? 3 : LENGTH;
    for (let t = 0; t < words; t++) {
      tokens[i * length + t] = t === 0 ? i : 12 + ((i * 5 + t * 3) % 8);
      targets[i * length + t] = 12 + ((i * 5 + (t + 1) * 3) % 8);
    }
  }
  return tokenDataset({ name: "sentences", length, tokens, targets });
}

/** A causal transformer of one block. */
function tinyLanguageModel(length = LENGTH): Model {
  const b = new GraphBuilder("tiny-lm");
  const ids = b.input("ids", [length], "i32");
  const x = b.embedding("wte", ids, { count: VOCABULARY, width: 16 });
  const normed = b.rmsNorm("norm", x);
  const [query, key, value] = ["q", "k", "v"].map((name) => b.linear(name, normed, { out: 16 }));
  const heads = { heads: 2, causal: true };
  const parts = { query: query as string, key: key as string, value: value as string };
  const attended = b.attention("attention", parts, heads);
  const sum = b.add("sum", [x, b.linear("o", attended, { out: 16 })]);
  const hidden = b.silu("act", b.linear("up", sum, { out: 32 }));
  const features = b.add("features", [sum, b.linear("down", hidden, { out: 16 })]);
  const logits = b.linear("head", features, { out: VOCABULARY, output: "logits" });
  const graph = b.build([logits, "features"]);
  const weights = initialize(graph, 3);
  return { arch: "tiny-lm", graph, features: "features", weights, file: null, sha256: null };
}

let learnt: Promise<Model> | undefined;

async function learn(): Promise<Model> {
  const fresh = tinyLanguageModel();
  using network = await loadNetwork(fresh, { threads: 1 });
  await train(network, wholeView(sentences()), {
    epochs: 150,
    batchSize: 4,
    optimizer: { kind: "adamw", weightDecay: 0 },
    learningRate: 0.01,
    schedule: { kind: "cosine" },
    normalization: undefined,
    seed: 1,
  });
  return { ...fresh, weights: await readWeights(fresh.graph, network) };
}

function model(): Promise<Model> {
  learnt ??= learn();
  return learnt;
}

const FORGET = Int32Array.of(0, 3);
const REMAIN = Int32Array.from({ length: 12 }, (_, i) => i).filter((i) => !FORGET.includes(i));

async function requestOf(overrides: UnlearnOverrides = {}): Promise<UnlearnRequest> {
  return {
    model: await model(),
    train: sentences(),
    test: null,
    split: { forget: FORGET, remain: REMAIN, description: "two sentences" },
    normalization: undefined,
    config: resolveConfig(presets.prototype, {
      target: { accuracy: 0.25, samples: null },
      selection: { kind: "iterated", ratioPerRound: 0.01, maxRatio: 0.4 },
      ...overrides,
      fisher: { batchSize: 4, ...overrides.fisher },
    }),
    preset: null,
    source: "sentences",
    forgetClasses: [],
    threads: 1,
  };
}

/** Each counted token as a sample of its own: the sequence, with that one target. */
function tokenByToken(data: TokenDataset): TokenDataset {
  const { length } = data;
  const tokens: number[] = [];
  const targets: number[] = [];
  data.targets.forEach((target, place) => {
    if (target < 0) return;
    const begin = place - (place % length);
    tokens.push(...data.tokens.subarray(begin, begin + length));
    for (let t = 0; t < length; t++) targets.push(begin + t === place ? target : -1);
  });
  return tokenDataset({
    length,
    tokens: Int32Array.from(tokens),
    targets: Int32Array.from(targets),
  });
}

async function fisherOf(length: number): Promise<Map<string, Float32Array>> {
  const { weights } = await model();
  const longer = { ...tinyLanguageModel(length), weights };
  const data = sentences(length);
  using network = await loadNetwork(longer, { threads: 1 });
  const options = { batchSize: 5, normalization: undefined };
  const digest = await datasetDigest(data);
  const { store } = await computeFisher(longer.graph, network, wholeView(data), digest, options);
  return new Map(store.squares);
}

describe("unlearning token sequences", () => {
  it("counts the places whose next token counts, and sums a sequence's loss over them", async () => {
    using network = await loadNetwork(await model(), { threads: 1 });
    const result = await evaluate(network, wholeView(sentences()), {
      batchSize: 5,
      normalization: undefined,
    });
    expect(result.total).toBe(9 * LENGTH + 3 * 3);
    expect([...result.counted]).toEqual(
      Array.from({ length: 12 }, (_, i) => (i % 4 === 3 ? 3 : 6)),
    );
    expect(result.correct).toBe(result.total);
    expect(result.predictions.length).toBe(12 * LENGTH);
    expect(result.perClass).toEqual([]);
    const sum = result.losses.reduce((total, loss) => total + loss, 0);
    expect(result.meanLoss).toBeCloseTo(sum / 12, 12);
  });

  it("masks in rounds until the sequences are no longer predicted, and the others stay better", async () => {
    const { metrics, weights, samples } = await unlearn(await requestOf());
    expect(metrics.before.forget.train).toBe(1);
    expect(metrics.after.forget.train).toBeLessThanOrEqual(0.25);
    expect(metrics.after.remain.train as number).toBeGreaterThan(
      (metrics.after.forget.train as number) + 0.2,
    );
    expect(metrics.masked.units).toBeGreaterThan(0);
    expect(metrics.rounds.at(-1)?.forgetAccuracy).toBe(metrics.after.forget.train);
    expect(metrics.before.perClass.train).toEqual([]);
    expect(metrics.before.probe).toBeNull();
    expect(samples).toEqual([]);
    expect(weights.get("wte.weight")).toEqual((await model()).weights.get("wte.weight"));
  });

  it("the Fisher is the same with more padding", async () => {
    const [short, long] = [await fisherOf(LENGTH), await fisherOf(LENGTH + 3)];
    for (const [name, values] of short) {
      const other = long.get(name) as Float32Array;
      const away = Math.hypot(...values.map((v, i) => v - (other[i] as number)));
      // A key's bias moves all scores of a row alike: its gradient is rounding.
      expect(away, name).toBeLessThanOrEqual(1e-6 * Math.hypot(...values) + 1e-15);
    }
  });

  it.each(["empirical", "expected", "sampled"] as const)(
    "per token, with %s labels: the Fisher of the tokens one by one",
    async (labels) => {
      const { graph, weights } = await model();
      const fresh = { ...tinyLanguageModel(), weights };
      using network = await loadNetwork(fresh, { threads: 1, real: "f64" });
      const of = (data: TokenDataset, perToken: boolean, batchSize = 5) =>
        computeFisher(graph, network, wholeView(data), "digest", {
          // `expected` on single tokens is per token, too: it is refused for sequences.
          ...{ labels, perToken, batchSize, normalization: undefined },
          gradientSums: labels === "empirical",
          temperature: 2,
        });
      const whole = sentences();
      const { store } = await of(whole, true);
      expect(store.meta.reduction).toBe("per-token");
      expect(store.terms).toBe(9 * LENGTH + 3 * 3);
      // What is drawn depends on a sample's number, so there no other data will do: another batch size must.
      const { store: single } =
        labels === "sampled" ? await of(whole, true, 2) : await of(tokenByToken(whole), true);
      for (const [name, values] of store.squares) {
        const other = single.squares.get(name) as Float32Array;
        const away = Math.hypot(...values.map((v, i) => v - (other[i] as number)));
        expect(away, name).toBeLessThanOrEqual(1e-6 * Math.hypot(...values) + 1e-15);
      }
      if (labels !== "empirical") return;
      const { store: sums } = await of(whole, false);
      expect(sums.meta.reduction).toBe("sum");
      for (const [name, values] of store.gradients ?? []) {
        const other = sums.gradients?.get(name) as Float32Array;
        const away = Math.hypot(...values.map((v, i) => v - (other[i] as number)));
        expect(away, name).toBeLessThanOrEqual(1e-5 * Math.hypot(...values) + 1e-12);
      }
      const away = Math.hypot(
        ...[...(store.squares.get("head.weight") ?? [])].map(
          (v, i) => v - (sums.squares.get("head.weight")?.[i] as number),
        ),
      );
      expect(away).toBeGreaterThan(0.01 * Math.hypot(...(store.squares.get("head.weight") ?? [])));
    },
  );

  it("a Fisher per token is kept with what it is, and does not pass for one per sequence", async () => {
    const { graph, weights } = await model();
    using network = await loadNetwork({ ...tinyLanguageModel(), weights }, { threads: 1 });
    const data = sentences();
    const digest = await datasetDigest(data);
    const options = { batchSize: 5, normalization: undefined, gradientSums: true, temperature: 4 };
    const view = subset(data, FORGET);
    const { store } = await computeFisher(graph, network, view, digest, {
      ...options,
      perToken: true,
    });
    const { store: summed } = await computeFisher(graph, network, view, digest, options);
    await expectError(() => addFishers(store, summed), "ERR_FM_MISMATCH", "reduction");
    const folder = await mkdtemp(join(tmpdir(), "fishermask-tokens-"));
    try {
      const path = join(folder, "fisher.safetensors");
      await saveFisher(store, path);
      const read = await loadFisher(path);
      expect(read.meta).toEqual(store.meta);
      expect(read.terms).toBe(store.terms);
    } finally {
      await rm(folder, { recursive: true });
    }
    const request = { ...(await requestOf()), stored: { forget: store } };
    await expectError(() => unlearn(request), "ERR_FM_MISMATCH", "term for each token");
    const mean = { ...options, perToken: true, gradient: "batch-mean" as const };
    await expectError(
      () => computeFisher(graph, network, view, digest, mean),
      "ERR_FM_ARGUMENT",
      "per token",
    );
  });

  it.each([
    ["guarded selection", { selection: presets.default.config.selection }, "guarded"],
    ["probed selection", { selection: presets.deep.config.selection, excludeHead: true }, "probed"],
    ["a new head", { refitHead: 0.5 }, "refitHead"],
  ] as const)("refuses %s, which rests on images, before any work", async (_, overrides, part) => {
    const request = await requestOf(overrides as UnlearnOverrides);
    await expectError(() => unlearn(request), "ERR_FM_CONFIG", part);
  });

  it("refuses images to test with, and expected labels", async () => {
    const request = await requestOf();
    const images = { ...request, test: stripes(6, 1) };
    await expectError(() => unlearn(images), "ERR_FM_ARGUMENT", "images and token sequences");
    const expected = await requestOf({ fisher: { labels: "expected" } });
    await expectError(() => unlearn(expected), "ERR_FM_UNSUPPORTED", "sequences");
  });
});
