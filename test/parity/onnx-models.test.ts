import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { afterAll, describe, expect, it } from "vitest";
import { headParameters } from "../../src/model/candidates.js";
import { loadNetwork } from "../../src/model/model.js";
import { type OnnxClassifier, openOnnxModel } from "../../src/model/onnx/open.js";
import type { EngineNetwork } from "../../src/native/network.js";
import { kParity, norm, relativeError } from "./support.js";

const kFolder = join(kParity, "onnx");
const kFiles = readdirSync(kFolder).filter((name) => name.endsWith(".onnx"));
const kVocabulary = 23;
const kClasses = 7;

const folder = mkdtempSync(join(tmpdir(), "fishermask-onnx-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Samples as the engine takes them. */
interface Samples {
  readonly data: Float32Array | Int32Array;
  readonly count: number;
}

/** The sizes of one sample, as the engine sees it. */
function sampleShape({ graph }: OnnxClassifier): readonly number[] {
  const [input, more] = graph.inputs;
  if (input === undefined || more !== undefined) return expect.fail("not one input");
  return input.shape;
}

/** Waves that repeat in no sample; with an attention mask every second sample of ids is shorter by three. */
function samplesOf(model: OnnxClassifier, count: number): Samples {
  const size = sampleShape(model).reduce((product, each) => product * each, 1);
  const length = count * size;
  if (model.graph.inputs[0]?.dtype !== "i32") {
    return { data: Float32Array.from({ length }, (_, i) => Math.sin(i * 1.7 + 0.3)), count };
  }
  const hasMask = model.graph.nodes.some(({ op }) => op === "pad_mask");
  const isPadding = (i: number): boolean =>
    hasMask && Math.floor(i / size) % 2 === 1 && i % size >= size - 3;
  const id = (_: unknown, i: number): number => (isPadding(i) ? -1 : (i * 7 + 3) % kVocabulary);
  return { data: Int32Array.from({ length }, id), count };
}

/** (N, H, W, C) → (N, C, H, W). */
function channelsFirst(
  values: Float32Array,
  count: number,
  [height = 1, width = 1, channels = 1]: readonly number[],
): Float32Array {
  const places = height * width;
  const out = new Float32Array(values.length);
  for (let i = 0; i < values.length; i += 1) {
    const channel = i % channels;
    const place = Math.floor(i / channels) % places;
    const sample = Math.floor(i / channels / places);
    out[(sample * channels + channel) * places + place] = values[i] as number;
  }
  expect(out.length).toBe(count * places * channels);
  return out;
}

function idsFor(name: string, ids: Int32Array, length: number): BigInt64Array {
  const numbers = ids.map((id, i) => {
    if (name === "attention_mask") return id >= 0 ? 1 : 0;
    if (name === "token_type_ids") return 0;
    if (name === "position_ids") return i % length;
    return Math.max(id, 0);
  });
  return BigInt64Array.from(numbers, BigInt);
}

/** What onnxruntime is fed with: every input of the file. */
function feeds(session: InferenceSession, model: OnnxClassifier, { data, count }: Samples) {
  const shape = sampleShape(model);
  const entries = session.inputNames.map((name): [string, Tensor] => {
    if (data instanceof Int32Array) {
      const [length = 0] = shape;
      return [name, new Tensor("int64", idsFor(name, data, length), [count, length])];
    }
    if (shape.length !== 3) return [name, new Tensor("float32", data, [count, ...shape])];
    const [height = 0, width = 0, channels = 0] = shape;
    const image = channelsFirst(data, count, shape);
    return [name, new Tensor("float32", image, [count, channels, height, width])];
  });
  return Object.fromEntries(entries);
}

/** Whether a prediction is made at each token. */
function isPerToken(model: OnnxClassifier, logits: number, count: number): boolean {
  return model.graph.inputs[0]?.dtype === "i32" && logits / count !== kClasses;
}

/** The logits at padding, which no label counts, as 0. */
function counted(logits: ArrayLike<number>, model: OnnxClassifier, samples: Samples): number[] {
  const values = Array.from(logits);
  if (!isPerToken(model, values.length, samples.count)) return values;
  const width = values.length / samples.data.length;
  return values.map((value, i) => (samples.data[Math.floor(i / width)] === -1 ? 0 : value));
}

async function compare(
  model: OnnxClassifier,
  network: EngineNetwork,
  file: string,
  count: number,
): Promise<number> {
  const samples = samplesOf(model, count);
  const [input] = model.graph.inputs;
  const [logits = ""] = model.graph.outputs;
  const made = await network.run(
    new Map([[input?.name ?? "", samples.data]]),
    [logits],
    samples.count,
  );
  const session = await InferenceSession.create(file, { logSeverityLevel: 4 });
  const outputs = await session.run(feeds(session, model, samples));
  const expected = outputs[session.outputNames[0] ?? ""]?.data as Float32Array;
  expect(norm(expected)).toBeGreaterThan(0.1);
  return relativeError(
    counted(made.get(logits) ?? [], model, samples),
    counted(expected, model, samples),
  );
}

/** Fishers of three samples: of all at once or one by one, by the fused kernels or the generic rule. */
async function fisher(
  model: OnnxClassifier,
  network: EngineNetwork,
  options: { readonly generic: boolean; readonly batch: number },
): Promise<ReadonlyMap<string, Float64Array>> {
  const { data, count } = samplesOf(model, 3);
  const [logits = ""] = model.graph.outputs;
  const input = model.graph.inputs[0]?.name ?? "";
  const made = await network.run(new Map([[input, data]]), [logits], count);
  const perToken = isPerToken(model, made.get(logits)?.length ?? 0, count);
  const width = data.length / count;
  const labels = Int32Array.from({ length: perToken ? data.length : count }, (_, i) =>
    perToken && data[i] === -1 ? -1 : (i * 5 + 1) % kClasses,
  );
  const places = labels.length / count;
  const pass = network.fisherPass({
    labels: "empirical",
    gradient: "per-sample",
    temperature: 1,
    seed: 0,
    gradientSums: false,
    generic: options.generic,
    training: false,
  });
  for (let first = 0; first < count; first += options.batch) {
    const last = Math.min(first + options.batch, count);
    const batch = { data: data.slice(first * width, last * width), count: last - first };
    await pass.step(batch, labels.slice(first * places, last * places), first);
  }
  return new Map(Object.entries((await pass.finish()).squares));
}

/** The worst error per tensor. Where the gradient is 0 but for rounding (a key's bias) there is nothing to compare. */
function worst(
  actual: ReadonlyMap<string, Float64Array>,
  expected: ReadonlyMap<string, Float64Array>,
  trained: readonly string[],
): number {
  const largest = Math.max(...trained.map((name) => norm(expected.get(name) ?? [])));
  const errors = trained.map((name) => {
    const values = expected.get(name) ?? expect.fail(`no Fisher of ${name}`);
    if (norm(values) < 1e-10 * largest) return 0;
    return relativeError(actual.get(name) ?? [], values);
  });
  return Math.max(...errors);
}

function trainedNames({ graph }: OnnxClassifier): readonly string[] {
  return graph.parameters.filter(({ role }) => role !== "buffer").map(({ name }) => name);
}

describe.each(kFiles)("%s", (name) => {
  const path = join(kFolder, name);

  it("computes what onnxruntime computes, whatever the batch", async () => {
    const model = await openOnnxModel(path);
    using network = await loadNetwork(model, { threads: 1 });
    for (const count of [1, 5]) {
      expect(await compare(model, network, path, count)).toBeLessThanOrEqual(1e-5);
    }
  });

  it("has one exact Fisher, that reaches every trained tensor", async () => {
    const model = await openOnnxModel(path);
    using network = await loadNetwork(model, { threads: 1 });
    const trained = trainedNames(model);
    const fused = await fisher(model, network, { generic: false, batch: 3 });
    for (const each of trained) expect(norm(fused.get(each) ?? []), each).toBeGreaterThan(0);
    const generic = await fisher(model, network, { generic: true, batch: 3 });
    const single = await fisher(model, network, { generic: false, batch: 1 });
    expect(worst(fused, generic, trained)).toBeLessThanOrEqual(1e-5);
    expect(worst(fused, single, trained)).toBeLessThanOrEqual(1e-5);
  });

  it("takes a changed weight back and no other byte", async () => {
    const model = await openOnnxModel(path);
    using network = await loadNetwork(model, { threads: 1 });
    const weights = new Map(
      [...model.weights].map(([tensor, values]) => [tensor, values.slice()] as const),
    );
    const all = model.graph.parameters.filter(({ role }) => role === "weight");
    const { name: changed } = all[Math.floor(all.length / 2)] ?? expect.fail("no weight");
    const values = weights.get(changed) ?? expect.fail("no values");
    for (let i = 0; i < values.length; i += 1) values[i] = i % 3 === 0 ? 0 : Math.cos(i);
    const target = join(folder, name);
    await model.writeBack?.(weights, target);
    const [before, after] = [readFileSync(path), readFileSync(target)];
    expect(after.length).toBe(before.length);
    const places = [...before.keys()].filter((i) => before[i] !== after[i]);
    expect(places.length).toBeGreaterThan(0);
    const span = (places.at(-1) ?? 0) - (places[0] ?? 0) + 1;
    expect(span).toBeLessThanOrEqual(4 * values.length);
    await network.setParameters(weights);
    expect(await compare(model, network, target, 2)).toBeLessThanOrEqual(1e-5);
  });

  it("has a head of one layer", async () => {
    const head = headParameters((await openOnnxModel(path)).graph);
    expect(head.length).toBeGreaterThan(0);
    expect(head.length).toBeLessThanOrEqual(2);
  });
});

describe("a tied head that the file stores twice", () => {
  it("is said in the notes", async () => {
    const { notes } = await openOnnxModel(join(kFolder, "gpt2-dynamo-20.onnx"));
    expect(notes.join()).toMatch(/lm_head\.weight and val_\d+ hold the same numbers/);
    const other = await openOnnxModel(join(kFolder, "llama-dynamo-23.onnx"));
    expect(other.notes.join()).not.toMatch(/same numbers/);
  });
});
