import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { NativeFisherOptions } from "../../src/native/addon.js";
import { EngineNetwork, type NetworkOptions } from "../../src/native/network.js";
import {
  expectCode,
  type FixtureTensor,
  graphText,
  kParity,
  need,
  node,
  parameter,
  readFixture,
  relativeError,
  scientific,
  table,
  worstError,
} from "./support.js";

type Sums = Readonly<Record<string, Float64Array>>;

// Against PyTorch in f64; and between our own rules, batch sizes and orders (both in f32).
const kLimits = { f64: 1e-8, f32: 1e-4, own: 1e-5 } as const;
const kSamples = 10;
const kBatchMeanBatch = 4;
const kNetworks = ["tiny-cnn", "tied"] as const;
type NetworkName = (typeof kNetworks)[number];

const kRows: string[][] = [];
const kFixtures = new Map(
  kNetworks.map(
    (name) => [name, readFixture(join(kParity, `fisher/${name}.safetensors`))] as const,
  ),
);

function fixture(name: NetworkName): Map<string, FixtureTensor> {
  return need(kFixtures, name);
}

function sampleOf(name: NetworkName, order: readonly number[]) {
  const { values, shape } = need(fixture(name), "input");
  const labels = need(fixture(name), "labels").values;
  const size = values.length / (shape[0] as number);
  const data = new Float64Array(order.length * size);
  for (const [place, n] of order.entries()) {
    data.set(values.subarray(n * size, (n + 1) * size), place * size);
  }
  return { data, labels: Int32Array.from(order, (n) => labels[n] as number) };
}

async function open(name: NetworkName, options: NetworkOptions): Promise<EngineNetwork> {
  const graph = readFileSync(join(kParity, `fisher/${name}.graph.json`), "utf8");
  const network = new EngineNetwork(graph, { threads: 2, ...options });
  const weights = [...fixture(name)].filter(([key]) => key.startsWith("param/"));
  await network.setParameters(
    new Map(weights.map(([key, { values }]) => [key.slice("param/".length), values])),
  );
  return network;
}

const kFileOrder = Array.from({ length: kSamples }, (_, n) => n);

interface Run {
  readonly fisher?: NativeFisherOptions;
  readonly network?: NetworkOptions;
  readonly batch?: number;
  readonly order?: readonly number[];
}

async function fisherOf(name: NetworkName, run: Run) {
  const { fisher = {}, network: options = {}, batch = 4, order = kFileOrder } = run;
  using network = await open(name, options);
  const pass = network.fisherPass(fisher);
  for (let first = 0; first < order.length; first += batch) {
    const { data, labels } = sampleOf(name, order.slice(first, first + batch));
    await pass.step({ data, count: labels.length }, labels, first);
  }
  return pass.finish();
}

function expectedOf(name: NetworkName, form: string): Sums {
  const found = [...fixture(name)].filter(([key]) => key.startsWith(`${form}/`));
  expect(found.length, form).toBeGreaterThan(0);
  return Object.fromEntries(found.map(([key, { values }]) => [key.slice(form.length + 1), values]));
}

function hold(name: string, what: string, actual: Sums, expected: Sums, limit: number): void {
  const worst = worstError(actual, expected);
  kRows.push([name, what, scientific(worst.error), worst.name, scientific(limit)]);
  expect(worst.error, `${name}, ${what}: ${worst.name}`).toBeLessThanOrEqual(limit);
}

afterAll(() => {
  console.log(table(["network", "comparison", "worst error", "tensor", "limit"], kRows));
});

const kForms = [
  ["empirical/per-sample", { labels: "empirical", gradient: "per-sample" }],
  ["expected/per-sample", { labels: "expected", gradient: "per-sample" }],
  ["empirical/batch-mean", { labels: "empirical", gradient: "batch-mean" }],
  ["liu2023/batch-mean", { labels: "expected", gradient: "batch-mean" }],
] as const;

describe.each(kNetworks)("the Fisher of %s against PyTorch in f64", (name) => {
  for (const temperature of [1, 4]) {
    for (const [form, options] of kForms) {
      const label = `T${temperature}/${form}`;
      const fisher = { ...options, temperature };
      const terms = options.gradient === "per-sample" ? kSamples : 3;

      it(`${label}, f64`, async () => {
        const { squares, ...counts } = await fisherOf(name, { fisher, network: { real: "f64" } });
        expect(counts).toMatchObject({ samples: kSamples, terms, gradients: null });
        hold(name, `PyTorch ${label} f64`, squares, expectedOf(name, label), kLimits.f64);
      });

      it(`${label}, f32 fused`, async () => {
        const { squares } = await fisherOf(name, { fisher });
        hold(name, `PyTorch ${label} f32`, squares, expectedOf(name, label), kLimits.f32);
      });
    }

    // They take the data's labels, whatever labels the Fisher takes.
    it.each(["empirical", "expected", "sampled"])(
      `T${temperature}, sums of gradients beside %s labels`,
      async (labels) => {
        const fisher = { labels, temperature, gradientSums: true };
        const expected = expectedOf(name, `T${temperature}/empirical/gradient`);
        const exact = await fisherOf(name, { fisher, network: { real: "f64" } });
        const fast = await fisherOf(name, { fisher });
        const what = `T${temperature} gradient sums, ${labels}`;
        hold(name, `${what} f64`, exact.gradients as Sums, expected, kLimits.f64);
        hold(name, `${what} f32`, fast.gradients as Sums, expected, kLimits.f32);
        const alone = await fisherOf(name, { fisher: { ...fisher, gradientSums: false } });
        expect(fast.squares).toEqual(alone.squares);
      },
    );
  }

  it("the logits, and the counts of a pass", async () => {
    using network = await open(name, { real: "f64" });
    const { data, labels } = sampleOf(name, kFileOrder);
    const gradOutput = new Float64Array(kSamples * 3);
    const { output } = await network.vjp({ data, count: kSamples }, gradOutput);
    const logits = need(fixture(name), "logits").values;
    expect(relativeError(output, logits)).toBeLessThanOrEqual(1e-12);
    const { losses, correct } = await network.evaluate({ data, count: kSamples }, labels);
    const result = await fisherOf(name, { network: { real: "f64" } });
    expect(result.correct).toBe(correct);
    expect(result.lossSum).toBeCloseTo(
      losses.reduce((a, b) => a + b),
      10,
    );
  });
});

describe.each(kNetworks)("one Fisher of %s, whatever way it is taken", (name) => {
  const kReversed = kFileOrder.toReversed();
  const kShuffled = [7, 2, 9, 0, 4, 1, 8, 6, 3, 5];

  for (const labels of ["empirical", "expected"]) {
    it(`${labels} labels: fused, generic, N passes of one sample, batch sizes, orders, threads`, async () => {
      const fisher = { labels };
      const { squares: singles } = await fisherOf(name, {
        fisher: { labels, generic: true },
        batch: 1,
      });
      const compare = async (what: string, run: Run): Promise<void> => {
        const { squares } = await fisherOf(name, { fisher, ...run });
        hold(name, `${labels}, ${what} = singles`, squares, singles, kLimits.own);
      };
      for (const batch of [1, 3, 4, 10]) {
        await compare(`fused, batch ${batch}`, { batch });
        await compare(`generic, batch ${batch}`, { batch, fisher: { labels, generic: true } });
      }
      await compare("reversed, batch 3", { batch: 3, order: kReversed });
      await compare("shuffled, batch 4", { batch: 4, order: kShuffled });
      for (const threads of [1, 2, 3])
        await compare(`${threads} threads`, { network: { threads } });
      await compare("reference kernels", { network: { reference: true } });
    });
  }

  it("is additive: the Fishers of two parts sum to that of the whole", async () => {
    const whole = await fisherOf(name, {});
    const parts = [kShuffled.slice(0, 4), kShuffled.slice(4)];
    const [one, two] = await Promise.all(parts.map((order) => fisherOf(name, { order })));
    const sum = Object.entries(one?.squares ?? {}).map(([key, values]) => {
      const other = need(new Map(Object.entries(two?.squares ?? {})), key);
      return [key, values.map((value, i) => value + (other[i] as number))] as const;
    });
    hold(name, "two parts = whole", Object.fromEntries(sum), whole.squares, kLimits.own);
  });

  it("batch-mean depends on the batch size, unlike per-sample", async () => {
    const fisher = { gradient: "batch-mean" };
    const four = await fisherOf(name, { fisher, batch: kBatchMeanBatch });
    const ten = await fisherOf(name, { fisher, batch: 10 });
    expect(worstError(ten.squares, four.squares).error).toBeGreaterThan(0.1);
    // A batch of one is the per-sample Fisher.
    const single = await fisherOf(name, { fisher, batch: 1 });
    hold(
      name,
      "batch-mean of batch 1 = per-sample",
      single.squares,
      (await fisherOf(name, {})).squares,
      kLimits.own,
    );
  });
});

describe("sampled labels", () => {
  const fisher = (seed: number): NativeFisherOptions => ({ labels: "sampled", seed });

  it("do not depend on the batch size, but on the seed", async () => {
    const four = await fisherOf("tiny-cnn", { fisher: fisher(1) });
    for (const batch of [1, 3, 10]) {
      const other = await fisherOf("tiny-cnn", { fisher: fisher(1), batch });
      hold(
        "tiny-cnn",
        `sampled, batch ${batch} = batch 4`,
        other.squares,
        four.squares,
        kLimits.own,
      );
    }
    const reseeded = await fisherOf("tiny-cnn", { fisher: fisher(2) });
    expect(worstError(reseeded.squares, four.squares).error).toBeGreaterThan(1e-2);
  });

  it("have the Fisher of expected labels as their mean", async () => {
    const kSeeds = 400;
    const { squares: expected } = await fisherOf("tiny-cnn", { fisher: { labels: "expected" } });
    using network = await open("tiny-cnn", {});
    const { data, labels } = sampleOf("tiny-cnn", kFileOrder);
    const sums = new Map<string, Float64Array>();
    const squares = new Map<string, Float64Array>();
    for (let seed = 0; seed < kSeeds; seed += 1) {
      const pass = network.fisherPass(fisher(seed));
      await pass.step({ data, count: kSamples }, labels, 0);
      for (const [key, values] of Object.entries((await pass.finish()).squares)) {
        const sum = sums.get(key) ?? new Float64Array(values.length);
        const square = squares.get(key) ?? new Float64Array(values.length);
        values.forEach((value, i) => {
          sum[i] = (sum[i] as number) + value;
          square[i] = (square[i] as number) + value * value;
        });
        sums.set(key, sum);
        squares.set(key, square);
      }
    }
    let worst = 0;
    let elements = 0;
    for (const [key, values] of Object.entries(expected)) {
      values.forEach((value, i) => {
        const mean = (need(sums, key)[i] as number) / kSeeds;
        const variance = (need(squares, key)[i] as number) / kSeeds - mean ** 2;
        if (value === 0) {
          expect(mean).toBe(0);
          return;
        }
        elements += 1;
        worst = Math.max(worst, Math.abs(mean - value) / Math.sqrt(variance / kSeeds));
      });
    }
    kRows.push([
      "tiny-cnn",
      `mean of ${kSeeds} sampled = expected, standard errors`,
      worst.toFixed(1),
      "",
      "5",
    ]);
    expect(elements).toBeGreaterThan(100);
    // The worst of some 180 elements, each about normal: beyond 5 once in 10,000 runs, were the seeds not fixed.
    expect(worst).toBeLessThan(5);
  });
});

describe("labels of −1", () => {
  const run = async (labels: Int32Array, fisher: NativeFisherOptions) => {
    using network = await open("tiny-cnn", {});
    const { data } = sampleOf("tiny-cnn", kFileOrder);
    const pass = network.fisherPass(fisher);
    await pass.step({ data, count: kSamples }, labels, 0);
    return pass.finish();
  };

  it.each(["empirical", "expected", "sampled"])(
    "leave their samples out of the sums, %s",
    async (labels) => {
      const known = sampleOf("tiny-cnn", kFileOrder).labels;
      const first = known.map((label, n) => (n < 5 ? label : -1));
      const last = known.map((label, n) => (n < 5 ? -1 : label));
      const fisher = { labels, seed: 3, gradientSums: true };
      const [whole, one, two] = [
        await run(known, fisher),
        await run(first, fisher),
        await run(last, fisher),
      ];
      for (const kind of ["squares", "gradients"] as const) {
        const sum = Object.entries(one[kind] as Sums).map(([key, values]) => {
          const other = need(new Map(Object.entries(two[kind] as Sums)), key);
          return [key, values.map((value, i) => value + (other[i] as number))] as const;
        });
        hold(
          "tiny-cnn",
          `${labels} ${kind} of counted parts = whole`,
          Object.fromEntries(sum),
          whole[kind] as Sums,
          kLimits.own,
        );
      }
      const none = await run(
        known.map(() => -1),
        fisher,
      );
      for (const values of Object.values(none.squares))
        expect(values.every((value) => value === 0)).toBe(true);
    },
  );
});

describe("refusals", () => {
  const kSequence = graphText(
    [4, 3],
    [parameter("head.weight", [5, 3])],
    [node("logits", "linear", ["input"], { weight: "head.weight" })],
    "logits",
  );
  const { data, labels } = sampleOf("tiny-cnn", [0, 1, 2]);
  const batch = { data, count: 3 };

  it("training mode", async () => {
    using network = await open("tiny-cnn", {});
    await expectCode(() => network.fisherPass({ training: true }), "ERR_FM_STATE", /training mode/);
  });

  it.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])(
    "a temperature of %s",
    async (temperature) => {
      using network = await open("tiny-cnn", {});
      await expectCode(() => network.fisherPass({ temperature }), "ERR_FM_ARGUMENT", /temperature/);
      const call = () => network.evaluate(batch, labels, { temperature });
      await expectCode(call, "ERR_FM_ARGUMENT", /temperature/);
    },
  );

  it("expected labels on sequences, while empirical ones sum over the tokens", async () => {
    using network = new EngineNetwork(kSequence, { threads: 1 });
    const tokens = { data: Float64Array.from({ length: 24 }, (_, i) => Math.sin(i)), count: 2 };
    const targets = Int32Array.from([0, 1, 2, 3, 4, -1, 0, 1]);
    const expected = network.fisherPass({ labels: "expected" });
    await expectCode(() => expected.step(tokens, targets, 0), "ERR_FM_UNSUPPORTED", /sequences/);
    const empirical = network.fisherPass({ labels: "empirical" });
    await empirical.step(tokens, targets, 0);
    expect((await empirical.finish()).samples).toBe(2);
  });

  it.each([["labels"], ["gradient"]])("an unknown name for %s", async (key) => {
    using network = await open("tiny-cnn", {});
    await expectCode(() => network.fisherPass({ [key]: "hessian" }), "ERR_FM_ARGUMENT", /hessian/);
  });

  it("labels out of range, and as many labels as samples", async () => {
    using network = await open("tiny-cnn", {});
    const pass = network.fisherPass({});
    const wrong = () => pass.step(batch, Int32Array.from([0, 3, 1]), 0);
    await expectCode(wrong, "ERR_FM_ARGUMENT", /sample 1 .*received 3/);
    const few = () => pass.step(batch, Int32Array.from([0, 1]), 0);
    await expectCode(few, "ERR_FM_SHAPE", /expected 3 labels but received 2/);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, 1e300])(
    "a weight of %s, naming tensor and element",
    async (bad) => {
      using network = await open("tiny-cnn", {});
      const before = await network.getParameters(["conv2.weight"]);
      const values = need(fixture("tiny-cnn"), "param/conv2.weight").values.slice();
      values[17] = bad;
      const set = () => network.setParameters(new Map([["conv2.weight", values]]));
      await expectCode(set, "ERR_FM_NON_FINITE", /conv2\.weight.*element 17/);
      expect(await network.getParameters(["conv2.weight"])).toEqual(before);
    },
  );

  it.each(["empirical", "expected", "sampled"])(
    "a NaN among the inputs, naming the sample, %s",
    async (labels) => {
      using network = await open("tiny-cnn", {});
      const known = sampleOf("tiny-cnn", [0, 1, 2]).labels;
      const poisoned = data.slice();
      poisoned[(data.length / 3) * 2 + 5] = Number.NaN;
      const pass = network.fisherPass({ labels });
      const step = () => pass.step({ data: poisoned, count: 3 }, known, 6);
      await expectCode(
        step,
        "ERR_FM_NON_FINITE",
        /sample 2 of the batch.*begins at sample 6 of the pass/,
      );
      const call = () => network.evaluate({ data: poisoned, count: 3 }, known);
      await expectCode(call, "ERR_FM_NON_FINITE", /sample 2 of the batch/);
    },
  );
});
