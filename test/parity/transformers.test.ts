import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { openHuggingFaceModel } from "../../src/model/huggingface/open.js";
import { loadNetwork, type Model, saveModel } from "../../src/model/model.js";
import type { NativeFisherOptions } from "../../src/native/addon.js";
import type { NetworkOptions } from "../../src/native/network.js";
import {
  dataPath,
  type FixtureTensor,
  kParity,
  need,
  norm,
  readFixture,
  relativeError,
  scientific,
  table,
  worstError,
} from "./support.js";

type Sums = Readonly<Record<string, Float64Array>>;

const kFolder = join(kParity, "transformers");
const kModels = ["gpt2", "gpt2-bare", "llama", "llama-tied-bf16", "mistral", "bert"] as const;
// PyTorch's rotary angles are f32 even in an f64 model; our own rules differ by f32 rounding alone.
const kLimits = { f32: 1e-4, f64: 1e-5, own: 1e-5 } as const;
const kConv1d = /\.(?:c_attn|c_proj|c_fc)\.weight$/;
const kRows: string[][] = [];

afterAll(() => {
  console.log(table(["model", "comparison", "worst error", "tensor", "limit"], kRows));
});

/** (in, out) as GPT-2's files have it → (out, in). */
function turned({ shape, values }: FixtureTensor): Float64Array {
  const [rows = 0, columns = 0] = shape;
  return values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)] as number);
}

function expectedFisher(fixture: ReadonlyMap<string, FixtureTensor>, arch: string): Sums {
  const found = [...fixture].filter(([key]) => key.startsWith("fisher/"));
  expect(found.length).toBeGreaterThan(10);
  return Object.fromEntries(
    found.map(([key, tensor]) => {
      const name = key.slice("fisher/".length);
      const stored = arch === "gpt2" && kConv1d.test(name);
      return [name, stored ? turned(tensor) : tensor.values] as const;
    }),
  );
}

interface Run {
  readonly network?: NetworkOptions;
  readonly fisher?: NativeFisherOptions;
  readonly batch?: number;
}

async function fisherOf(model: Model, ids: Int32Array, labels: Int32Array, run: Run = {}) {
  using network = await loadNetwork(model, { threads: 2, ...run.network });
  const length = model.graph.inputs[0]?.shape[0] as number;
  const count = ids.length / length;
  const perSample = labels.length / count;
  const { batch = count } = run;
  const pass = network.fisherPass(run.fisher ?? {});
  for (let first = 0; first < count; first += batch) {
    const last = Math.min(count, first + batch);
    const data = ids.slice(first * length, last * length);
    const counted = labels.slice(first * perSample, last * perSample);
    await pass.step({ data, count: last - first }, counted, first);
  }
  return (await pass.finish()).squares;
}

/**
 * Softmax does not see what is added to every key alike: without a rotation a key's bias has no gradient, and what is left
 * is rounding, nobody's to agree on. It must be nothing beside the query's.
 */
function withoutKeyBiases(sums: Sums): Sums {
  return Object.fromEntries(
    Object.entries(sums).filter(([name, values]) => {
      if (!name.endsWith(".attention.self.key.bias")) return true;
      const query = sums[name.replace(".key.", ".query.")] as Float64Array;
      expect(norm(values), name).toBeLessThan(1e-9 * norm(query));
      return false;
    }),
  );
}

function hold(model: string, what: string, actual: Sums, expected: Sums, limit: number): void {
  const worst = worstError(withoutKeyBiases(actual), withoutKeyBiases(expected));
  kRows.push([model, what, scientific(worst.error), worst.name, scientific(limit)]);
  expect(worst.error, `${model}, ${what}: ${worst.name}`).toBeLessThanOrEqual(limit);
}

/** Logits of padded positions are 0 in the fixtures; ours are whatever they are, and nobody's. */
function counted(logits: Float64Array, ids: Int32Array): Float64Array {
  const width = logits.length / ids.length;
  if (!Number.isInteger(width)) return logits;
  return logits.map((value, i) => ((ids[Math.floor(i / width)] as number) < 0 ? 0 : value));
}

describe.each(kModels)("%s against transformers in f64", (name) => {
  const fixture = readFixture(join(kFolder, `${name}.safetensors`));
  const ids = Int32Array.from(need(fixture, "ids").values);
  const labels = Int32Array.from(need(fixture, "labels").values);
  const [count = 0, sequenceLength = 0] = need(fixture, "ids").shape;
  const open = () => openHuggingFaceModel(join(kFolder, name), { sequenceLength });

  it.each(["f32", "f64"] as const)("logits and features, %s", async (real) => {
    const model = await open();
    using network = await loadNetwork(model, { threads: 2, real });
    const [output = ""] = model.graph.outputs;
    const values = await network.run(new Map([["ids", ids]]), [output, model.features], count);
    const classifier = labels.length === count;
    const logits = need(values, output);
    const ours = classifier ? logits : counted(logits, ids);
    const error = relativeError(ours, need(fixture, "logits").values);
    kRows.push([name, `logits ${real}`, scientific(error), "", scientific(kLimits[real])]);
    expect(error).toBeLessThanOrEqual(kLimits[real]);
    const rows = classifier ? count : count * sequenceLength;
    expect(need(values, model.features).length % rows).toBe(0);
  });

  it("exact per-sample Fisher: f64, f32 fused, generic, one sample at a time", async () => {
    const model = await open();
    const expected = expectedFisher(fixture, model.arch);
    const exact = await fisherOf(model, ids, labels, { network: { real: "f64" } });
    hold(name, "Fisher f64", exact, expected, kLimits.f64);
    const fused = await fisherOf(model, ids, labels);
    hold(name, "Fisher f32 fused", fused, expected, kLimits.f32);
    const generic = await fisherOf(model, ids, labels, { fisher: { generic: true } });
    hold(name, "generic = fused", generic, fused, kLimits.own);
    const singles = await fisherOf(model, ids, labels, { batch: 1 });
    hold(name, "batch 1 = fused", singles, fused, kLimits.own);
  });

  it("does not depend on how far sequences are padded", async () => {
    const longer = sequenceLength + 3;
    const spread = (values: Int32Array, per: number, to: number): Int32Array => {
      const out = new Int32Array(count * to).fill(-1);
      for (let n = 0; n < count; n++) out.set(values.slice(n * per, (n + 1) * per), n * to);
      return out;
    };
    const model = await openHuggingFaceModel(join(kFolder, name), { sequenceLength: longer });
    const wide = labels.length === count ? labels : spread(labels, sequenceLength, longer);
    const padded = await fisherOf(model, spread(ids, sequenceLength, longer), wide);
    hold(name, "3 more of padding", padded, await fisherOf(await open(), ids, labels), kLimits.own);
  });

  it("goes back byte for byte", async () => {
    const scratch = mkdtempSync(join(tmpdir(), "fishermask-"));
    try {
      const model = await open();
      const out = join(scratch, "copy");
      await saveModel(model, model.weights, out);
      const files = readdirSync(join(kFolder, name)).sort();
      expect(readdirSync(out).sort()).toEqual(files);
      for (const file of files) {
        const same = readFileSync(join(out, file)).equals(readFileSync(join(kFolder, name, file)));
        expect(same, file).toBe(true);
      }
      const again = await openHuggingFaceModel(out, { sequenceLength });
      expect(again.sha256).toBe(model.sha256);
    } finally {
      rmSync(scratch, { recursive: true });
    }
  });
});

describe("stories260K", () => {
  it("has one Fisher whatever way it is taken, its tied embedding included", async ({ skip }) => {
    const { path, absent } = dataPath("models/stories260K.safetensors");
    if (absent !== undefined) return skip(absent);
    const length = 8;
    const model = await openHuggingFaceModel(path, { sequenceLength: length });
    // "Once upon a time" and others, as ids; what they say does not matter.
    const ids = Int32Array.from([
      ...[1, 403, 407, 261, 378, 432, 286, 261],
      ...[1, 394, 261, 370, 411, 383, -1, -1],
      ...[1, 409, 403, 290, 438, 505, 403, -1],
      ...[1, 403, 403, 403, 403, 403, 403, 403],
    ]);
    const labels = ids.map((_, i) => ((i + 1) % length === 0 ? -1 : (ids[i + 1] as number)));
    const singles = await fisherOf(model, ids, labels, { batch: 1, fisher: { generic: true } });
    expect(singles["tok_embeddings.weight"]?.some((value) => value > 0)).toBe(true);
    const fused = await fisherOf(model, ids, labels);
    hold("stories260K", "fused = singles", fused, singles, kLimits.own);
    const generic = await fisherOf(model, ids, labels, { fisher: { generic: true } });
    hold("stories260K", "generic = singles", generic, singles, kLimits.own);
    const one = await fisherOf(model, ids, labels, { batch: 1 });
    hold("stories260K", "fused, batch 1 = singles", one, singles, kLimits.own);
    const exact = await fisherOf(model, ids, labels, { network: { real: "f64" } });
    hold("stories260K", "fused = f64", fused, exact, kLimits.f32);
  });
});
