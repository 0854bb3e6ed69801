import { describe, expect, it } from "vitest";
import { learningRateAt, type ScheduleOptions } from "../../../src/train/schedule.js";
import { expectError } from "../io/support.js";

const at = (options: ScheduleOptions, epoch: number, epochs = 10): number =>
  learningRateAt(options, epoch, epochs);

describe("learningRateAt", () => {
  it("constant", () => {
    const options = { learningRate: 0.3, schedule: { kind: "constant" } } as const;
    expect([0, 3.7, 9.99].map((epoch) => at(options, epoch))).toEqual([0.3, 0.3, 0.3]);
  });

  it("cosine: from the peak to the minimum, half way in the middle", () => {
    const options = { learningRate: 0.1, schedule: { kind: "cosine" } } as const;
    expect(at(options, 0)).toBeCloseTo(0.1, 15);
    expect(at(options, 5)).toBeCloseTo(0.05, 15);
    expect(at(options, 10)).toBeCloseTo(0, 15);
    expect(at(options, 2.5)).toBeCloseTo(0.05 * (1 + Math.SQRT1_2), 15);
    const raised = { learningRate: 0.1, schedule: { kind: "cosine", minimum: 0.02 } } as const;
    expect(at(raised, 10)).toBeCloseTo(0.02, 15);
    expect(at(raised, 5)).toBeCloseTo(0.06, 15);
  });

  it("step: times gamma from each milestone on", () => {
    const schedule = { kind: "step", milestones: [3, 6] } as const;
    const options = { learningRate: 1, schedule };
    expect([2.99, 3, 5.5, 6, 9].map((epoch) => at(options, epoch))).toEqual([
      1,
      0.1,
      0.1,
      0.1 ** 2,
      0.1 ** 2,
    ]);
    expect(at({ learningRate: 1, schedule: { ...schedule, gamma: 0.5 } }, 7)).toBe(0.25);
  });

  it("rises linearly through the warm-up, on top of the schedule", () => {
    const options = {
      learningRate: 0.4,
      schedule: { kind: "constant" },
      warmupEpochs: 2,
    } as const;
    expect([0, 0.5, 1, 2, 5].map((epoch) => at(options, epoch))).toEqual([0, 0.1, 0.2, 0.4, 0.4]);
    const cosine = { ...options, schedule: { kind: "cosine" } } as const;
    expect(at(cosine, 1)).toBeCloseTo(0.5 * 0.2 * (1 + Math.cos(Math.PI / 10)), 15);
  });

  it.each([-1, Number.NaN, Number.POSITIVE_INFINITY])(
    "refuses a rate of %d",
    async (learningRate) => {
      const options = { learningRate, schedule: { kind: "constant" } } as const;
      await expectError(() => at(options, 0), "ERR_FM_ARGUMENT", "learningRate");
    },
  );
});
