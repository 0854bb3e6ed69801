import { describe, expect, it } from "vitest";
import { type DatasetView, subset } from "../../../src/data/dataset.js";
import { parseNormalization } from "../../../src/data/normalize.js";
import { loadDataset } from "../../../src/data/source.js";
import { createModel, loadNetwork, readWeights } from "../../../src/model/model.js";
import { type TrainedEpoch, type TrainOptions, train } from "../../../src/train/train.js";
import { expectError } from "../io/support.js";
import { bits, NORMALIZATION, stripes, tinyModel } from "../unlearn/support.js";

const OPTIONS: TrainOptions = {
  epochs: 2,
  batchSize: 16,
  optimizer: { kind: "sgd", momentum: 0.9, weightDecay: 1e-4 },
  learningRate: 0.05,
  schedule: { kind: "cosine" },
  normalization: NORMALIZATION,
  seed: 1,
};

const view = (size = 60): DatasetView => {
  const dataset = stripes(size, 5);
  return { dataset, indices: Int32Array.from({ length: size }, (_, i) => i) };
};

async function trained(
  change: Partial<TrainOptions> = {},
  data = view(),
): Promise<{ weights: Map<string, Float32Array>; epochs: TrainedEpoch[] }> {
  const model = tinyModel(2);
  using network = await loadNetwork(model, { threads: 1 });
  const epochs = await train(network, data, { ...OPTIONS, ...change });
  return { weights: await readWeights(model.graph, network), epochs };
}

describe("train", () => {
  it("learns Fashion-MNIST's first thousand images", { timeout: 240_000 }, async () => {
    const dataset = await loadDataset("idx:examples/data/fashion-mnist", { split: "train" });
    const model = createModel(
      { arch: "mlp", inputShape: [28, 28, 1], classes: 10, hidden: [32] },
      1,
    );
    using network = await loadNetwork(model, { threads: 1 });
    const data = subset(
      dataset,
      Int32Array.from({ length: 1000 }, (_, i) => i),
    );
    const epochs = await train(network, data, {
      ...OPTIONS,
      epochs: 6,
      normalization: parseNormalization("0.2860/0.3530", 1),
    });
    const losses = epochs.map(({ loss }) => loss);
    expect([...losses].sort((a, b) => b - a)).toEqual(losses);
    // Chance is 2.3 nats and 10 %.
    expect(losses[0]).toBeLessThan(2.3);
    expect(epochs.at(-1)?.loss).toBeLessThan((losses[0] as number) / 2);
    expect(epochs.at(-1)?.accuracy).toBeGreaterThan(0.8);
    expect(epochs.map(({ epoch }) => epoch)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("gives the same weights bit for bit under one seed, and others under another", async () => {
    const augment = { crop: 1, flip: true };
    const [a, b, c] = [
      await trained({ augment }),
      await trained({ augment }),
      await trained({ augment, seed: 2 }),
    ];
    expect(bits(b.weights)).toEqual(bits(a.weights));
    expect(bits(c.weights)).not.toEqual(bits(a.weights));
    // Without augmentation the order of the samples is all that the seed decides.
    const [d, e] = [await trained(), await trained({ seed: 2 })];
    expect(bits(e.weights)).not.toEqual(bits(d.weights));
    expect(b.epochs.map(({ loss, accuracy }) => [loss, accuracy])).toEqual(
      a.epochs.map(({ loss, accuracy }) => [loss, accuracy]),
    );
  });

  it("steps with the schedule's rate at the batch's place in the run", async () => {
    const rates: number[] = [];
    const result = await trained({
      epochs: 3,
      onEpoch: ({ learningRate }) => rates.push(learningRate),
    });
    // The last of four batches begins after 48 of 60 samples.
    const expected = [0, 1, 2].map(
      (epoch) => 0.025 * (1 + Math.cos((Math.PI * (epoch + 0.8)) / 3)),
    );
    for (const [i, rate] of rates.entries()) expect(rate).toBeCloseTo(expected[i] as number, 12);
    expect(result.epochs.map(({ learningRate }) => learningRate)).toEqual(rates);
  });

  it("reports every batch, over all epochs", async () => {
    const seen: [number, number][] = [];
    await trained({ onProgress: (done, total) => seen.push([done, total]) });
    expect(seen).toEqual([16, 32, 48, 60, 76, 92, 108, 120].map((done) => [done, 120]));
  });

  it("holds weights at exactly 0 from the first step on", async () => {
    const keep = new Uint8Array(9).fill(0b10101010);
    const { weights } = await trained({ hold: new Map([["conv1.weight", keep]]) });
    const values = weights.get("conv1.weight") as Float32Array;
    expect(values.length).toBe(72);
    for (const [i, value] of values.entries()) {
      if (i % 2 === 0) expect(value).toBe(0);
      else expect(value).not.toBe(0);
    }
  });

  it("stops before the next batch when its signal fires", async () => {
    const controller = new AbortController();
    const seen: number[] = [];
    const run = trained({
      signal: controller.signal,
      onProgress: (done) => {
        seen.push(done);
        if (done === 32) controller.abort();
      },
    });
    await expectError(() => run, "ERR_FM_ABORTED");
    expect(seen).toEqual([16, 32]);
    await expectError(() => trained({ signal: AbortSignal.abort() }), "ERR_FM_ABORTED");
  });

  it("refuses no sample, broken numbers and unknown tensors to hold", async () => {
    const empty = { ...view(), indices: new Int32Array(0) };
    await expectError(() => trained({}, empty), "ERR_FM_ARGUMENT", "at least one sample");
    await expectError(() => trained({ epochs: 1.5 }), "ERR_FM_ARGUMENT", "epochs");
    await expectError(() => trained({ epochs: -1 }), "ERR_FM_ARGUMENT", "epochs");
    await expectError(() => trained({ batchSize: 0 }), "ERR_FM_ARGUMENT", "batchSize");
    await expectError(
      () => trained({ learningRate: Number.NaN }),
      "ERR_FM_ARGUMENT",
      "learningRate",
    );
    const hold = new Map([["conv9.weight", new Uint8Array(9)]]);
    await expectError(() => trained({ hold }), "ERR_FM_ARGUMENT", "conv9.weight");
    expect((await trained({ epochs: 0 })).epochs).toEqual([]);
  });

  it("fails where the loss is no longer finite, and says so", async () => {
    await expectError(() => trained({ learningRate: 1e30, epochs: 3 }), "ERR_FM_NON_FINITE");
  });
});
