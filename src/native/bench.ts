import { native, nativeAsync } from "./addon.js";
import { throwIfAborted } from "./errors.js";

/** What the engine can measure; bench/native/benchmarks.h says what each takes and gives. */
export const BENCHMARKS = ["fisher", "ops", "kernels", "mask", "doubling"] as const;
export type Benchmark = (typeof BENCHMARKS)[number];

/** By name as on a command line, without the dashes: `{ batch: 64, threads: 2 }`. Left out where undefined. */
export type BenchmarkOptions = Readonly<Record<string, string | number | undefined>>;

/** Times of one piece: median over the rounds, best, and (third quartile − first quartile) / median. */
export interface PieceTimes {
  readonly milliseconds: number;
  readonly bestMilliseconds: number;
  readonly spread: number;
}

/** What the machine did at most in the same rounds. */
export interface Ceilings {
  readonly gemmGflops: number;
  readonly gemmSpread: number;
  /** Bytes read and bytes written both count. */
  readonly copyGBps: number;
  readonly copySpread: number;
}

export interface Settings {
  readonly threads: number;
  readonly rounds: number;
  readonly warmUpRounds: number;
  readonly clock: "wall" | "cpu";
}

/** A point of the roofline: operations, the bytes that they need, operations a byte, 10⁹ operations a second. */
export interface WorkDone extends PieceTimes {
  readonly gflops: number;
  readonly ofGemmCeiling: number;
  readonly operations: number;
  readonly bytes: number;
  readonly intensity: number;
}

export interface PassResult extends WorkDone {
  readonly samplesPerSecond: number;
}

/** Null where the system does not tell. */
export interface PassMemory {
  readonly peakRssBytes: number | null;
  readonly peakRssAboveStartBytes: number | null;
}

export interface FisherBenchmark extends Settings {
  readonly network: string;
  readonly parameters: number;
  readonly batch: number;
  readonly forward: PassResult;
  readonly forwardBackward: PassResult & PassMemory;
  readonly fisher: PassResult & PassMemory;
  readonly trainingStep: PieceTimes & { readonly samplesPerSecond: number };
  readonly ceilings: Ceilings;
  readonly startRssBytes: number | null;
  readonly fisherOverForwardBackward: {
    readonly time: number;
    readonly peakRssAboveStart: number | null;
  };
  readonly definitions: Readonly<Record<string, string>>;
}

export interface KernelBenchmark extends Settings {
  readonly batch: number;
  readonly kernels: readonly (WorkDone & {
    readonly kernel: string;
    readonly gemmGflops: number;
  })[];
  readonly ceilings: Ceilings;
  readonly definitions: Readonly<Record<string, string>>;
}

export interface DoublingBenchmark extends Settings {
  readonly axis: "samples" | "parameters";
  readonly batch: number;
  readonly series: readonly (PieceTimes & {
    readonly network: string;
    readonly samples: number;
    readonly parameters: number;
    readonly seconds: number;
  })[];
  /** 1 where cost is linear; null for one size. */
  readonly logSlope: number | null;
  readonly definitions: Readonly<Record<string, string>>;
}

export type BenchmarkDocument = Readonly<Record<string, unknown>>;

/** What each benchmark gives; that of the others is described where it is made. */
export interface BenchmarkDocuments {
  readonly fisher: FisherBenchmark;
  readonly kernels: KernelBenchmark;
  readonly doubling: DoublingBenchmark;
  readonly ops: BenchmarkDocument;
  readonly mask: BenchmarkDocument;
}

function texts(options: BenchmarkOptions): Record<string, string> {
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given.map(([name, value]) => [name, String(value)]));
}

/**
 * Runs one of the engine's benchmarks on the engine's thread, with the calls of this process before and after it. The event
 * loop stays free.
 *
 * @returns its JSON document: seconds, milliseconds, bytes, GFLOP/s and GB/s as the keys say
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` naming the option and what was expected, `ERR_FM_ABORTED` once the signal
 * has fired (before the next timed piece), `ERR_FM_OUT_OF_MEMORY`
 */
export async function runBenchmark<Name extends Benchmark>(
  name: Name,
  options: BenchmarkOptions,
  signal?: AbortSignal,
): Promise<BenchmarkDocuments[Name]> {
  throwIfAborted(signal);
  const stop = (): void => native((addon) => addon.stopBenchmark());
  signal?.addEventListener("abort", stop, { once: true });
  try {
    const text = await nativeAsync((addon) => addon.benchmark(name, texts(options)));
    return JSON.parse(text) as BenchmarkDocuments[Name];
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}
