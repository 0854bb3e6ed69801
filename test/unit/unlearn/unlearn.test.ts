import { describe, expect, it } from "vitest";
import { subset } from "../../../src/data/dataset.js";
import type { ForgetSplit } from "../../../src/data/split.js";
import { evaluate } from "../../../src/evaluate/accuracy.js";
import type { RunMetrics } from "../../../src/evaluate/run-metrics.js";
import { initialize } from "../../../src/model/initialize.js";
import { loadNetwork } from "../../../src/model/model.js";
import type { FineTuneConfig, UnlearnOverrides } from "../../../src/unlearn/config.js";
import { subtractFishers } from "../../../src/unlearn/fisher-store.js";
import { weightMasks } from "../../../src/unlearn/mask.js";
import { type UnlearnRequest, type UnlearnResult, unlearn } from "../../../src/unlearn/unlearn.js";
import { expectError } from "../io/support.js";
import {
  bits,
  fisherOf,
  NORMALIZATION,
  requestOf,
  splitByClass,
  type Task,
  tinyModel,
  tinyTask,
} from "./support.js";

const TUNE: FineTuneConfig = {
  epochs: 2,
  learningRate: 0.02,
  batchSize: 20,
  optimizer: "sgd",
  momentum: 0.9,
  weightDecay: 1e-2,
  schedule: { kind: "constant" },
  crop: 0,
  flip: false,
  samples: null,
};

async function run(
  overrides: UnlearnOverrides = {},
  change: (request: UnlearnRequest, task: Task) => Partial<UnlearnRequest> = () => ({}),
): Promise<UnlearnResult> {
  const task = await tinyTask();
  const request = requestOf(task, overrides);
  return unlearn({ ...request, ...change(request, task) });
}

/** Old and new values of the masked weights of a result. */
function maskedValues(result: UnlearnResult): number[] {
  const values: number[] = [];
  for (const [name, keep] of weightMasks(result.masks ?? new Map())) {
    for (const [i, value] of (result.weights.get(name) as Float32Array).entries()) {
      if ((((keep[i >> 3] as number) >> (i & 7)) & 1) === 0) values.push(value);
    }
  }
  return values;
}

function shares(metrics: RunMetrics): number[] {
  const { before, after, maskedOnly } = metrics;
  return [before, after, ...(maskedOnly === null ? [] : [maskedOnly])].flatMap((snapshot) =>
    [
      ...Object.values(snapshot.forget),
      ...Object.values(snapshot.remain),
      ...Object.values(snapshot.probe ?? {}),
    ].filter((value) => value !== null),
  );
}

describe("the task of these tests", () => {
  it("is learnt by the tiny network", async () => {
    const { metrics } = await run({ selection: { kind: "fixed", ratio: 0 } });
    expect(metrics.before.forget).toEqual({ train: 1, test: 1 });
    expect(metrics.before.remain).toEqual({ train: 1, test: 1 });
  });
});

describe("metrics", () => {
  it("hold what was measured, named and counted", async () => {
    const task = await tinyTask();
    const { metrics, samples, fishers, weights } = await run({ seed: 4 });
    expect(metrics.data).toMatchObject({
      classes: ["left", "middle", "right"],
      forget: "class 0",
      forgetClasses: [0],
      counts: { forgetTrain: 30, remainTrain: 60, forgetTest: 15, remainTest: 30 },
    });
    for (const share of shares(metrics)) {
      expect(share).toBeGreaterThanOrEqual(0);
      expect(share).toBeLessThanOrEqual(1);
    }
    expect(shares(metrics).length).toBe(2 * 6);
    const { masked } = metrics;
    expect(masked).toMatchObject({
      units: 46,
      total: 936,
      ratio: 46 / 936,
      criterion: "directional",
    });
    expect(Object.values(masked.perTensor).reduce((a, b) => a + b)).toBe(masked.units);
    expect(Object.values(masked.perTensorTotal).reduce((a, b) => a + b)).toBe(masked.total);
    expect(metrics.scores?.maskedCounts.reduce((a, b) => a + b)).toBe(masked.units);
    expect(metrics.stages.map(({ name }) => name)).toEqual([
      "Before, training samples",
      "Before, test samples",
      "Linear probe",
      "Fisher, forget set",
      "Fisher, remain set",
      "Score and select",
      "After, training samples",
      "After, test samples",
    ]);
    for (const { seconds } of metrics.stages) expect(seconds).toBeGreaterThanOrEqual(0);
    expect(metrics.device).toEqual({ requested: "auto", used: "cpu", threads: 1 });
    expect(metrics.seed).toBe(4);
    expect(metrics.maskedOnly).toBeNull();
    expect(metrics.retrained).toBeNull();
    expect(samples.length).toBe(12);
    for (const { label } of samples) expect(label).toBe("left");
    expect(fishers.forget?.ids.length).toBeGreaterThan(0);
    expect([...weights.keys()]).toEqual([...task.model.weights.keys()]);
    expect(JSON.parse(JSON.stringify(metrics))).toEqual(metrics);
  });

  it("agree with an evaluation of the weights that are returned", async () => {
    const task = await tinyTask();
    const result = await run({ selection: { kind: "fixed", ratio: 0.3 } });
    using network = await loadNetwork({ ...task.model, weights: result.weights }, { threads: 1 });
    const { forget, remain } = splitByClass(task.train, [0]);
    const options = { batchSize: 16, normalization: NORMALIZATION };
    const f = await evaluate(network, subset(task.train, forget), options);
    const r = await evaluate(network, subset(task.train, remain), options);
    expect(result.metrics.after.forget.train).toBe(f.correct / f.total);
    expect(result.metrics.after.remain.train).toBe(r.correct / r.total);
    expect(result.metrics.after.loss.forget).toBeCloseTo(f.meanLoss, 6);
    expect(result.metrics.after.loss.remain).toBeCloseTo(r.meanLoss, 6);
    expect(result.metrics.after.perClass.train[0]).toEqual({
      name: "left",
      correct: f.correct,
      total: 30,
    });
    // A third of the weights is gone: something must have changed.
    expect(result.metrics.after).not.toEqual(result.metrics.before);
  });

  it("have no test corner for a request that is not by class, and none at all without a test set", async () => {
    const byId: ForgetSplit = {
      forget: Int32Array.of(0, 4, 8, 11),
      remain: Int32Array.from({ length: 90 }, (_, i) => i).filter(
        (i) => ![0, 4, 8, 11].includes(i),
      ),
      description: "ids",
    };
    const fixed = { fisher: { forgetSamples: null, remainSamples: null } };
    const ids = await run(fixed, () => ({ split: byId, forgetClasses: [] }));
    expect(ids.metrics.before.forget.test).toBeNull();
    expect(ids.metrics.before.remain.test).toBe(1);
    expect(ids.metrics.before.probe?.forget).toBeNull();
    expect(ids.metrics.data.counts).toMatchObject({
      forgetTrain: 4,
      forgetTest: 0,
      remainTest: 45,
    });
    const untested = await run({}, () => ({ test: null }));
    expect(untested.metrics.before.remain.test).toBeNull();
    expect(untested.metrics.before.probe).toBeNull();
    expect(untested.metrics.before.perClass.test).toEqual([]);
    expect(untested.metrics.warnings).toEqual([]);
  });

  it("warn where a Fisher has seen the probe's samples, and only there", async () => {
    const { metrics } = await run();
    expect(metrics.warnings.length).toBe(1);
    expect(metrics.warnings[0]).toMatch(/probe .* 90 samples of which a Fisher has seen 90\./);
    const retrained = await run({ method: "retrain", fineTune: TUNE });
    expect(retrained.metrics.warnings).toEqual([]);
  });

  it("are the same for the same seed, as are the weights", async () => {
    const overrides: UnlearnOverrides = {
      fineTune: TUNE,
      fisher: { forgetSamples: 10, remainSamples: 20 },
      seed: 2,
    };
    const [a, b] = [await run(overrides), await run(overrides)];
    expect(bits(b.weights)).toEqual(bits(a.weights));
    const bare = ({ stages: _, createdAt: __, fineTuning, ...rest }: RunMetrics) => ({
      ...rest,
      fineTuning: fineTuning.map(({ seconds: ___, ...epoch }) => epoch),
    });
    expect(bare(b.metrics)).toEqual(bare(a.metrics));
    const c = await run({ ...overrides, seed: 3 });
    expect(bits(c.weights)).not.toEqual(bits(a.weights));
  });

  it("leave the model's own weights alone", async () => {
    const { model } = await tinyTask();
    const before = bits(model.weights);
    await run({ fineTune: TUNE });
    expect(bits(model.weights)).toEqual(before);
  });
});

describe("method fisher-masking", () => {
  it("fixed: masks the share and nothing else", async () => {
    const { model } = await tinyTask();
    for (const [ratio, units] of [
      [0, 0],
      [0.1, 93],
      [1, 936],
    ] as const) {
      const result = await run({ selection: { kind: "fixed", ratio } });
      expect(result.metrics.masked.units).toBe(units);
      expect(maskedValues(result)).toEqual(new Array(units).fill(0));
      const changed = [...result.weights].filter(
        ([name, values]) =>
          !Buffer.from(values.buffer).equals(Buffer.from(model.weights.get(name)!.buffer)),
      );
      const touched = Object.entries(result.metrics.masked.perTensor).filter(([, n]) => n > 0);
      expect(changed.map(([name]) => name).sort()).toEqual(touched.map(([name]) => name).sort());
    }
  });

  it("adaptive: finds a mask smaller than the most allowed that reaches the target", async () => {
    const { metrics } = await run({
      selection: { kind: "adaptive", maxRatio: 0.9 },
      target: { accuracy: 0.1, samples: null },
    });
    expect(metrics.after.forget.train).toBeLessThanOrEqual(0.1);
    expect(metrics.masked.units).toBeGreaterThan(0);
    expect(metrics.masked.ratio).toBeLessThan(0.9);
    expect(metrics.rounds[0]).toMatchObject({ units: 0, forgetAccuracy: 1 });
    const reached = metrics.rounds.filter(({ forgetAccuracy }) => forgetAccuracy <= 0.1);
    expect(Math.min(...reached.map(({ units }) => units))).toBe(metrics.masked.units);
    const missed = metrics.rounds.filter(({ forgetAccuracy }) => forgetAccuracy > 0.1);
    const closest = Math.max(...missed.map(({ units }) => units));
    expect(metrics.masked.units - closest).toBeLessThanOrEqual(
      Math.max(1, Math.floor(metrics.masked.units * 0.02)),
    );
  });

  it.each(["adaptive", "iterated"] as const)(
    "%s: masks nothing where all is forgotten already, and warns of nothing",
    async (kind) => {
      const { metrics, weights } = await run({
        selection: { kind, maxRatio: 0.5, ratioPerRound: 0.01 } as never,
        target: { accuracy: 1, samples: null },
      });
      expect(metrics.masked).toMatchObject({ units: 0, total: 936 });
      expect(metrics.rounds.length).toBe(1);
      expect(bits(weights)).toEqual(bits((await tinyTask()).model.weights));
      expect(metrics.warnings.join()).not.toContain("target");
    },
  );

  it.each(["adaptive", "iterated"] as const)(
    "%s: warns with numbers where the target is not reached, and masks the most allowed",
    async (kind) => {
      const { metrics } = await run({
        selection: { kind, maxRatio: 0.01, ratioPerRound: 0.004 } as never,
        target: { loss: 1000, samples: null, accuracy: 0 },
      });
      expect(metrics.masked.units).toBe(9);
      expect(metrics.warnings.join()).toMatch(/target was not reached: with 0\.96 % .* %/);
      expect(metrics.warnings.join()).toContain("1000 nats");
    },
  );

  it("iterated: a share each round, never the same unit twice, until the target is reached", async () => {
    const { metrics } = await run({
      selection: { kind: "iterated", ratioPerRound: 0.02, maxRatio: 0.9 },
      target: { accuracy: 0.1, samples: null },
    });
    const units = metrics.rounds.map((round) => round.units);
    expect(units).toEqual(units.map((_, i) => i * 18));
    expect(metrics.rounds.at(-1)?.forgetAccuracy).toBeLessThanOrEqual(0.1);
    for (const round of metrics.rounds.slice(0, -1)) {
      expect(round.forgetAccuracy).toBeGreaterThan(0.1);
    }
    expect(metrics.masked.units).toBe(units.at(-1));
    expect(metrics.after.forget.train).toBeLessThanOrEqual(0.1);
    expect(metrics.warnings.join()).not.toContain("target");
  });

  it("iterated: masks one unit a round where the share is less than one", async () => {
    const { metrics } = await run({
      selection: { kind: "iterated", ratioPerRound: 0.0001, maxRatio: 0.004 },
      target: { loss: 1000, samples: null, accuracy: 0 },
    });
    expect(metrics.rounds.map(({ units }) => units)).toEqual([0, 1, 2, 3]);
  });

  it("hold keeps masked weights exactly 0 through momentum and decay; without it they move", async () => {
    for (const optimizer of ["sgd", "adamw"] as const) {
      const overrides = {
        selection: { kind: "fixed", ratio: 0.2 },
        fineTune: { ...TUNE, optimizer },
      } as const;
      const held = await run({ ...overrides, hold: true });
      expect(maskedValues(held)).toEqual(new Array(187).fill(0));
      const free = await run({ ...overrides, hold: false });
      expect(maskedValues(free).filter((value) => value !== 0).length).toBeGreaterThan(150);
      for (const { metrics } of [held, free]) {
        expect(metrics.maskedOnly).not.toBeNull();
        expect(metrics.fineTuning.map(({ epoch }) => epoch)).toEqual([1, 2]);
        expect(metrics.masked.units).toBe(187);
      }
    }
  });

  it("reports progress that never exceeds a stage's total, and every stage that counts reaches it", async () => {
    const stages: { name: string; total: number | null; done: number[] }[] = [];
    await run(
      {
        selection: { kind: "iterated", ratioPerRound: 0.05, maxRatio: 0.1 },
        target: { accuracy: 0, samples: 20 },
        fineTune: TUNE,
      },
      () => ({
        reporter: {
          stage: (name, total) => stages.push({ name, total, done: [] }),
          progress: (done) => stages.at(-1)?.done.push(done),
          message: () => undefined,
        },
      }),
    );
    expect(stages.map(({ name }) => name)).toContain("Check the target");
    expect(stages.map(({ name }) => name)).toContain("Linear probe");
    for (const { name, total, done } of stages) {
      if (total === null) continue;
      expect(done.at(-1), name).toBe(total);
      expect(
        [...done].sort((a, b) => a - b),
        name,
      ).toEqual(done);
    }
  });
});

describe("stored Fishers", () => {
  it("take the place of computing them, with the same result; D − D_f serves as D_r", async () => {
    const task = await tinyTask();
    const { forget, remain } = splitByClass(task.train, [0]);
    const all = Int32Array.from({ length: task.train.size }, (_, i) => i);
    const overrides = {
      criterion: "difference",
      selection: { kind: "fixed", ratio: 0.1 },
      fisher: { forgetSamples: null, remainSamples: null, batchSize: 30 },
    } as const;
    const computed = await run(overrides);
    const f = await fisherOf(task, forget, { batchSize: 30 });
    const d = await fisherOf(task, all, { batchSize: 30 });
    const names = (result: UnlearnResult) => result.metrics.stages.map(({ name }) => name);
    expect(names(computed)).toContain("Fisher, forget set");
    for (const r of [await fisherOf(task, remain, { batchSize: 30 }), subtractFishers(d, f)]) {
      const result = await run(overrides, () => ({ stored: { forget: f, remain: r } }));
      expect(result.masks).toEqual(computed.masks);
      expect(bits(result.weights)).toEqual(bits(computed.weights));
      expect(names(result).filter((name) => name.startsWith("Fisher"))).toEqual([]);
    }
  });

  it("of another network, data, loss or set are refused before the work", async () => {
    const task = await tinyTask();
    const { forget, remain } = splitByClass(task.train, [0]);
    const f = await fisherOf(task, forget, { gradientSums: true });
    const r = await fisherOf(task, remain);
    const overrides = { fisher: { forgetSamples: null } } as const;
    const stages: string[] = [];
    const using = (stored: UnlearnRequest["stored"]) =>
      run(overrides, () => ({
        stored,
        reporter: {
          stage: (name) => stages.push(name),
          progress: () => undefined,
          message: () => undefined,
        },
      }));
    for (const [change, word] of [
      [{ modelDigest: "x" }, "another network"],
      [{ datasetDigest: "x" }, "other data"],
      [{ temperature: 4 }, "temperature 4 instead of 1"],
      [{ labels: "expected" }, "labels expected instead of empirical"],
    ] as const) {
      const other = { ...f, meta: { ...f.meta, ...change } };
      await expectError(() => using({ forget: other }), "ERR_FM_MISMATCH", "forget", word);
    }
    await expectError(() => using({ forget: r }), "ERR_FM_MISMATCH", "sample 1,");
    await expectError(() => using({ remain: f }), "ERR_FM_MISMATCH", "remain", "sample 0,");
    expect(stages).toEqual([]);
    expect((await using({ forget: f, remain: r })).metrics.masked.units).toBe(46);
  });
});

describe("methods retrain and fine-tune", () => {
  it("retrain starts from fresh weights and never sees the forget set", async () => {
    const { metrics, weights, masks } = await run({
      method: "retrain",
      fineTune: { ...TUNE, epochs: 12, weightDecay: 0, learningRate: 0.05, batchSize: 15 },
    });
    expect(masks).toBeNull();
    expect(metrics.masked).toMatchObject({ units: 0, total: 0, criterion: "none" });
    expect(metrics.after.forget.train).toBe(0);
    expect(metrics.after.remain.train).toBeGreaterThan(0.9);
    expect(metrics.fineTuning.length).toBe(12);
    expect(metrics.maskedOnly).toBeNull();
    expect(bits(weights)).not.toEqual(bits(initialize(tinyModel().graph, 0)));
    // The original weights play no part in it.
    const again = await run({ method: "retrain", fineTune: { ...TUNE, epochs: 1 } }, () => ({
      model: tinyModel(9),
    }));
    const other = await run({ method: "retrain", fineTune: { ...TUNE, epochs: 1 } });
    expect(bits(again.weights)).toEqual(bits(other.weights));
  });

  it("fine-tune goes on from the weights it is given", async () => {
    const { metrics, weights } = await run({
      method: "fine-tune",
      fineTune: { ...TUNE, learningRate: 0 },
    });
    const { model } = await tinyTask();
    // A rate of 0 moves nothing but batch norm's statistics.
    for (const { name, role } of model.graph.parameters) {
      if (role === "buffer") continue;
      expect(bits(new Map([[name, weights.get(name)!]]))).toEqual(
        bits(new Map([[name, model.weights.get(name)!]])),
      );
    }
    expect(metrics.fineTuning.length).toBe(2);
  });

  it.each(["retrain", "fine-tune"])(
    "%s without fineTune is refused before the work",
    async (method) => {
      const stages: string[] = [];
      const reporter = {
        stage: (name: string) => stages.push(name),
        progress: () => undefined,
        message: () => undefined,
      };
      await expectError(
        () => run({ method }, () => ({ reporter })),
        "ERR_FM_CONFIG",
        "fineTune",
        method,
      );
      expect(stages).toEqual([]);
    },
  );
});

describe("what is refused, and how a run stops", () => {
  const refused = (
    code: Parameters<typeof expectError>[1],
    words: readonly string[],
    overrides: UnlearnOverrides,
    change?: Parameters<typeof run>[1],
  ) => expectError(() => run(overrides, change), code, ...words);
  const sets = (forget: number[], remain: number[]) => () => ({
    split: {
      forget: Int32Array.from(forget),
      remain: Int32Array.from(remain),
      description: "some",
    },
  });

  it("empty, overlapping, repeated and foreign samples", async () => {
    await refused("ERR_FM_ARGUMENT", ["one sample to forget"], {}, sets([], [1, 2]));
    await refused("ERR_FM_ARGUMENT", ["one sample to keep"], {}, sets([1], []));
    await refused("ERR_FM_ARGUMENT", ["disjoint", "2 in both"], {}, sets([1, 2], [2, 3]));
    await refused("ERR_FM_ARGUMENT", ["90"], {}, sets([1, 90], [2, 3]));
    await refused("ERR_FM_ARGUMENT", ["-1"], {}, sets([1], [-1, 3]));
  });

  it("unknown methods and criteria, and globs that match nothing", async () => {
    await refused("ERR_FM_CONFIG", ["method", "wish", "retrain"], { method: "wish" });
    await refused("ERR_FM_CONFIG", ["criterion", "wish"], {}, (request) => ({
      config: { ...request.config, criterion: "wish" as never },
    }));
    await refused("ERR_FM_ARGUMENT", ["exclude", "bn1.*"], { exclude: ["bn1.*"] });
  });

  it("NaN and infinite weights, by tensor", async () => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
      await refused("ERR_FM_NON_FINITE", ["conv2.weight"], {}, (_, { model }) => {
        const copy = (model.weights.get("conv2.weight") as Float32Array).slice();
        copy[5] = value;
        return {
          model: { ...model, weights: new Map([...model.weights, ["conv2.weight", copy]]) },
        };
      });
    }
  });

  it("a signal stops it at each stage, and the model stays as it was", async () => {
    const { model } = await tinyTask();
    const before = bits(model.weights);
    const overrides: UnlearnOverrides = {
      selection: { kind: "iterated", ratioPerRound: 0.05, maxRatio: 0.2 },
      target: { accuracy: 0, samples: 20 },
      fineTune: TUNE,
    };
    for (const stopAt of [
      "Before, training samples",
      "Linear probe",
      "Fisher, forget set",
      "Fisher, remain set",
      "Check the target",
      "Masked, test samples",
      "Fine-tune",
      "After, training samples",
    ]) {
      const controller = new AbortController();
      let last = "";
      const reporter = {
        stage: (name: string) => {
          last = name;
          if (name === stopAt) controller.abort();
        },
        progress: () => undefined,
        message: () => undefined,
      };
      const signal = controller.signal;
      await refused("ERR_FM_ABORTED", [], overrides, () => ({ signal, reporter }));
      expect(last).toBe(stopAt);
    }
    expect(bits(model.weights)).toEqual(before);
  });
});
