import { describe, expect, it } from "vitest";
import { arrayDataset, subset, wholeView } from "../../../src/data/dataset.js";
import { evaluate } from "../../../src/evaluate/accuracy.js";
import { GraphBuilder } from "../../../src/model/builder.js";
import { EngineNetwork } from "../../../src/native/network.js";
import { expectError } from "../io/support.js";

/** Tells three classes apart by one pixel: its weights and biases are set by hand. */
async function thresholds(): Promise<EngineNetwork> {
  const b = new GraphBuilder("thresholds");
  const x = b.flatten("features", b.input("input", [1, 1, 1]));
  const network = new EngineNetwork(JSON.stringify(b.build([b.linear("fc", x, { out: 3 }), x])), {
    threads: 1,
  });
  // Pixels are divided by 255: class 0 below 0.25, class 1 up to 0.75, class 2 above.
  await network.setParameters(
    new Map([
      ["fc.weight", Float32Array.of(-40, 0, 40)],
      ["fc.bias", Float32Array.of(10, 0, -30)],
    ]),
  );
  return network;
}

const data = arrayDataset({
  classes: ["dark", "grey", "light"],
  shape: [1, 1, 1],
  images: Uint8Array.of(0, 128, 255, 10, 128, 0, 255),
  labels: Int32Array.of(0, 1, 2, 1, 1, 0, 0),
});
const options = { batchSize: 3, normalization: { divisor: 255, mean: [0], std: [1] } };

describe("evaluate", () => {
  it("counts right answers in all and by class", async () => {
    using network = await thresholds();
    const result = await evaluate(network, wholeView(data), options);
    expect([...result.predictions]).toEqual([0, 1, 2, 0, 1, 0, 2]);
    expect(result).toMatchObject({ total: 7, correct: 5 });
    expect(result.perClass).toEqual([
      { correct: 2, total: 3 },
      { correct: 2, total: 3 },
      { correct: 1, total: 1 },
    ]);
    // Sample 3: pixel 10/255, label 1; logits 10 − 40·p, 0, 40·p − 30.
    const p = 10 / 255;
    const logits = [10 - 40 * p, 0, 40 * p - 30];
    const expected = Math.log(logits.reduce((sum, z) => sum + Math.exp(z), 0));
    expect(result.losses[3]).toBeCloseTo(expected, 5);
    expect(result.meanLoss).toBeCloseTo(result.losses.reduce((a, b) => a + b) / 7, 12);
  });

  it("goes in the view's order, whatever the batch size, and collects values", async () => {
    using network = await thresholds();
    const view = subset(data, Int32Array.of(6, 0, 0, 3));
    const seen: [number, number][] = [];
    for (const batchSize of [1, 3, 100]) {
      const result = await evaluate(network, view, {
        ...options,
        batchSize,
        keep: "features",
        onProgress: (done, total) => seen.push([done, total]),
      });
      expect([...result.predictions]).toEqual([2, 0, 0, 0]);
      const expected = Float32Array.of(255 / 255, 0, 0, 10 / 255);
      for (const [i, value] of result.features.entries()) {
        expect(value).toBeCloseTo(expected[i] as number, 6);
      }
      expect(result.features.length).toBe(4);
    }
    expect(seen).toEqual([1, 2, 3, 4, 3, 4, 4].map((done) => [done, 4]));
  });

  it("of no sample has no loss; of an unknown value names it; stops on its signal", async () => {
    using network = await thresholds();
    const none = await evaluate(network, subset(data, new Int32Array(0)), options);
    expect(none).toMatchObject({ total: 0, correct: 0, meanLoss: Number.NaN });
    const all = wholeView(data);
    await expectError(
      () => evaluate(network, all, { ...options, keep: "pool9" }),
      "ERR_FM_ARGUMENT",
      "pool9",
    );
    const signal = AbortSignal.abort();
    await expectError(() => evaluate(network, all, { ...options, signal }), "ERR_FM_ABORTED");
  });
});
