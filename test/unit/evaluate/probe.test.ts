import { describe, expect, it } from "vitest";
import { linearProbe, type ProbeSet } from "../../../src/evaluate/probe.js";
import { expectError } from "../io/support.js";
import { noise } from "../unlearn/support.js";

const WIDTH = 6;
const CLASSES = 3;

/** Features of `size` samples; `shift` is how far class c stands out along feature c. */
function features(size: number, seed: number, shift: number): ProbeSet {
  const random = noise(seed);
  const labels = Int32Array.from({ length: size }, (_, i) => i % CLASSES);
  const values = new Float32Array(size * WIDTH);
  for (let i = 0; i < size; i++) {
    for (let f = 0; f < WIDTH; f++) {
      const own = f === labels[i] ? shift : 0;
      // Scales and offsets differ widely, and one feature is constant: the probe standardises.
      values[i * WIDTH + f] = f === 5 ? 7 : 1000 * f + 10 ** f * (random() + own);
    }
  }
  return { features: values, labels };
}

describe("linearProbe", () => {
  it("finds what is linearly there, whatever its scale", async () => {
    const { perClass } = await linearProbe(features(150, 1, 3), features(90, 2, 3), {
      classes: CLASSES,
      threads: 1,
    });
    expect(perClass).toEqual([1, 1, 1]);
  });

  it("finds nothing where there is nothing: chance", async () => {
    const { perClass } = await linearProbe(features(600, 3, 0), features(900, 4, 0), {
      classes: CLASSES,
      threads: 1,
      steps: 100,
    });
    const mean = perClass.reduce<number>((sum, value) => sum + (value ?? 0), 0) / CLASSES;
    // Five standard deviations of 900 draws at 1/3.
    expect(Math.abs(mean - 1 / 3)).toBeLessThan(5 * Math.sqrt(2 / 9 / 900));
  });

  it("says null for a class that the test set lacks, and reports its steps", async () => {
    const steps: number[] = [];
    const { perClass } = await linearProbe(features(60, 1, 3), features(2, 2, 3), {
      classes: CLASSES + 1,
      threads: 1,
      steps: 30,
      onProgress: (done) => steps.push(done),
    });
    expect(perClass.map((value) => value === null)).toEqual([false, false, true, true]);
    expect(steps).toEqual(Array.from({ length: 30 }, (_, i) => i + 1));
  });

  it("refuses empty sets, and stops on its signal", async () => {
    const some = features(9, 1, 1);
    const none = { features: new Float32Array(0), labels: new Int32Array(0) };
    const options = { classes: CLASSES, threads: 1 };
    await expectError(() => linearProbe(none, some, options), "ERR_FM_ARGUMENT", "samples");
    await expectError(() => linearProbe(some, none, options), "ERR_FM_ARGUMENT", "samples");
    const stopped = { ...options, signal: AbortSignal.abort() };
    await expectError(() => linearProbe(some, some, stopped), "ERR_FM_ABORTED");
  });
});
