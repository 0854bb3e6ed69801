import { FishermaskError } from "../native/errors.js";

/** Learning rate over a run. `cosine` falls to `minimum` (default 0); `step` multiplies by gamma at each milestone. */
export type Schedule =
  | { readonly kind: "constant" }
  | { readonly kind: "cosine"; readonly minimum?: number }
  | { readonly kind: "step"; readonly milestones: readonly number[]; readonly gamma?: number };

export interface ScheduleOptions {
  /** The peak. */
  readonly learningRate: number;
  readonly schedule: Schedule;
  /** Epochs over which the rate rises linearly from 0; fractions are fine. Default 0. */
  readonly warmupEpochs?: number | undefined;
}

const DEFAULT_GAMMA = 0.1;

function base(schedule: Schedule, epoch: number, epochs: number, peak: number): number {
  switch (schedule.kind) {
    case "constant":
      return peak;
    case "cosine": {
      const minimum = schedule.minimum ?? 0;
      return minimum + (peak - minimum) * 0.5 * (1 + Math.cos((Math.PI * epoch) / epochs));
    }
    case "step": {
      const passed = schedule.milestones.filter((milestone) => epoch >= milestone).length;
      return peak * (schedule.gamma ?? DEFAULT_GAMMA) ** passed;
    }
  }
}

/**
 * The learning rate at `epoch` (0 at the start, with its fraction) of `epochs`.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for a rate that is negative or not finite
 */
export function learningRateAt(options: ScheduleOptions, epoch: number, epochs: number): number {
  const { learningRate, schedule, warmupEpochs = 0 } = options;
  if (!(learningRate >= 0 && Number.isFinite(learningRate))) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected a finite number from 0 for learningRate but received ${learningRate}`,
    );
  }
  const rate = base(schedule, epoch, epochs, learningRate);
  return epoch < warmupEpochs ? (rate * epoch) / warmupEpochs : rate;
}
