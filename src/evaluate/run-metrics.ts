/**
 * What one unlearning run measured: the content of `metrics.json`, the `--json` output of `unlearn`, and the input of
 * the report. Accuracies are fractions in 0..1; times are seconds; null means "not measured" (e.g. no such split).
 */
export const RUN_METRICS_VERSION = 1;

export interface ClassScore {
  readonly name: string;
  readonly correct: number;
  readonly total: number;
}

/** One network measured on all four corners of forget/remain × train/test. */
export interface Snapshot {
  readonly forget: { readonly train: number | null; readonly test: number | null };
  readonly remain: { readonly train: number | null; readonly test: number | null };
  readonly perClass: {
    readonly train: readonly ClassScore[];
    readonly test: readonly ClassScore[];
  };
  /** Mean loss (nats per sample) on the forget and remain training samples. */
  readonly loss: { readonly forget: number | null; readonly remain: number | null };
  /**
   * Linear probe on the pooled features before the head: its test accuracy on the forgotten and the other classes. High
   * on the forgotten class means that the class is hidden at the output but intact inside.
   */
  readonly probe: { readonly forget: number | null; readonly remain: number } | null;
}

export interface MaskSummary {
  /** Units masked. */
  readonly units: number;
  /** Candidate units, after include/exclude. */
  readonly total: number;
  readonly ratio: number;
  readonly unit: "weight" | "kernel" | "filter";
  readonly scope: "global" | "layer" | "tensor";
  readonly criterion: string;
  /** Tensor → masked units, in network order; tensors without a masked unit have 0. */
  readonly perTensor: Readonly<Record<string, number>>;
  /** Tensor → candidate units. */
  readonly perTensorTotal: Readonly<Record<string, number>>;
}

export interface RoundMetrics {
  readonly round: number;
  /** Units masked so far, and their share of the candidates. */
  readonly units: number;
  readonly ratio: number;
  /** On the samples that the stopping rule looks at, and by its measure: guarded rounds count what is still recognised. */
  readonly forgetAccuracy: number;
  readonly forgetLoss: number;
  readonly remainAccuracy: number | null;
  /** Guarded rounds: watched remain samples that were right before the run and are wrong now, as a share of the watched. */
  readonly lost?: number | null;
  /** Guarded rounds: the other way round. */
  readonly gained?: number | null;
  /**
   * The accuracies, on the same samples, of a linear probe fitted in this round; absent or null where none was. `remain` is
   * null where no remain sample is watched.
   */
  readonly probe?: { readonly forget: number; readonly remain: number | null } | null;
  /** A step that was undone: its figures are those of the network that was tried. */
  readonly rejected?: boolean;
}

/** What the shares of guarded rounds are of: `remainAccuracy`, `lost` and `gained` are of watched, occluded copies. */
export interface RoundWatch {
  /** Forget samples judged, as they are. */
  readonly judged: number;
  /** Remain samples watched. */
  readonly watched: number;
  /** Side of the square hidden of each, as a share of the shorter side. */
  readonly occlusion: number;
}

/** Histogram of the finite scores of the last selection: counts[i] lies in [edges[i], edges[i+1]). */
export interface ScoreHistogram {
  readonly edges: readonly number[];
  readonly counts: readonly number[];
  readonly maskedCounts: readonly number[];
  readonly threshold: number | null;
}

export interface EpochMetrics {
  readonly epoch: number;
  readonly loss: number;
  readonly accuracy: number;
  readonly learningRate: number;
  readonly seconds: number;
}

export interface RunMetrics {
  readonly schemaVersion: typeof RUN_METRICS_VERSION;
  readonly fishermask: string;
  readonly createdAt: string;
  readonly seed: number;
  readonly device: {
    readonly requested: string;
    /** `cpu` or `cuda:N`. */
    readonly used: string;
    /** Of a CUDA device: its driver's name for it, and what its matrix products read. */
    readonly name?: string;
    readonly precision?: string;
    /** Of the engine on the CPU. */
    readonly threads: number;
  };
  readonly model: {
    readonly arch: string;
    readonly file: string | null;
    readonly sha256: string | null;
    readonly parameters: number;
  };
  readonly data: {
    readonly source: string;
    readonly classes: readonly string[];
    readonly forget: string;
    readonly forgetClasses: readonly number[];
    readonly counts: {
      readonly forgetTrain: number;
      readonly remainTrain: number;
      readonly forgetTest: number;
      readonly remainTest: number;
    };
  };
  readonly method: string;
  readonly preset: string | null;
  readonly config: Readonly<Record<string, unknown>>;
  readonly before: Snapshot;
  /** After masking and, where asked, a new head and fine-tuning: the network that was written. */
  readonly after: Snapshot;
  /** After masking, before a new head and fine-tuning; null when neither was asked for. */
  readonly maskedOnly: Snapshot | null;
  readonly retrained: Snapshot | null;
  readonly masked: MaskSummary;
  readonly rounds: readonly RoundMetrics[];
  /** Of guarded rounds. Absent: the rounds' remain samples are shown as they are. */
  readonly watch?: RoundWatch;
  readonly scores: ScoreHistogram | null;
  readonly fineTuning: readonly EpochMetrics[];
  readonly stages: readonly { readonly name: string; readonly seconds: number }[];
  readonly warnings: readonly string[];
}

/** Whether the written network's head was fitted anew after masking. */
export function hasNewHead({ config, maskedOnly }: RunMetrics): boolean {
  const { refitHead } = config;
  return maskedOnly !== null && typeof refitHead === "number";
}

/** A few images of the forget set for the report, with what the networks say of them. */
export interface SampleImage {
  readonly index: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** (H, W, C), 0..255. */
  readonly pixels: Uint8Array;
  readonly label: string;
  readonly before: string;
  readonly after: string;
}
