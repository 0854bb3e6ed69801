import { describe, expect, it } from "vitest";
import {
  fitLinear,
  foldStandardisation,
  type LabelledFeatures,
  type LinearFit,
  predictLinear,
  standardise,
} from "../../../src/evaluate/linear-fit.js";
import { expectError } from "../io/support.js";
import { noise } from "../unlearn/support.js";

const WIDTH = 5;
const CLASSES = 3;
const CONSTANT = 4;
const OPTIONS = { classes: CLASSES, threads: 1, steps: 60 };

/** Class c stands out by 3 along feature c; scales and offsets differ, and the last feature is constant. */
function samples(size: number, seed: number): LabelledFeatures {
  const random = noise(seed);
  const labels = Int32Array.from({ length: size }, (_, i) => i % CLASSES);
  const features = Float32Array.from({ length: size * WIDTH }, (_, at) => {
    const [i, f] = [Math.floor(at / WIDTH), at % WIDTH];
    if (f === CONSTANT) return 7;
    return 5 * f + 10 ** (f - 1) * (random() + (f === labels[i] ? 3 : 0));
  });
  return { features, labels };
}

function logits(weight: Float32Array, bias: Float32Array, values: Float32Array): number[] {
  const width = weight.length / bias.length;
  return Array.from({ length: (values.length / width) * bias.length }, (_, i) => {
    const [sample, c] = [Math.floor(i / bias.length), i % bias.length];
    let sum = bias[c] as number;
    for (let j = 0; j < width; j++) {
      sum += (weight[c * width + j] as number) * (values[sample * width + j] as number);
    }
    return sum;
  });
}

function accuracy(fit: LinearFit, { features, labels }: LabelledFeatures): number {
  const predictions = predictLinear(fit, features);
  return labels.filter((label, i) => label === predictions[i]).length / labels.length;
}

const column = (weight: Float32Array, feature: number): number =>
  Math.max(
    ...Array.from({ length: CLASSES }, (_, c) => Math.abs(weight[c * WIDTH + feature] as number)),
  );

describe("fitLinear", () => {
  it("separates what is separable, on samples that it has not seen too", async () => {
    const fit = await fitLinear(samples(90, 1), OPTIONS);
    expect([accuracy(fit, samples(90, 1)), accuracy(fit, samples(90, 2))]).toEqual([1, 1]);
    expect([fit.weight.length, fit.bias.length]).toEqual([CLASSES * WIDTH, CLASSES]);
  });

  it("is the same each time", async () => {
    const [a, b] = [
      await fitLinear(samples(30, 1), OPTIONS),
      await fitLinear(samples(30, 1), OPTIONS),
    ];
    expect(a).toEqual(b);
  });

  it("gives a feature that is constant, or noise of the last f32 digit, no part", async () => {
    const data = samples(60, 1);
    const features = data.features.slice();
    // 16777216 = 2^24: the neighbours in f32 are 2 apart.
    for (const [i] of data.labels.entries()) {
      features[i * WIDTH + 3] = 16_777_216 + (data.labels[i] === 0 ? 2 : 0);
    }
    const fit = await fitLinear({ ...data, features }, OPTIONS);
    expect([fit.scale[3], fit.scale[CONSTANT]]).toEqual([0, 0]);
    const { weight, bias } = foldStandardisation(fit);
    expect([column(weight, 3), column(weight, CONSTANT)]).toEqual([0, 0]);
    expect([...weight, ...bias].every(Number.isFinite)).toBe(true);
    const moved = features.map((value, at) => (at % WIDTH >= 3 ? value + 1000 : value));
    expect(predictLinear(fit, moved)).toEqual(predictLinear(fit, features));
  });

  it("divides by the deviation, and with leastDeviation by no less than that share of the mean one", async () => {
    const data = samples(60, 1);
    const free = await fitLinear(data, OPTIONS);
    const bound = await fitLinear(data, { ...OPTIONS, leastDeviation: 0.5 });
    // The constant feature's deviation is 0 and counts in the mean.
    const deviations = [...free.scale].map((scale) => (scale === 0 ? 0 : 1 / scale));
    const least = (0.5 * deviations.reduce((sum, value) => sum + value, 0)) / WIDTH;
    const wanted = deviations.map((value) => (value === 0 ? 0 : 1 / Math.max(value, least)));
    for (const [i, scale] of bound.scale.entries()) expect(scale).toBeCloseTo(wanted[i] ?? -1, 10);
    // Feature 0 varies 1000 times less than feature 3.
    expect(deviations[0]).toBeLessThan(least);
    const [loose, tight] = [foldStandardisation(free).weight, foldStandardisation(bound).weight];
    expect(column(tight, 0)).toBeLessThan(column(loose, 0) / 10);
    expect(column(tight, 3)).toBeGreaterThan(0);
  });

  it("refuses no samples and features that are not finite, and stops on its signal", async () => {
    const none = { features: new Float32Array(0), labels: new Int32Array(0) };
    await expectError(() => fitLinear(none, OPTIONS), "ERR_FM_ARGUMENT", "samples");
    const data = samples(9, 1);
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const features = data.features.with(11, value);
      const refused = () => fitLinear({ ...data, features }, OPTIONS);
      await expectError(refused, "ERR_FM_NON_FINITE", `${value} at 11`);
    }
    const controller = new AbortController();
    let steps = 0;
    const stopped = () =>
      fitLinear(data, {
        ...OPTIONS,
        signal: controller.signal,
        onProgress: (done) => {
          steps = done;
          if (done === 5) controller.abort();
        },
      });
    await expectError(stopped, "ERR_FM_ABORTED");
    expect(steps).toBe(5);
  });
});

describe("foldStandardisation", () => {
  it("is the same function of the features as they come, to 1e-5 of the largest logit", async () => {
    for (const leastDeviation of [0, 0.1]) {
      const fit = await fitLinear(samples(90, 1), { ...OPTIONS, leastDeviation });
      const { features } = samples(45, 2);
      const standard = logits(fit.weight, fit.bias, standardise(features, fit));
      const { weight, bias } = foldStandardisation(fit);
      const folded = logits(weight, bias, features);
      const largest = Math.max(...standard.map(Math.abs));
      expect(largest).toBeGreaterThan(1);
      for (const [i, value] of standard.entries()) {
        expect(Math.abs((folded[i] as number) - value)).toBeLessThan(1e-5 * largest);
      }
    }
  });
});
