import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { ERROR_CODES, FishermaskError, type FishermaskErrorCode } from "./errors.js";

/** The addon as C++ exports it (binding/napi). Only this folder imports it; errors are plain `Error`s with a `code`. */
export interface NativeBatch {
  readonly data: Uint8Array | Float32Array | Float64Array | Int32Array;
  readonly count: number;
  readonly normalization?: {
    readonly divisor: number;
    readonly mean: Float64Array;
    readonly std: Float64Array;
  };
}

export interface NativeLoss {
  readonly losses: Float64Array;
  readonly predictions: Int32Array;
  readonly counted: number;
  readonly correct: number;
}

export type NamedFloats = Readonly<Record<string, Float32Array>>;
export type NamedDoubles = Readonly<Record<string, Float64Array>>;

export interface NativeNetwork {
  setParameters(values: Readonly<Record<string, Float32Array | Float64Array>>): Promise<void>;
  getParameters(names: readonly string[]): Promise<NamedFloats>;
  evaluate(
    batch: NativeBatch,
    labels: Int32Array,
    options: { readonly temperature?: number; readonly keep?: readonly string[] },
  ): Promise<NativeLoss & { readonly values: NamedFloats }>;
  run(
    inputs: Readonly<Record<string, Float32Array | Float64Array | Int32Array>>,
    count: number,
    outputs: readonly string[],
  ): Promise<NamedDoubles>;
  vjp(
    batch: NativeBatch,
    gradOutput: Float64Array,
    options: { readonly training?: boolean; readonly seed?: number },
  ): Promise<{
    readonly output: Float64Array;
    readonly gradInput: Float64Array;
    readonly gradients: NamedDoubles;
  }>;
  dispose(): void;
}

export interface DeviceInfo {
  readonly kind: string;
  readonly index: number;
  /** As its driver calls it. */
  readonly name: string;
  readonly memoryBytes: number;
  /** 90 for 9.0. */
  readonly computeCapability: number;
  readonly processors: number;
  /** Kernels run on the host: for tests. */
  readonly emulated: boolean;
  readonly matmulLibrary: string;
  readonly convolutionLibrary: string;
}

/** An opened device; opaque. */
export type NativeDevice = { readonly __device: unique symbol };

export interface NativeOptimizerOptions {
  readonly kind: "sgd" | "adamw";
  readonly momentum?: number;
  readonly dampening?: number;
  readonly nesterov?: boolean;
  readonly weightDecay?: number;
  readonly beta1?: number;
  readonly beta2?: number;
  readonly epsilon?: number;
  readonly seed?: number;
}

export interface NativeTrainer {
  hold(keepMasks: Readonly<Record<string, Uint8Array>>): Promise<void>;
  step(
    batch: NativeBatch,
    labels: Int32Array,
    options: { readonly learningRate: number; readonly sign?: number },
  ): Promise<NativeLoss>;
}

export interface NativeFisherOptions {
  readonly labels?: string;
  readonly gradient?: string;
  readonly temperature?: number;
  readonly seed?: number;
  readonly gradientSums?: boolean;
  readonly perToken?: boolean;
  readonly generic?: boolean;
  readonly training?: boolean;
}

export interface NativeFisherPass {
  step(batch: NativeBatch, labels: Int32Array, firstSample: number): Promise<void>;
  finish(): Promise<{
    readonly samples: number;
    readonly terms: number;
    readonly lossSum: number;
    readonly correct: number;
    readonly squares: NamedDoubles;
    readonly gradients: NamedDoubles | null;
  }>;
}

/** How units are scored, and by how many threads. */
export interface NativeScoreRule {
  readonly ops: Uint8Array;
  readonly values: Float32Array;
  readonly unit: string;
  readonly forgetCount: number;
  readonly remainCount: number;
  readonly seed: number;
  readonly threads: number;
}

export interface NativeScoredTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly weight: Float32Array;
  readonly forget?: Float32Array;
  readonly remain?: Float32Array;
  readonly gradient?: Float32Array;
}

export interface NativeScoring extends NativeScoreRule {
  readonly tensors: readonly NativeScoredTensor[];
}

export interface NativeSelecting {
  readonly scope: string;
  readonly ratio?: number;
  readonly k?: number;
  /** Bins of the score histogram; 0: none. */
  readonly bins: number;
  readonly threads: number;
  readonly tensors: readonly {
    readonly name: string;
    readonly scores: Float32Array;
    readonly group: number;
  }[];
}

export interface NativeRanking {
  readonly units: number;
  readonly eligible: number;
  readonly asked: number;
  readonly masked: number;
  readonly threshold: number | null;
}

export interface NativeMasks<Ranking extends NativeRanking> {
  readonly masks: readonly Uint8Array[];
  readonly masked: readonly number[];
  readonly rankings: readonly Ranking[];
  readonly totalUnits: number;
  readonly totalMasked: number;
}

export interface NativeSelection extends NativeMasks<NativeRanking> {
  readonly edges: Float64Array;
  readonly counts: Float64Array;
  readonly maskedCounts: Float64Array;
}

export interface NativeTopKRule extends NativeScoreRule {
  readonly scope: string;
  readonly ratio?: number;
  readonly k?: number;
  /** [0] set to other than 0 stops the work; [1] is how far it is, in per mille. */
  readonly control?: Int32Array;
}

export interface NativeTopK extends NativeTopKRule {
  readonly oldValues?: boolean;
  /** Weights are changed: masked ones become 0. */
  readonly tensors: readonly (NativeScoredTensor & { readonly group: number })[];
}

/** Where a tensor's elements begin: which of the files, and at which byte. */
export interface NativeRange {
  readonly file: number;
  readonly offset: number;
}

export interface NativeTopKOnDisk extends NativeTopKRule {
  readonly inputs: readonly string[];
  /** Exist already and are as long as they will be. */
  readonly outputs: readonly string[];
  /** The remain sums are those of all samples: the forget sums are subtracted, clamped at 0. */
  readonly remainIncludesForget: boolean;
  readonly tensors: readonly {
    readonly name: string;
    readonly shape: readonly number[];
    readonly dtype: string;
    readonly weight: NativeRange;
    /** Its file counts among the outputs. */
    readonly output: NativeRange;
    readonly forget?: NativeRange;
    readonly remain?: NativeRange;
    readonly gradient?: NativeRange;
    readonly group: number;
  }[];
}

export interface NativeTopKRanking extends NativeRanking {
  /** Units that lay between the sample's marks. */
  readonly candidates: number;
  /** The sample misled, so that the key bits were counted instead. */
  readonly bracketMissed: boolean;
  /** Over the inputs; 1 where the sample served. */
  readonly passes: number;
}

export interface NativeTopKResult extends NativeMasks<NativeTopKRanking> {
  /** Of each tensor's masked weights, in index order; empty unless asked for. */
  readonly oldValues: readonly Float32Array[];
}

export interface NativeAddon {
  readonly Network: new (
    graph: string,
    options: {
      readonly threads: number;
      readonly real?: "f32" | "f64";
      readonly reference?: boolean;
      readonly device?: NativeDevice | undefined;
    },
  ) => NativeNetwork;
  readonly Trainer: new (network: NativeNetwork, options: NativeOptimizerOptions) => NativeTrainer;
  readonly FisherPass: new (
    network: NativeNetwork,
    options: NativeFisherOptions,
  ) => NativeFisherPass;
  buildInfo(): {
    readonly oneDNN: string;
    readonly compiler: string;
    readonly hardwareThreads: number;
  };
  /** Where the CUDA backend is looked for. */
  cudaLibrary(): string;
  cudaAvailability(): Promise<{ readonly devices: readonly DeviceInfo[]; readonly reason: string }>;
  openCudaDevice(
    index: number,
    precision: string,
  ): Promise<{
    readonly handle: NativeDevice;
    readonly info: DeviceInfo;
    readonly ops: readonly string[];
  }>;
  errorCodes(): string[];
  scoreOps(): string[];
  ops(): string[];
  scoreUnits(scoring: NativeScoring): Promise<Float32Array[]>;
  selectUnits(selecting: NativeSelecting): Promise<NativeSelection>;
  maskTopK(masking: NativeTopK): Promise<NativeTopKResult>;
  maskTopKOnDisk(
    masking: NativeTopKOnDisk,
  ): Promise<NativeTopKResult & { readonly bytesRead: number; readonly bytesWritten: number }>;
  expandKeepMask(bits: Uint8Array, units: number, elementsPerUnit: number): Uint8Array;
  intersectKeepMasks(a: Uint8Array, b: Uint8Array, units: number): Uint8Array;
  countMasked(bits: Uint8Array, units: number): number;
  applyKeepMask(
    weights: Float32Array,
    bits: Uint8Array,
    units: number,
    elementsPerUnit: number,
  ): Float32Array;
  undoKeepMask(
    weights: Float32Array,
    bits: Uint8Array,
    units: number,
    elementsPerUnit: number,
    oldValues: Float32Array,
  ): void;
  unitCount(
    shape: readonly number[],
    unit: string,
  ): { readonly units: number; readonly elementsPerUnit: number };
  ratioToK(ratio: number, units: number): number;
  /** A benchmark of bench/native, on the engine's thread; resolves to a JSON document. */
  benchmark(name: string, options: Readonly<Record<string, string>>): Promise<string>;
  /** The running benchmark rejects with ERR_FM_ABORTED before its next timed piece. */
  stopBenchmark(): void;
}

let loaded: NativeAddon | undefined;

/**
 * OpenMP's threads spin between parallel regions by default, which starves everything else on the machine (and themselves,
 * when something else runs). A short spin keeps most of the speed. libgomp reads this once, when the addon loads it.
 */
const SPIN_COUNT = "1000";

const require = createRequire(import.meta.url);

const root = fileURLToPath(new URL("../..", import.meta.url));

/** What loads the addon: `require(loader)(root)`, in whatever process. */
export function addonPlace(): { readonly loader: string; readonly root: string } {
  return { loader: require.resolve("node-gyp-build"), root };
}

function load(): NativeAddon {
  if (process.env["OMP_WAIT_POLICY"] === undefined) process.env["GOMP_SPINCOUNT"] ??= SPIN_COUNT;
  try {
    const resolve = require(addonPlace().loader) as (folder: string) => unknown;
    return resolve(root) as NativeAddon;
  } catch (cause) {
    const reason = cause instanceof Error ? (cause.message.split("\n")[0] ?? "") : String(cause);
    throw new FishermaskError(
      "ERR_FM_NO_PREBUILD",
      `Expected a native library for ${process.platform}-${process.arch} (Node ${process.version}) in ${root} but ` +
        `could not load one: ${reason}. Build it there with: npm run setup && npm run build`,
      { cause },
    );
  }
}

/**
 * The native addon, loaded at the first call.
 *
 * @throws {@link FishermaskError} `ERR_FM_NO_PREBUILD` with the platform and the command that builds it
 */
export function addon(): NativeAddon {
  loaded ??= load();
  return loaded;
}

function isCode(code: unknown): code is FishermaskErrorCode {
  return ERROR_CODES.includes(code as FishermaskErrorCode);
}

/** The FishermaskError for whatever the addon threw; other errors stay as they are. */
export function fromNative(error: unknown): unknown {
  if (error instanceof FishermaskError || !(error instanceof Error)) return error;
  const code = (error as { code?: unknown }).code;
  if (!isCode(code)) return error;
  return new FishermaskError(code, error.message, { cause: error });
}

/** Runs a synchronous native call; its errors leave as FishermaskErrors. */
export function native<T>(call: (addon: NativeAddon) => T): T {
  const module = addon();
  try {
    return call(module);
  } catch (error) {
    throw fromNative(error);
  }
}

/** Awaits a native call; its errors leave as FishermaskErrors whose stack is the caller's. */
export async function nativeAsync<T>(call: (addon: NativeAddon) => Promise<T>): Promise<T> {
  const module = addon();
  try {
    return await call(module);
  } catch (error) {
    throw fromNative(error);
  }
}
