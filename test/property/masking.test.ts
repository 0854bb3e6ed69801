import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { GraphBuilder } from "../../src/model/builder.js";
import type { Graph } from "../../src/model/graph.js";
import { countMasked, type KeepMask, ratioToK, type Scope } from "../../src/native/masking.js";
import { type CriterionName, criteria } from "../../src/unlearn/criteria.gen.js";
import type { FisherStore } from "../../src/unlearn/fisher-store.js";
import {
  type MaskRule,
  maskWeights,
  scoreNetwork,
  selectMask,
  type UnitScores,
} from "../../src/unlearn/mask.js";
import { applyPatch, makePatch, revertPatch } from "../../src/unlearn/patch.js";

const NAMES = Object.keys(criteria) as CriterionName[];
/** Criteria whose order of units does not change when both Fishers and the gradient grow by one power of two. */
const SCALE_FREE: ReadonlySet<CriterionName> = new Set([
  "difference",
  "forget-only",
  "gradient",
  "magnitude",
  "random",
  "saliency",
]);

interface Case {
  readonly graph: Graph;
  readonly weights: Map<string, Float32Array>;
  readonly forget: FisherStore;
  readonly remain: FisherStore;
}

/** Two linear layers; sizes around a byte's end, so that masks have padding. */
function graphOf(width: number, hidden: number): Graph {
  const b = new GraphBuilder("case");
  const x = b.relu("relu", b.linear("a", b.input("input", [width]), { out: hidden }));
  return b.build([b.linear("b", x, { out: 2 })]);
}

function storeOf(
  graph: Graph,
  squares: readonly number[],
  gradients: readonly number[],
  ids: readonly number[],
): FisherStore {
  let at = 0;
  const take = (values: readonly number[], count: number): Float32Array =>
    Float32Array.from({ length: count }, () => values[at++ % values.length] as number);
  const fill = (values: readonly number[]) =>
    new Map(
      graph.parameters.map(({ name, shape }) => [
        name,
        take(
          values,
          shape.reduce((a, b) => a * b, 1),
        ),
      ]),
    );
  return {
    meta: {
      labels: "empirical",
      gradient: "per-sample",
      temperature: 1,
      reduction: "sum",
      seed: 0,
      modelDigest: "m",
      datasetDigest: "d",
      batchSize: null,
      precision: "f32",
    },
    ids: Int32Array.from(ids),
    terms: ids.length,
    squares: fill(squares),
    gradients: fill(gradients),
    shapes: new Map(graph.parameters.map(({ name, shape }) => [name, shape])),
  };
}

// Few values make ties; denormals, ±0 and wide ranges are what sorting by bits can get wrong.
const square = fc.oneof(
  fc.constantFrom(0, 1, 1, 2, 1e-40),
  fc.float({ min: 0, max: 1e6, noNaN: true }),
);
const signed = fc.oneof(
  fc.constantFrom(0, -0, 1, -1, 1e-40),
  fc.float({ min: -1e6, max: 1e6, noNaN: true }),
);

const cases: fc.Arbitrary<Case> = fc
  .record({
    width: fc.integer({ min: 1, max: 9 }),
    hidden: fc.integer({ min: 1, max: 9 }),
    squares: fc.tuple(
      fc.array(square, { minLength: 1, maxLength: 40 }),
      fc.array(square, { minLength: 1, maxLength: 40 }),
    ),
    gradients: fc.array(signed, { minLength: 1, maxLength: 40 }),
    weights: fc.array(signed, { minLength: 1, maxLength: 40 }),
  })
  .map(({ width, hidden, squares, gradients, weights }) => {
    const graph = graphOf(width, hidden);
    return {
      graph,
      weights: new Map(storeOf(graph, weights, weights, [0]).squares),
      forget: storeOf(graph, squares[0], gradients, [0, 1, 2]),
      remain: storeOf(graph, squares[1], gradients, [3, 4]),
    };
  });

const rule = (criterion: CriterionName, unit: MaskRule["unit"], scope: Scope): MaskRule => ({
  criterion,
  unit,
  scope,
  threads: 1,
});
const criterion = fc.constantFrom(...NAMES);
const unit = fc.constantFrom<MaskRule["unit"]>("weight", "kernel", "filter");
const scope = fc.constantFrom<Scope>("global", "layer", "tensor");
const ratio = fc.oneof(fc.constantFrom(0, 1), fc.double({ min: 0, max: 1, noNaN: true }));

const scored = ({ graph, weights, forget, remain }: Case, with_: MaskRule): Promise<UnitScores> =>
  scoreNetwork(graph, weights, forget, remain, with_);
const isKept = (mask: KeepMask | undefined, u: number): boolean =>
  (((mask?.bits[u >> 3] ?? 0) >> (u & 7)) & 1) === 1;

/** What the selection must be: the largest scores, ties by flat index, none that is not eligible. */
function expected(scores: UnitScores, share: number): Set<string> {
  const chosen = new Set<string>();
  const groups = new Map<string, { key: string; value: number }[]>();
  for (const [i, { name, layer }] of scores.candidates.entries()) {
    const group = scores.scope === "global" ? "" : scores.scope === "layer" ? layer : name;
    const list = groups.get(group) ?? [];
    for (const [u, value] of (scores.scores[i] as Float32Array).entries()) {
      list.push({ key: `${name}:${u}`, value });
    }
    groups.set(group, list);
  }
  for (const list of groups.values()) {
    const k = ratioToK(share, list.length);
    // Array.prototype.sort is stable, so equal scores stay in order of their index; −0 equals 0.
    const order = list.filter(({ value }) => value > Number.NEGATIVE_INFINITY);
    order.sort((a, b) => (a.value === b.value ? 0 : b.value - a.value));
    for (const { key } of order.slice(0, k)) chosen.add(key);
  }
  return chosen;
}

function maskedKeys(masks: ReadonlyMap<string, KeepMask>): Set<string> {
  const keys = new Set<string>();
  for (const [name, mask] of masks) {
    for (let u = 0; u < mask.units; u++) if (!isKept(mask, u)) keys.add(`${name}:${u}`);
  }
  return keys;
}

const RUNS = { numRuns: 120 };

describe("masking, whatever the network, scores, unit and scope", () => {
  it("masks exactly the largest scores, ties by flat index, and no more than are eligible", async () => {
    await fc.assert(
      fc.asyncProperty(cases, criterion, unit, scope, ratio, async (made, name, u, s, share) => {
        const scores = await scored(made, rule(name, u, s));
        const selection = await selectMask(scores, { ratio: share });
        const wanted = expected(scores, share);
        expect(maskedKeys(selection.masks)).toEqual(wanted);
        expect(selection.units).toBe(wanted.size);
        const total = [...selection.masks.values()].reduce(
          (sum, mask) => sum + countMasked(mask),
          0,
        );
        expect(total).toBe(wanted.size);
      }),
      RUNS,
    );
  });

  it("nests: what a smaller ratio masks, a larger one masks too", async () => {
    await fc.assert(
      fc.asyncProperty(cases, criterion, scope, ratio, ratio, async (made, name, s, x, y) => {
        const scores = await scored(made, rule(name, "weight", s));
        const [small, large] = [Math.min(x, y), Math.max(x, y)];
        const inner = maskedKeys((await selectMask(scores, { ratio: small })).masks);
        const outer = maskedKeys((await selectMask(scores, { ratio: large })).masks);
        for (const key of inner) expect(outer.has(key)).toBe(true);
      }),
      RUNS,
    );
  });

  it("leaves every other weight bit for bit, is done once for all, and can be undone", async () => {
    await fc.assert(
      fc.asyncProperty(cases, criterion, unit, ratio, async (made, name, u, share) => {
        const { masks } = await selectMask(await scored(made, rule(name, u, "global")), {
          ratio: share,
        });
        const after = maskWeights(made.weights, masks);
        for (const [tensor, values] of after) {
          const old = made.weights.get(tensor) as Float32Array;
          const mask = masks.get(tensor);
          for (const [i, value] of values.entries()) {
            const kept = mask === undefined || isKept(mask, Math.floor(i / mask.elementsPerUnit));
            expect(Object.is(value, kept ? (old[i] as number) : 0)).toBe(true);
          }
        }
        expect(maskWeights(after, masks)).toEqual(after);
        const patch = makePatch(made.weights, after);
        expect(applyPatch(made.weights, patch)).toEqual(after);
        expect(revertPatch(after, patch)).toEqual(made.weights);
      }),
      RUNS,
    );
  });

  it.each([...SCALE_FREE])(
    "%s does not care for the unit in which losses are measured",
    async (name) => {
      await fc.assert(
        fc.asyncProperty(cases, ratio, async (made, share) => {
          // Powers of two are exact; denormals are taken out, since halving them is not.
          const scale = (sums: ReadonlyMap<string, Float32Array>, by: number) =>
            new Map([...sums].map(([key, values]) => [key, values.map((v) => v * by)]));
          const tame = (store: FisherStore, by: number): FisherStore => ({
            ...store,
            squares: scale(
              new Map([...store.squares].map(([k, v]) => [k, v.map((x) => (x < 1e-20 ? 0 : x))])),
              by * by,
            ),
            gradients: scale(store.gradients ?? new Map(), by),
          });
          const weights = new Map(
            [...made.weights].map(([k, v]) => [k, v.map((x) => (Math.abs(x) < 1e-8 ? 0 : x))]),
          );
          const masksAt = async (by: number) =>
            (
              await selectMask(
                await scored(
                  {
                    ...made,
                    weights,
                    forget: tame(made.forget, by),
                    remain: tame(made.remain, by),
                  },
                  rule(name, "weight", "global"),
                ),
                { ratio: share },
              )
            ).masks;
          expect(await masksAt(4)).toEqual(await masksAt(1));
        }),
        { numRuns: 40 },
      );
    },
  );
});
