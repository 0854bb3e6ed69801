import type { RoundMetrics } from "../../evaluate/run-metrics.js";
import type { TargetConfig } from "../config.js";
import { percent } from "./percent.js";

type Measured = Pick<RoundMetrics, "forgetAccuracy" | "forgetLoss">;

/** Whether all that the target asks for holds. */
export function targetReached({ accuracy, loss }: TargetConfig, measured: Measured): boolean {
  const byAccuracy = accuracy === undefined || measured.forgetAccuracy <= accuracy;
  const byLoss = loss === undefined || measured.forgetLoss >= loss;
  return byAccuracy && byLoss;
}

/** What a target's accuracy counts: guarded rounds also count samples whose class is still too probable. */
export type Counted = "right" | "recognised";

/** The target in words. */
export function targetText({ accuracy, loss }: TargetConfig, counted: Counted): string {
  const parts = [
    accuracy === undefined ? null : `at most ${Number((100 * accuracy).toFixed(2))} % ${counted}`,
    loss === undefined ? null : `a mean loss of at least ${loss} nats`,
  ];
  return parts.filter((part) => part !== null).join(" and ");
}

/** What a reader must know of a target that the most allowed did not reach. */
export function missedWarning(
  target: TargetConfig,
  last: Measured & Pick<RoundMetrics, "ratio">,
  counted: Counted = "right",
): string {
  return (
    `The target was not reached: with ${percent(last.ratio, 2)} of the candidates masked (the most allowed) the forget set's training ` +
    `samples are still ${counted} in ${percent(last.forgetAccuracy)} of the cases (target: ${targetText(target, counted)}).`
  );
}
