import { type DatasetView, subset } from "../../data/dataset.js";
import { type Evaluation, evaluate } from "../../evaluate/accuracy.js";
import type { RoundMetrics } from "../../evaluate/run-metrics.js";
import type { MethodContext } from "../method.js";
import { drawSamples, drawStratified } from "../sampling.js";
import { targetReached } from "./target.js";

export interface Judged {
  readonly forget: Evaluation;
  /** Null where there is nothing to look at. */
  readonly remain: Evaluation | null;
}

/** Evaluates the present network on both views as one stage of the run. @throws as `evaluate` */
export async function evaluateBoth(
  context: MethodContext,
  forgetView: DatasetView,
  remainView: DatasetView | null,
): Promise<Judged> {
  const { config, network, normalization, reporter, signal } = context;
  const forgetCount = forgetView.indices.length;
  const remainCount = remainView?.indices.length ?? 0;
  reporter.stage("Check the target", forgetCount + remainCount);
  const evaluated = (view: DatasetView, before: number): Promise<Evaluation> =>
    evaluate(network, view, {
      batchSize: config.fisher.batchSize,
      normalization,
      signal,
      onProgress: (done) => reporter.progress(before + done),
    });
  const forget = await evaluated(forgetView, 0);
  const remain =
    remainView === null || remainCount === 0 ? null : await evaluated(remainView, forgetCount);
  return { forget, remain };
}

/** What the stopping rule sees, on training samples of both sets. */
export class Judge {
  readonly #context: MethodContext;
  readonly #forget: DatasetView;
  readonly #remain: DatasetView;

  constructor(context: MethodContext) {
    const { config, train } = context;
    const { samples } = config.target;
    this.#context = context;
    this.#forget = subset(train, drawSamples(context.forget, samples, config.seed, 0));
    this.#remain = subset(train, drawStratified(train, context.remain, samples, config.seed, 0));
  }

  async measure(): Promise<Omit<RoundMetrics, "round" | "units" | "ratio">> {
    const { forget, remain } = await evaluateBoth(this.#context, this.#forget, this.#remain);
    return {
      forgetAccuracy: forget.correct / forget.total,
      forgetLoss: forget.meanLoss,
      remainAccuracy: remain === null ? null : remain.correct / remain.total,
    };
  }

  reached(round: Pick<RoundMetrics, "forgetAccuracy" | "forgetLoss">): boolean {
    return targetReached(this.#context.config.target, round);
  }
}
