import type { RoundMetrics, RoundWatch, ScoreHistogram } from "../../evaluate/run-metrics.js";
import type { FisherStore } from "../fisher-store.js";
import type { MaskSet } from "../mask.js";

export interface Fishers {
  readonly forget: FisherStore | null;
  readonly remain: FisherStore | null;
}

/** What a way of selecting did; the network holds the masked weights. */
export interface Masking {
  readonly masks: MaskSet;
  readonly rounds: readonly RoundMetrics[];
  readonly scores: ScoreHistogram | null;
  readonly fishers: Fishers;
  readonly warnings: readonly string[];
  /** What the rounds' shares are of, where that is not the target's samples. */
  readonly watch?: RoundWatch | undefined;
}

/** By name, each in its tensor's shape. */
export type Weights = Map<string, Float32Array>;
