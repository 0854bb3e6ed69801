import type { Dataset } from "../data/dataset.js";
import type {
  EpochMetrics,
  RoundMetrics,
  RoundWatch,
  ScoreHistogram,
} from "../evaluate/run-metrics.js";
import type { Model } from "../model/model.js";
import type { EngineNetwork, InputNormalization } from "../native/network.js";
import type { UnlearnConfig } from "./config.js";
import type { FisherStore } from "./fisher-store.js";
import type { MaskSet } from "./mask.js";

/** How a long call reports where it is. `total` in samples where it is known. */
export interface StageReporter {
  /** Begins a stage; the one before it has ended. */
  readonly stage: (name: string, total: number | null) => void;
  readonly progress: (done: number) => void;
  readonly message: (text: string) => void;
}

/** What a method works on. `network` holds the original weights at the start and the unlearned ones at the end. */
export interface MethodContext {
  readonly model: Model;
  readonly network: EngineNetwork;
  readonly train: Dataset;
  readonly trainDigest: string;
  /** Indices into `train`; disjoint. */
  readonly forget: Int32Array;
  readonly remain: Int32Array;
  /** Of `remain` and `forget`: samples that no Fisher may see, kept for the probe. May be empty. */
  readonly reserved: ReadonlySet<number>;
  /** Of images; none for token sequences. */
  readonly normalization: InputNormalization | undefined;
  readonly config: UnlearnConfig;
  /** Stored Fishers that take the place of computing them. */
  readonly stored: { readonly forget: FisherStore | null; readonly remain: FisherStore | null };
  readonly reporter: StageReporter;
  readonly signal?: AbortSignal | undefined;
  /** Called with masks applied and before fine-tuning, when there is fine-tuning to come. */
  readonly onMasked?: (() => Promise<void>) | undefined;
}

export interface MethodOutcome {
  /** Null: the method masks nothing. */
  readonly masks: MaskSet | null;
  readonly rounds: readonly RoundMetrics[];
  /** What the rounds' shares are of, where it is not plain samples. */
  readonly watch?: RoundWatch | undefined;
  readonly scores: ScoreHistogram | null;
  readonly fineTuning: readonly EpochMetrics[];
  /** The Fishers of the last round, for the run directory. */
  readonly fishers: { readonly forget: FisherStore | null; readonly remain: FisherStore | null };
  readonly warnings: readonly string[];
}

/** A way to unlearn; a file in `methods/` exports it as `method`. */
export interface Method {
  readonly name: string;
  readonly summary: string;
  readonly source: string;
  /** Whether it trains, and so asks for `fineTune` in the config. */
  readonly needsFineTune: boolean;
  readonly run: (context: MethodContext) => Promise<MethodOutcome>;
}

export function defineMethod(method: Method): Method {
  return method;
}
