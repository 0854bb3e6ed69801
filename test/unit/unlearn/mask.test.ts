import { beforeAll, describe, expect, it } from "vitest";
import { candidateTensors } from "../../../src/model/candidates.js";
import { countMasked } from "../../../src/native/masking.js";
import { type CriterionName, criteria } from "../../../src/unlearn/criteria.gen.js";
import type { FisherStore } from "../../../src/unlearn/fisher-store.js";
import {
  countByTensor,
  keepAll,
  type MaskRule,
  maskWeights,
  scoreNetwork,
  selectMask,
  unionOfMasked,
  weightMasks,
} from "../../../src/unlearn/mask.js";
import { expectError } from "../io/support.js";
import { bits, fisherOf, splitByClass, type Task, tinyModel, tinyTask } from "./support.js";

const RULE: MaskRule = { criterion: "ratio", unit: "weight", scope: "global", threads: 1 };
const UNITS = { weight: 72 + 216 + 648, kernel: 8 + 24 + 648, filter: 4 + 6 + 3 } as const;

let task: Task;
let forget: FisherStore;
let remain: FisherStore;
beforeAll(async () => {
  task = await tinyTask();
  const split = splitByClass(task.train, [0]);
  forget = await fisherOf(task, split.forget, { gradientSums: true });
  remain = await fisherOf(task, split.remain);
});

const score = (rule: Partial<MaskRule> = {}) =>
  scoreNetwork(task.model.graph, task.model.weights, forget, remain, { ...RULE, ...rule });
const select = async (rule: Partial<MaskRule>, ratio: number) =>
  selectMask(await score(rule), { ratio });

describe("how much is masked", () => {
  it.each(["weight", "kernel", "filter"] as const)(
    "exactly floor(ratio · units) of unit %s, nothing at 0 and all at 1",
    async (unit) => {
      const scores = await score({ unit });
      expect(scores.total).toBe(UNITS[unit]);
      for (const ratio of [0, 0.001, 0.29, 0.5, 0.999, 1]) {
        const { masks, units, total } = await selectMask(scores, { ratio });
        const expected = Math.floor(ratio * UNITS[unit] + 1e-9);
        expect({ units, total }).toEqual({ units: expected, total: UNITS[unit] });
        expect(countByTensor(masks)).toMatchObject({ units: expected, total: UNITS[unit] });
      }
    },
  );

  it("of each ranking: scope layer and tensor take their share of every one", async () => {
    for (const scope of ["layer", "tensor"] as const) {
      const { masks } = await select({ scope }, 0.1);
      expect(countByTensor(masks).perTensor).toEqual({
        "conv1.weight": 7,
        "conv2.weight": 21,
        "fc.weight": 64,
      });
    }
  });

  it.each([-0.1, 1.1, Number.NaN])("a ratio of %d is refused", async (ratio) => {
    const scores = await score();
    await expectError(() => selectMask(scores, { ratio }), "ERR_FM_ARGUMENT", "ratio");
  });
});

describe("what is masked", () => {
  it("is of the candidates alone: include, exclude and the head", async () => {
    const names = async (rule: Partial<MaskRule>) => [...(await select(rule, 0.5)).masks.keys()];
    expect(await names({})).toEqual(["conv1.weight", "conv2.weight", "fc.weight"]);
    expect(await names({ include: ["conv*"] })).toEqual(["conv1.weight", "conv2.weight"]);
    expect(await names({ exclude: ["conv1.*"] })).toEqual(["conv2.weight", "fc.weight"]);
    expect(await names({ excludeHead: true })).toEqual(["conv1.weight", "conv2.weight"]);
    expect(await names({ include: ["*"], exclude: ["conv1.*"], excludeHead: true })).toEqual([
      "conv2.weight",
    ]);
    expect((await select({ excludeHead: true }, 0.5)).total).toBe(72 + 216);
    await expectError(() => score({ include: ["bn1.*"] }), "ERR_FM_ARGUMENT", "include");
    await expectError(() => score({ exclude: ["*"] }), "ERR_FM_ARGUMENT", "candidates");
  });

  it.each(Object.keys(criteria) as CriterionName[])(
    "has the largest scores of %s, and what is kept has not; masks nest",
    async (criterion) => {
      const scores = await score({ criterion });
      let before = await selectMask(scores, { ratio: 0 });
      for (const ratio of [0.05, 0.3, 0.7]) {
        const selection = await selectMask(scores, { ratio });
        let least = Number.POSITIVE_INFINITY;
        let most = Number.NEGATIVE_INFINITY;
        for (const [i, { name }] of scores.candidates.entries()) {
          const mask = selection.masks.get(name);
          const smaller = before.masks.get(name);
          for (const [u, value] of (scores.scores[i] as Float32Array).entries()) {
            const isKept = (bytes: Uint8Array | undefined) =>
              (((bytes?.[u >> 3] ?? 0) >> (u & 7)) & 1) === 1;
            if (isKept(mask?.bits)) most = Math.max(most, value);
            else least = Math.min(least, value);
            expect(isKept(mask?.bits) && !isKept(smaller?.bits)).toBe(false);
          }
        }
        expect(least).toBeGreaterThanOrEqual(most);
        before = selection;
      }
    },
  );

  it("follows the criterion's formula on the means, element by element", async () => {
    const { scores, candidates } = await score({ criterion: "difference" });
    for (const [i, { name }] of candidates.entries()) {
      const f = forget.squares.get(name) as Float32Array;
      const r = remain.squares.get(name) as Float32Array;
      for (const [j, value] of (scores[i] as Float32Array).entries()) {
        const expected = (f[j] as number) / forget.terms - (r[j] as number) / remain.terms;
        const scale = Math.max((f[j] as number) / forget.terms, (r[j] as number) / remain.terms);
        expect(Math.abs(value - expected)).toBeLessThanOrEqual(4e-7 * scale);
      }
    }
  });

  it("is the same for any number of threads, and under the same seed", async () => {
    for (const criterion of ["directional", "random"] as const) {
      const one = await select({ criterion, seed: 5 }, 0.2);
      const two = await select({ criterion, seed: 5, threads: 2 }, 0.2);
      expect(two.masks).toEqual(one.masks);
    }
    const [a, b] = [
      await select({ criterion: "random", seed: 5 }, 0.2),
      await select({ criterion: "random", seed: 6 }, 0.2),
    ];
    expect(a.masks).not.toEqual(b.masks);
  });
});

describe("criteria that lack what they read say so", () => {
  const { graph, weights } = tinyModel();
  const without = (f: FisherStore | null, r: FisherStore | null, criterion: CriterionName) =>
    scoreNetwork(graph, weights, f, r, { ...RULE, criterion });

  it("a Fisher, the gradients, a tensor", async () => {
    await expectError(() => without(null, remain, "ratio"), "ERR_FM_ARGUMENT", "forget", "ratio");
    await expectError(() => without(forget, null, "ratio"), "ERR_FM_ARGUMENT", "remain", "ratio");
    const noGradients = { ...forget, gradients: null };
    await expectError(
      () => without(noGradients, remain, "directional"),
      "ERR_FM_ARGUMENT",
      "summed gradients",
    );
    await expectError(() => without(null, null, "gradient"), "ERR_FM_ARGUMENT", "gradients");
    const squares = new Map([...forget.squares].filter(([name]) => name !== "conv2.weight"));
    await expectError(
      () => without({ ...forget, squares }, remain, "ratio"),
      "ERR_FM_MISMATCH",
      "conv2.weight",
    );
    const longer = new Map([...forget.squares, ["fc.weight", new Float32Array(5)]] as const);
    await expectError(
      () => without({ ...forget, squares: longer }, remain, "ratio"),
      "ERR_FM_MISMATCH",
      '"fc.weight"',
      "5",
    );
  });

  it("and those that read none run without", async () => {
    for (const criterion of ["magnitude", "random"] as const) {
      expect((await without(null, null, criterion)).total).toBe(UNITS.weight);
    }
    expect((await without(forget, null, "forget-only")).total).toBe(UNITS.weight);
  });

  it("two Fishers that cannot be held against each other are refused", async () => {
    for (const [key, value] of [
      ["temperature", 4],
      ["labels", "expected"],
      ["modelDigest", "other"],
      ["datasetDigest", "other"],
    ] as const) {
      const other = { ...remain, meta: { ...remain.meta, [key]: value } };
      await expectError(() => without(forget, other, "ratio"), "ERR_FM_MISMATCH", key, `${value}`);
    }
    await expectError(() => without(forget, forget, "ratio"), "ERR_FM_MISMATCH", "sample 0 ");
  });

  it("a Fisher of no sample is refused, and so are unknown names", async () => {
    const empty = { ...remain, terms: 0, ids: new Int32Array(0) };
    await expectError(() => without(forget, empty, "ratio"), "ERR_FM_ARGUMENT", "remain");
    await expectError(() => score({ criterion: "best" as never }), "ERR_FM_ARGUMENT", "criterion");
    await expectError(() => score({ unit: "pixel" as never }), "ERR_FM_ARGUMENT", "unit", "pixel");
    await expectError(() => score({ scope: "all" as never }), "ERR_FM_ARGUMENT", "scope", "all");
    await expectError(
      () => score({ criterion: "ratio", criterionOptions: { lambda: 1 } }),
      "ERR_FM_ARGUMENT",
      "lambda",
    );
  });

  it("a NaN in the weights or sums names the tensor", async () => {
    const bad = (values: ReadonlyMap<string, Float32Array>) => {
      const copy = (values.get("conv2.weight") as Float32Array).slice();
      copy[7] = Number.NaN;
      return new Map([...values, ["conv2.weight", copy]] as const);
    };
    await expectError(
      () => without({ ...forget, squares: bad(forget.squares) }, remain, "ratio"),
      "ERR_FM_NON_FINITE",
      "conv2.weight",
    );
    await expectError(
      () => scoreNetwork(graph, bad(weights), forget, remain, { ...RULE, criterion: "saliency" }),
      "ERR_FM_NON_FINITE",
      "conv2.weight",
    );
  });
});

describe("masked weights", () => {
  it("are zero, all others the same bit for bit, and masking twice is masking once", async () => {
    const weights = new Map(task.model.weights);
    const withMinusZero = (weights.get("conv1.weight") as Float32Array).slice();
    withMinusZero[3] = -0;
    weights.set("conv1.weight", withMinusZero);
    for (const unit of ["weight", "kernel", "filter"] as const) {
      const { masks } = await select({ unit }, 0.25);
      const after = maskWeights(weights, masks);
      const held = weightMasks(masks);
      for (const [name, values] of after) {
        const old = weights.get(name) as Float32Array;
        const keep = held.get(name);
        for (const [i, value] of values.entries()) {
          const isKept = keep === undefined || (((keep[i >> 3] as number) >> (i & 7)) & 1) === 1;
          expect(Object.is(value, isKept ? (old[i] as number) : 0)).toBe(true);
        }
      }
      expect(bits(maskWeights(after, masks))).toEqual(bits(after));
      expect(after.get("fc.bias")).toBe(weights.get("fc.bias"));
    }
  });

  it("are not candidates again: a second selection takes others", async () => {
    const first = await select({}, 0.1);
    const weights = maskWeights(task.model.weights, first.masks);
    const scores = await scoreNetwork(task.model.graph, weights, forget, remain, RULE);
    const second = await selectMask(scores, { ratio: 0.1 });
    expect(countByTensor(second.masks).units).toBe(93);
    expect(countByTensor(unionOfMasked(first.masks, second.masks)).units).toBe(2 * 93);
    expect(unionOfMasked(new Map(), first.masks)).toEqual(first.masks);
  });

  it("keepAll keeps every unit of the candidates", () => {
    for (const unit of ["weight", "kernel", "filter"] as const) {
      const masks = keepAll(task.model.graph, { unit, excludeHead: true });
      const names = candidateTensors(task.model.graph, { excludeHead: true }).map((c) => c.name);
      expect([...masks.keys()]).toEqual(names);
      // countMasked refuses masks whose padding is not zero.
      for (const mask of masks.values()) expect(countMasked(mask)).toBe(0);
    }
  });
});
