import { FishermaskError } from "../native/errors.js";
import {
  fitLinear,
  type LabelledFeatures,
  type LinearFitOptions,
  predictLinear,
} from "./linear-fit.js";

export type ProbeSet = LabelledFeatures;
export type ProbeOptions = Omit<LinearFitOptions, "leastDeviation">;

export interface ProbeResult {
  /** Accuracy by class on the test set; null for a class without a sample. */
  readonly perClass: readonly (number | null)[];
}

/**
 * A linear probe: multinomial logistic regression on standardised features, fitted by full-batch Nesterov descent, and its
 * accuracy on other samples. High accuracy on a "forgotten" class means that the class is still present in the features.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for empty sets; `ERR_FM_ABORTED` before the next step
 */
export async function linearProbe(
  train: ProbeSet,
  test: ProbeSet,
  options: ProbeOptions,
): Promise<ProbeResult> {
  if (train.labels.length === 0 || test.labels.length === 0) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      "Expected samples for the linear probe but received none",
    );
  }
  const predictions = predictLinear(await fitLinear(train, options), test.features);
  const counts = Array.from({ length: options.classes }, () => ({ correct: 0, total: 0 }));
  for (const [i, label] of test.labels.entries()) {
    const count = counts[label];
    if (count === undefined) continue;
    count.total += 1;
    if (predictions[i] === label) count.correct += 1;
  }
  return { perClass: counts.map(({ correct, total }) => (total === 0 ? null : correct / total)) };
}
