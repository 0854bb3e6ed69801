import { describe, expect, it } from "vitest";
import {
  checkConfig,
  type FineTuneConfig,
  resolveConfig,
  type UnlearnConfig,
} from "../../../src/unlearn/config.js";
import { presets } from "../../../src/unlearn/presets.gen.js";
import { expectError } from "../io/support.js";

const base = presets.default.config;
const fineTune: FineTuneConfig = {
  epochs: 2,
  learningRate: 0.01,
  batchSize: 32,
  optimizer: "sgd",
  momentum: 0.9,
  weightDecay: 0,
  schedule: { kind: "cosine" },
  crop: 0,
  flip: false,
  samples: null,
};

describe("presets", () => {
  it.each(Object.entries(presets))("%s is a whole, valid config", (name, preset) => {
    expect(preset.name).toBe(name);
    expect(() => checkConfig(preset.config)).not.toThrow();
    expect(resolveConfig(preset)).toEqual(preset.config);
  });

  it("liu2023 is what the authors' code does", () => {
    const { fisher, criterion, criterionOptions, unit, scope, selection, hold } =
      presets.liu2023.config;
    expect(fisher).toMatchObject({
      labels: "expected",
      gradient: "batch-mean",
      temperature: 1,
      batchSize: 128,
    });
    expect({ criterion, criterionOptions, unit, scope, selection, hold }).toEqual({
      criterion: "difference",
      criterionOptions: { lambda: 1 },
      unit: "kernel",
      scope: "global",
      selection: { kind: "fixed", ratio: 0.02 },
      hold: false,
    });
  });
});

describe("the preset default", () => {
  it("is guarded, and prototype is what it was before", () => {
    expect(base.selection).toEqual({
      kind: "guarded",
      ratioPerRound: 0.001,
      maxRatio: 0.03,
      watchSamples: 1800,
      occlusion: 0.25,
      recognisedAt: 0.1,
      lostWeight: 0.5,
    });
    expect(base.target).toEqual({ accuracy: 0.003, samples: 1000 });
    expect(presets.prototype.config).toEqual({
      ...base,
      selection: { kind: "iterated", ratioPerRound: 0.002, maxRatio: 0.06 },
      target: { accuracy: 0.01, samples: 500 },
    });
  });
});

describe("resolveConfig", () => {
  it("sets what is given and keeps the rest, nested too", () => {
    const config = resolveConfig(presets.default, {
      unit: "filter",
      fisher: { temperature: 2 },
      target: { loss: 3 },
    });
    expect(config).toEqual({
      ...base,
      unit: "filter",
      fisher: { ...base.fisher, temperature: 2 },
      target: { ...base.target, loss: 3 },
    });
    expect(resolveConfig(presets.default, { unit: undefined } as never)).toEqual(base);
  });

  it("does not carry a criterion's options over to another criterion", () => {
    const change = (overrides: object) => resolveConfig(presets.liu2023, overrides);
    expect(change({ criterion: "ratio" }).criterionOptions).toEqual({});
    expect(change({ criterion: "difference" }).criterionOptions).toEqual({ lambda: 1 });
    expect(change({ unit: "weight" }).criterionOptions).toEqual({ lambda: 1 });
    const given = change({ criterion: "saliency", criterionOptions: { lambda: 3 } });
    expect(given.criterionOptions).toEqual({ lambda: 3 });
  });

  it("leaves the preset as it is", () => {
    const before = structuredClone(presets.default.config);
    resolveConfig(presets.default, { fisher: { temperature: 9 }, ratio: 1 } as never);
    expect(presets.default.config).toEqual(before);
  });
});

describe("checkConfig names the key that is wrong", () => {
  const fisher = (change: object) => ({ fisher: { ...base.fisher, ...change } });
  const target = (change: object) => ({ target: { ...base.target, ...change } });
  const tuned = (change: object) => ({ fineTune: { ...fineTune, ...change } });
  const select = (selection: object) => ({ selection });
  const iterated = { kind: "iterated", ratioPerRound: 0.1, maxRatio: 0.5 };

  const guarded = (change: object) => select({ ...base.selection, ...change });
  const probed = (change: object) => select({ ...presets.deep.config.selection, ...change });

  const cases: readonly (readonly [key: string, change: object])[] = [
    ["labels", fisher({ labels: "true" })],
    ["gradient", fisher({ gradient: "mean" })],
    ["temperature", fisher({ temperature: 0 })],
    ["temperature", fisher({ temperature: Number.NaN })],
    ["temperature", fisher({ temperature: Number.POSITIVE_INFINITY })],
    ["batch", fisher({ batchSize: 0 })],
    ["batch", fisher({ batchSize: null })],
    ["fisher.forgetSamples", fisher({ forgetSamples: 0 })],
    ["fisher.remainSamples", fisher({ remainSamples: 1.5 })],
    ["criterion", { criterion: "fisher" }],
    ["criterion", { criterion: "toString" }],
    ["lambda", { criterionOptions: { lambda: 2 } }],
    ["epsilon", { criterionOptions: { epsilon: Number.NaN } }],
    ["unit", { unit: "channel" }],
    ["scope", { scope: "network" }],
    ["scope", { scope: "layer" }],
    ["scope", { scope: "tensor", ...select({ kind: "adaptive", maxRatio: 0.1 }) }],
    ["excludeHead", { excludeHead: "yes" }],
    ["hold", { hold: 1 }],
    ["seed", { seed: -1 }],
    ["seed", { seed: null }],
    ["selection.kind", select({ kind: "some", ratio: 0.1 })],
    ["ratio", select({ kind: "fixed", ratio: 1.5 })],
    ["ratio", select({ kind: "fixed", ratio: Number.NaN })],
    ["selection.maxRatio", select({ kind: "adaptive", maxRatio: -0.1 })],
    ["selection.maxRatio", select({ ...iterated, maxRatio: 2 })],
    ["selection.ratioPerRound", select({ ...iterated, ratioPerRound: 0 })],
    ["selection.ratioPerRound", select({ ...iterated, ratioPerRound: 1.01 })],
    ["selection.ratioPerRound", guarded({ ratioPerRound: 0 })],
    ["selection.maxRatio", guarded({ maxRatio: 1.5 })],
    ["selection.watchSamples", guarded({ watchSamples: 0 })],
    ["selection.watchSamples", guarded({ watchSamples: 2.5 })],
    ["selection.occlusion", guarded({ occlusion: 1 })],
    ["selection.occlusion", guarded({ occlusion: -0.1 })],
    ["selection.occlusion", guarded({ occlusion: Number.NaN })],
    ["selection.recognisedAt", guarded({ recognisedAt: 0 })],
    ["selection.recognisedAt", guarded({ recognisedAt: 1.1 })],
    ["selection.lostWeight", guarded({ lostWeight: -1 })],
    ["selection.lostWeight", guarded({ lostWeight: Number.POSITIVE_INFINITY })],
    ["selection.probeSamples", probed({ probeSamples: 0 })],
    ["selection.probeSamples", probed({ probeSamples: 1.5 })],
    ["selection.probeSamples", probed({ probeSamples: null })],
    ["selection.relativeTarget", probed({ relativeTarget: "yes" })],
    ["selection.ratioPerRound", probed({ ratioPerRound: 0 })],
    ["selection.maxRatio", probed({ maxRatio: 1.5 })],
    ["selection.watchSamples", probed({ watchSamples: 0 })],
    ["selection.occlusion", probed({ occlusion: 1 })],
    ["selection.lostWeight", probed({ lostWeight: -1 })],
    ["scope", { scope: "layer", ...probed({}) }],
    ["target.accuracy", { target: { loss: 2, samples: null }, ...probed({}) }],
    ["criterion", { criterion: "ratio", ...probed({}) }],
    ["refitHead", { refitHead: 0 }],
    ["refitHead", { refitHead: 1.1 }],
    ["refitHead", { refitHead: -0.1 }],
    ["refitHead", { refitHead: Number.NaN }],
    ["criterion", { criterion: "ratio" }],
    ["criterion", { criterion: "gradient" }],
    ["target.accuracy", { target: { loss: 2, samples: null } }],
    ["target", { target: { samples: null } }],
    ["target.accuracy", target({ accuracy: 1.1 })],
    ["target.loss", target({ loss: -1 })],
    ["target.loss", target({ loss: Number.NaN })],
    ["target.samples", target({ samples: 0 })],
    ["fineTune.epochs", tuned({ epochs: 1.5 })],
    ["fineTune.batchSize", tuned({ batchSize: 0 })],
    ["fineTune.batchSize", tuned({ batchSize: null })],
    ["fineTune.samples", tuned({ samples: 0 })],
    ["fineTune.learningRate", tuned({ learningRate: Number.POSITIVE_INFINITY })],
    ["fineTune.optimizer", tuned({ optimizer: "adam" })],
    ["fineTune.momentum", tuned({ momentum: 1 })],
    ["fineTune.weightDecay", tuned({ weightDecay: -1e-4 })],
    ["fineTune.crop", tuned({ crop: -1 })],
    ["fineTune.flip", tuned({ flip: "no" })],
    ["fineTune.schedule.kind", tuned({ schedule: { kind: "linear" } })],
    ["fineTune.schedule.minimum", tuned({ schedule: { kind: "cosine", minimum: -1 } })],
    ["fineTune.schedule.gamma", tuned({ schedule: { kind: "step", milestones: [1], gamma: -1 } })],
    ["fineTune.schedule.milestones", tuned({ schedule: { kind: "step", milestones: [-1] } })],
  ];

  it.each(cases)("%s in %j", async (key, change) => {
    const config = { ...base, ...change } as UnlearnConfig;
    await expectError(() => checkConfig(config), "ERR_FM_CONFIG", key);
    const word = new RegExp(`(^|\\W)for ${key.replaceAll(".", "\\.")}( |$)`);
    expect(() => checkConfig(config)).toThrow(word);
  });

  it("and takes what is right", () => {
    const right: readonly object[] = [
      {},
      { fineTune },
      tuned({ schedule: { kind: "step", milestones: [1, 2], gamma: 0.5 }, optimizer: "adamw" }),
      { scope: "layer", ...select({ kind: "fixed", ratio: 1 }) },
      select({ kind: "adaptive", maxRatio: 0 }),
      { ...target({ accuracy: undefined, loss: 2 }), ...select(iterated) },
      target({ loss: 2 }),
      guarded({ watchSamples: null, occlusion: 0, lostWeight: 0, maxRatio: 0 }),
      probed({ probeSamples: 1, maxRatio: 0, watchSamples: null }),
      { refitHead: null },
      { refitHead: 1 },
      { refitHead: 0.1, ...select(iterated) },
      { criterion: "ratio", ...select(iterated) },
      fisher({ forgetSamples: null, remainSamples: null }),
    ];
    for (const change of right) {
      expect(() => checkConfig({ ...base, ...change } as UnlearnConfig)).not.toThrow();
    }
  });
});
