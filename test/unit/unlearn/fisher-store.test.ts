import { describe, expect, it } from "vitest";
import { SafetensorsFile, writeSafetensors } from "../../../src/io/safetensors.js";
import { loadNetwork } from "../../../src/model/model.js";
import { computeFisher } from "../../../src/unlearn/fisher.js";
import {
  addFishers,
  type FisherMeta,
  type FisherStore,
  loadFisher,
  saveFisher,
  subtractFishers,
} from "../../../src/unlearn/fisher-store.js";
import { expectError, temporaryFolder } from "../io/support.js";
import { bits, fisherOf, NORMALIZATION, splitByClass, tinyTask } from "./support.js";

const file = temporaryFolder();

function store(ids: readonly number[], values: readonly number[], meta: Partial<FisherMeta> = {}) {
  const made: FisherStore = {
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
      ...meta,
    },
    ids: Int32Array.from(ids),
    terms: ids.length,
    squares: new Map([["w", Float32Array.from(values)]]),
    gradients: null,
    shapes: new Map([["w", [values.length]]]),
  };
  return made;
}

describe("stores combine", () => {
  const a = store([0, 2, 9], [1, 2, 3]);
  const b = store([1, 4], [0.5, 2.5, 0]);

  it("by adding sums and joining samples, and back by subtracting, clamped at 0", () => {
    const sum = addFishers(a, b);
    expect([...sum.ids]).toEqual([0, 1, 2, 4, 9]);
    expect(sum.terms).toBe(5);
    expect([...(sum.squares.get("w") ?? [])]).toEqual([1.5, 4.5, 3]);
    const back = subtractFishers(sum, b);
    expect([...back.ids]).toEqual([...a.ids]);
    expect(back.terms).toBe(3);
    expect([...(back.squares.get("w") ?? [])]).toEqual([1, 2, 3]);
    const clamped = subtractFishers(store([0, 1], [1, 1]), store([1], [2, 0.25]));
    expect([...(clamped.squares.get("w") ?? [])]).toEqual([0, 0.75]);
  });

  it("with their gradients, which may turn negative, or without where one has none", () => {
    const g = (values: readonly number[]) => new Map([["w", Float32Array.from(values)]]);
    const [x, y] = [
      { ...a, gradients: g([1, -2, 3]) },
      { ...b, gradients: g([4, 1, 3]) },
    ];
    expect([...(addFishers(x, y).gradients?.get("w") ?? [])]).toEqual([5, -1, 6]);
    const rest = subtractFishers(addFishers(x, y), x);
    expect([...(rest.gradients?.get("w") ?? [])]).toEqual([4, 1, 3]);
    expect(addFishers(x, b).gradients).toBeNull();
  });

  const others: Partial<Record<keyof FisherMeta, FisherMeta[keyof FisherMeta]>> = {
    labels: "expected",
    temperature: 4,
    seed: 7,
    modelDigest: "m2",
    datasetDigest: "d2",
    gradient: "batch-mean",
    precision: "tf32",
  };
  it.each(Object.entries(others))("not with another %s", async (key, value) => {
    const other = store([1, 4], [1, 1, 1], { [key]: value });
    await expectError(() => addFishers(a, other), "ERR_FM_MISMATCH", `the same ${key}`, `${value}`);
    await expectError(() => subtractFishers(a, other), "ERR_FM_MISMATCH", `the same ${key}`);
  });

  it("not when they share a sample, or take one away that is not there: named", async () => {
    const shared = store([2, 5], [1, 1, 1]);
    await expectError(() => addFishers(a, shared), "ERR_FM_MISMATCH", "sample 2 is in both");
    await expectError(() => subtractFishers(a, shared), "ERR_FM_MISMATCH", "sample 5 is not");
  });

  it("not as batch means, whose squares do not add up", async () => {
    const meta = { gradient: "batch-mean", batchSize: 8 } as const;
    const [x, y] = [store([0], [1], meta), store([1], [1], meta)];
    await expectError(() => addFishers(x, y), "ERR_FM_MISMATCH", "batch-mean", "not additive");
    const larger = store([1], [1], { ...meta, batchSize: 16 });
    await expectError(() => addFishers(x, larger), "ERR_FM_MISMATCH", "batchSize", "8 and 16");
  });

  it("not when they are of other tensors or sizes: named", async () => {
    await expectError(() => addFishers(a, store([1], [1, 2])), "ERR_FM_MISMATCH", '"w"');
    const more = new Map([...b.squares, ["v", new Float32Array(2)]]);
    await expectError(() => addFishers(a, { ...b, squares: more }), "ERR_FM_MISMATCH", "number");
  });
});

describe("a store's file", () => {
  it("holds everything, bit for bit", async () => {
    const task = await tinyTask();
    const { forget } = splitByClass(task.train, [0]);
    for (const [i, options] of [
      { gradientSums: true, temperature: 2.5 },
      { labels: "expected", gradient: "batch-mean" } as const,
      { labels: "sampled", seed: 9 } as const,
    ].entries()) {
      const made = await fisherOf(task, forget, options);
      const path = file(`round-${i}.safetensors`);
      await saveFisher(made, path);
      const read = await loadFisher(path);
      expect(read.meta).toEqual(made.meta);
      expect([...read.ids]).toEqual([...forget]);
      expect(read.terms).toBe(made.terms);
      expect(bits(read.squares)).toEqual(bits(made.squares));
      expect([...read.shapes]).toEqual([...made.shapes]);
      expect(read.gradients === null).toBe(made.gradients === null);
      if (made.gradients !== null) {
        expect(bits(read.gradients ?? new Map())).toEqual(bits(made.gradients));
      }
    }
  });

  it("has one f32 tensor per parameter under the model's names and shapes", async () => {
    const task = await tinyTask();
    const made = await fisherOf(task, Int32Array.of(0, 1, 2));
    await saveFisher(made, file("names.safetensors"));
    await using read = await SafetensorsFile.open(file("names.safetensors"));
    const expected = task.model.graph.parameters
      .filter(({ role }) => role !== "buffer")
      .map(({ name, shape }) => [name, "F32", [...shape]]);
    expect([...read.tensors].map(([name, t]) => [name, t.dtype, [...t.shape]])).toEqual(expected);
  });
});

describe("a hostile store", () => {
  const good = {
    format: "fishermask.fisher.1",
    terms: "3",
    samples: "3",
    ids: "0-1,5",
    labels: "empirical",
    gradient: "per-sample",
    temperature: "1",
    reduction: "sum",
    seed: "0",
    modelDigest: "m",
    datasetDigest: "d",
    batchSize: "null",
  };
  const f32 = (name: string, ...values: number[]) => ({
    name,
    dtype: "F32" as const,
    shape: [values.length],
    data: new Uint8Array(Float32Array.from(values).buffer),
  });
  const write = async (metadata: object, ...tensors: ReturnType<typeof f32>[]): Promise<string> => {
    const path = file("hostile.safetensors");
    await writeSafetensors(path, tensors, { ...good, ...metadata });
    return path;
  };

  it("is read when nothing is wrong with it", async () => {
    const read = await loadFisher(await write({}, f32("w", 1, 2), f32("gradient/w", -1, 2)));
    expect([...read.ids]).toEqual([0, 1, 5]);
    expect([...(read.gradients?.get("w") ?? [])]).toEqual([-1, 2]);
    expect(read.meta.precision).toBe("f32");
    const rounded = await loadFisher(await write({ precision: "bf16" }, f32("w", 1, 2)));
    expect(rounded.meta.precision).toBe("bf16");
  });

  it.each([
    ["format", "fishermask.fisher.2"],
    ["format", "pt"],
    ["terms", "-1"],
    ["terms", "2"],
    ["terms", "1.5"],
    ["terms", ""],
    ["samples", "4"],
    ["samples", "NaN"],
    ["ids", "5,0-1"],
    ["ids", "0,0,1"],
    ["ids", "1-0"],
    ["ids", "0-1,1-2"],
    ["ids", "-1-1"],
    ["ids", "0-99999999999"],
    ["ids", "0-2147483647"],
    ["ids", "0-2000000000"],
    ["ids", "zero"],
    ["labels", "guessed"],
    ["gradient", "mean"],
    ["temperature", "0"],
    ["temperature", "-1"],
    ["temperature", "hot"],
    ["reduction", "mean"],
    ["seed", "0.5"],
    ["precision", "f16"],
    ["batchSize", "0"],
  ])("%s = %s is refused by name", async (key, value) => {
    const path = await write({ [key]: value }, f32("w", 1));
    await expectError(() => loadFisher(path), "ERR_FM_BAD_FILE", `"${key}"`, path);
  });

  it.each(Object.keys(good))("without %s is refused by name", async (key) => {
    const { [key as "format"]: _, ...rest } = good;
    const path = file("hostile.safetensors");
    await writeSafetensors(path, [f32("w", 1)], rest);
    await expectError(() => loadFisher(path), "ERR_FM_BAD_FILE", `"${key}"`, path);
  });

  it("with negative, infinite or NaN sums is refused, tensor and element named", async () => {
    for (const value of [-1e-30, Number.NaN, Number.POSITIVE_INFINITY]) {
      const path = await write({}, f32("a", 1), f32("w", 1, value));
      await expectError(() => loadFisher(path), "ERR_FM_BAD_FILE", '"w"', "element 1", path);
    }
    const path = await write({}, f32("w", 1), f32("gradient/w", Number.NaN));
    await expectError(() => loadFisher(path), "ERR_FM_BAD_FILE", '"gradient/w"', "gradients");
  });

  it("with gradients of other tensors, other types, or no tensor is refused", async () => {
    const odd = [f32("w", 1, 2), f32("gradient/w", 1)];
    await expectError(async () => loadFisher(await write({}, ...odd)), "ERR_FM_BAD_FILE", "/w");
    const foreign = [f32("w", 1), f32("gradient/v", 1)];
    await expectError(
      async () => loadFisher(await write({}, ...foreign)),
      "ERR_FM_BAD_FILE",
      "gradient/w",
    );
    await expectError(async () => loadFisher(await write({})), "ERR_FM_BAD_FILE", "none");
    const half = { ...f32("w", 1), dtype: "F16" as const, shape: [2] };
    await expectError(
      async () => loadFisher(await write({}, half as never)),
      "ERR_FM_BAD_FILE",
      "F16",
    );
  });
});

describe("computeFisher", () => {
  it("adds up over samples: F_D − F_Df is F_Dr to 1e-6 of F_D, for squares of every parameter", async () => {
    const task = await tinyTask();
    const split = splitByClass(task.train, [1]);
    const all = Int32Array.from({ length: task.train.size }, (_, i) => i);
    for (const labels of ["empirical", "expected"] as const) {
      // Full batches of one size: the same sample gives the same gradient in each pass.
      const options = { labels, temperature: 2, batchSize: 30 };
      const [whole, forget, remain] = [
        await fisherOf(task, all, options),
        await fisherOf(task, split.forget, options),
        await fisherOf(task, split.remain, options),
      ];
      const rest = subtractFishers(whole, forget);
      expect([...rest.ids]).toEqual([...remain.ids]);
      expect(rest.terms).toBe(remain.terms);
      let mass = 0;
      for (const [name, values] of remain.squares) {
        const total = whole.squares.get(name) as Float32Array;
        const got = rest.squares.get(name) as Float32Array;
        for (const [i, value] of values.entries()) {
          // f32 rounding of the three stores is at most 2^-24 of F_D each.
          expect(Math.abs((got[i] as number) - value)).toBeLessThanOrEqual(
            1e-6 * (total[i] as number),
          );
          mass += value;
        }
      }
      expect(mass).toBeGreaterThan(0);
    }
  });

  it("records what it was taken of, samples ascending whatever their order", async () => {
    const task = await tinyTask();
    const made = await fisherOf(task, Int32Array.of(7, 2, 5), { temperature: 3, seed: 4 });
    expect([...made.ids]).toEqual([2, 5, 7]);
    expect(made.meta).toMatchObject({ temperature: 3, seed: 4, datasetDigest: task.digest });
    expect(made.meta.batchSize).toBeNull();
    const mean = await fisherOf(task, Int32Array.of(0, 1, 2), {
      gradient: "batch-mean",
      batchSize: 2,
    });
    expect(mean.meta.batchSize).toBe(2);
    expect(mean.terms).toBe(2);
  });

  it("refuses training mode, no sample, a sample twice, unknown names and temperatures", async () => {
    const task = await tinyTask();
    const of = (options: object, indices = Int32Array.of(0, 1)) => fisherOf(task, indices, options);
    await expectError(() => of({ mode: "training" }), "ERR_FM_STATE", "batch");
    await expectError(() => of({}, new Int32Array(0)), "ERR_FM_ARGUMENT", "at least one sample");
    await expectError(() => of({}, Int32Array.of(4, 1, 4)), "ERR_FM_ARGUMENT", "sample 4 twice");
    await expectError(() => of({ labels: "true" }), "ERR_FM_ARGUMENT", "labels", "true");
    await expectError(() => of({ gradient: "mean" }), "ERR_FM_ARGUMENT", "gradient", "mean");
    for (const temperature of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      await expectError(() => of({ temperature }), "ERR_FM_ARGUMENT", "temperature");
    }
    await expectError(() => of({ batchSize: 0 }), "ERR_FM_ARGUMENT", "batchSize");
  });

  it("stops at a batch's end when its signal fires", async () => {
    const task = await tinyTask();
    using network = await loadNetwork(task.model, { threads: 1 });
    const controller = new AbortController();
    const seen: number[] = [];
    const indices = Int32Array.from({ length: 60 }, (_, i) => i);
    const run = computeFisher(task.model.graph, network, { dataset: task.train, indices }, "d", {
      batchSize: 10,
      normalization: NORMALIZATION,
      signal: controller.signal,
      onProgress: (done) => {
        seen.push(done);
        if (done === 20) controller.abort();
      },
    });
    await expectError(() => run, "ERR_FM_ABORTED");
    expect(seen).toEqual([0, 10, 20]);
  });
});
