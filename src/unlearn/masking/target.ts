import type { RoundMetrics } from "../../evaluate/run-metrics.js";
import type { TargetConfig } from "../config.js";

type Measured = Pick<RoundMetrics, "forgetAccuracy" | "forgetLoss">;

/** Whether all that the target asks for holds. */
export function targetReached({ accuracy, loss }: TargetConfig, measured: Measured): boolean {
  const byAccuracy = accuracy === undefined || measured.forgetAccuracy <= accuracy;
  const byLoss = loss === undefined || measured.forgetLoss >= loss;
  return byAccuracy && byLoss;
}

/** The target in words. */
export function targetText({ accuracy, loss }: TargetConfig): string {
  const parts = [
    accuracy === undefined ? null : `at most ${100 * accuracy} % right`,
    loss === undefined ? null : `a mean loss of at least ${loss} nats`,
  ];
  return parts.filter((part) => part !== null).join(" and ");
}

/** What a reader must know of a target that the most allowed did not reach. */
export function missedWarning(
  target: TargetConfig,
  last: Measured & Pick<RoundMetrics, "ratio">,
): string {
  const share = (100 * last.ratio).toFixed(2);
  const accuracy = (100 * last.forgetAccuracy).toFixed(1);
  return (
    `The target was not reached: with ${share} % of the candidates masked (the most allowed) the forget set's training ` +
    `samples are still right in ${accuracy} % of the cases (target: ${targetText(target)}).`
  );
}
