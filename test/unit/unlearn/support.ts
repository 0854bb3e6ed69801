import { expect } from "vitest";
import { arrayDataset, datasetDigest, type ImageDataset } from "../../../src/data/dataset.js";
import type { ForgetSplit } from "../../../src/data/split.js";
import { GraphBuilder } from "../../../src/model/builder.js";
import type { Graph } from "../../../src/model/graph.js";
import { initialize } from "../../../src/model/initialize.js";
import { loadNetwork, type Model, readWeights } from "../../../src/model/model.js";
import type { InputNormalization } from "../../../src/native/network.js";
import { train } from "../../../src/train/train.js";
import { resolveConfig, type UnlearnOverrides } from "../../../src/unlearn/config.js";
import { computeFisher, type FisherOptions } from "../../../src/unlearn/fisher.js";
import type { FisherStore } from "../../../src/unlearn/fisher-store.js";
import type { MethodContext } from "../../../src/unlearn/method.js";
import { presets } from "../../../src/unlearn/presets.gen.js";
import type { UnlearnRequest } from "../../../src/unlearn/unlearn.js";
import { expectError } from "../io/support.js";

export const NORMALIZATION: InputNormalization = {
  divisor: 255,
  mean: [0.4, 0.5],
  std: [0.3, 0.3],
};
const CLASSES = ["left", "middle", "right"];
const SIZE = 6;
const CHANNELS = 2;

/** A fixed sequence of numbers in [0, 1): the tests' own noise, no part of the library. */
export function noise(seed: number): () => number {
  let state = (seed * 2_654_435_761 + 12_345) % 4_294_967_296;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 4_294_967_296;
  };
}

/** 6 × 6 × 2 images in three classes, in turn: a bright pair of columns on noise says which. */
export function stripes(size: number, seed: number): ImageDataset {
  const random = noise(seed);
  const pixels = SIZE * SIZE * CHANNELS;
  const images = new Uint8Array(size * pixels);
  for (let i = 0; i < size; i++) {
    for (let p = 0; p < pixels; p++) {
      const column = Math.floor(p / CHANNELS) % SIZE;
      const bright = Math.floor(column / 2) === i % 3;
      images[i * pixels + p] = Math.floor((bright ? 110 : 30) + 110 * random());
    }
  }
  const labels = Int32Array.from({ length: size }, (_, i) => i % 3);
  return arrayDataset({ classes: CLASSES, shape: [SIZE, SIZE, CHANNELS], images, labels });
}

/** conv1 4 × 3 × 3, batch norm, conv2 6 × 3 × 3, flatten, fc: 72, 216 and 648 candidate weights. */
export function tinyGraph(): Graph {
  const b = new GraphBuilder("tiny");
  let x = b.input("input", [SIZE, SIZE, CHANNELS]);
  x = b.batchNorm("bn1", b.conv2d("conv1", x, { out: 4, kernel: 3, padding: 1, bias: false }));
  x = b.relu("relu1", x);
  x = b.relu("relu2", b.conv2d("conv2", x, { out: 6, kernel: 3, padding: 1 }));
  x = b.flatten("flatten", x, { output: "features" });
  return b.build([b.linear("fc", x, { out: CLASSES.length, output: "logits" }), "features"]);
}

export function tinyModel(seed = 1): Model {
  const graph = tinyGraph();
  const weights = initialize(graph, seed);
  return { arch: "tiny", graph, features: "features", weights, file: null, sha256: null };
}

export interface Task {
  readonly model: Model;
  readonly train: ImageDataset;
  readonly test: ImageDataset;
  readonly digest: string;
}

let trained: Promise<Task> | undefined;

/** The fresh network, trained on the stripes. */
export async function taskOf(fresh: Model): Promise<Task> {
  const data = stripes(90, 1);
  using network = await loadNetwork(fresh, { threads: 1 });
  const indices = Int32Array.from({ length: data.size }, (_, i) => i);
  await train(
    network,
    { dataset: data, indices },
    {
      epochs: 12,
      batchSize: 15,
      optimizer: { kind: "sgd", momentum: 0.9 },
      learningRate: 0.05,
      schedule: { kind: "cosine" },
      normalization: NORMALIZATION,
      seed: 3,
    },
  );
  const weights = await readWeights(fresh.graph, network);
  const model = { ...fresh, weights };
  return { model, train: data, test: stripes(45, 2), digest: await datasetDigest(data) };
}

/** The tiny network, trained on the stripes; made once per test file. Nobody may change its arrays. */
export function tinyTask(): Promise<Task> {
  trained ??= taskOf(tinyModel());
  return trained;
}

/** Indices of `train` whose label is in the classes, and the others. */
export function splitByClass(data: ImageDataset, classes: readonly number[]): ForgetSplit {
  const all = Int32Array.from({ length: data.size }, (_, i) => i);
  const isForgotten = (i: number): boolean => classes.includes(data.labels[i] as number);
  return {
    forget: all.filter(isForgotten),
    remain: all.filter((i) => !isForgotten(i)),
    description: `class ${classes.join(", ")}`,
  };
}

export async function fisherOf(
  task: Task,
  indices: Int32Array,
  options: Partial<FisherOptions> = {},
): Promise<FisherStore> {
  using network = await loadNetwork(task.model, { threads: 1 });
  const { store } = await computeFisher(
    task.model.graph,
    network,
    { dataset: task.train, indices },
    task.digest,
    { batchSize: 16, normalization: NORMALIZATION, ...options },
  );
  return store;
}

/** Runs once for each of the stages or messages, with a signal that fires where one begins: no later one may begin. */
export async function expectStopsAt(
  places: readonly string[],
  run: (stop: Pick<MethodContext, "signal" | "reporter">) => Promise<unknown>,
): Promise<void> {
  for (const place of places) {
    const controller = new AbortController();
    let last = "";
    const note = (text: string) => {
      last = text;
      if (text.startsWith(place)) controller.abort();
    };
    const reporter = { stage: note, progress: () => undefined, message: note };
    await expectError(() => run({ signal: controller.signal, reporter }), "ERR_FM_ABORTED");
    expect(last.startsWith(place), `${place}: ${last}`).toBe(true);
  }
}

/** The default preset on the tiny task, forgetting class 0. */
export function requestOf(task: Task, overrides: UnlearnOverrides = {}): UnlearnRequest {
  return {
    model: task.model,
    train: task.train,
    test: task.test,
    split: splitByClass(task.train, [0]),
    normalization: NORMALIZATION,
    config: resolveConfig(presets.default, {
      selection: { kind: "fixed", ratio: 0.05 },
      excludeHead: false,
      ...overrides,
      fisher: { temperature: 1, batchSize: 16, ...overrides.fisher },
    }),
    preset: "default",
    source: "stripes",
    forgetClasses: [0],
    threads: 1,
  };
}

/** The bytes of each array, so that −0 differs from 0. */
export function bits(weights: ReadonlyMap<string, Float32Array>): Record<string, string> {
  return Object.fromEntries(
    [...weights].map(([name, values]) => [
      name,
      Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString("hex"),
    ]),
  );
}
