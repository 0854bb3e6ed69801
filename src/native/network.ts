import { availableParallelism } from "node:os";
import {
  type NamedDoubles,
  type NamedFloats,
  type NativeBatch,
  type NativeFisherOptions,
  type NativeFisherPass,
  type NativeLoss,
  type NativeNetwork,
  type NativeOptimizerOptions,
  type NativeTrainer,
  native,
  nativeAsync,
} from "./addon.js";
import type { EngineDevice, Precision } from "./device.js";
import { FishermaskError } from "./errors.js";

/** How pixels become the network's input: (raw / divisor − mean[c]) / std[c]. */
export interface InputNormalization {
  readonly divisor: number;
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** Samples for one native call, (count, …) row-major as the graph's input. Copied at the call: reuse it freely. */
export interface EngineBatch {
  readonly data: Uint8Array | Float32Array | Float64Array | Int32Array;
  readonly count: number;
  readonly normalization?: InputNormalization | undefined;
}

export interface NetworkOptions {
  /** Threads of the engine; default: all that the process may use. */
  readonly threads?: number | undefined;
  /** `f64` runs the plain reference kernels in double precision: slow, for checks. */
  readonly real?: "f32" | "f64" | undefined;
  /** Reference kernels in f32. */
  readonly reference?: boolean | undefined;
  /** Where weights and passes live; undefined: the CPU. Its matrix products have the precision it was opened with. */
  readonly device?: EngineDevice | undefined;
}

function toNative(batch: EngineBatch): NativeBatch {
  const { data, count, normalization } = batch;
  if (normalization === undefined) return { data, count };
  return {
    data,
    count,
    normalization: {
      divisor: normalization.divisor,
      mean: Float64Array.from(normalization.mean),
      std: Float64Array.from(normalization.std),
    },
  };
}

/** A graph with weights in the engine. Calls run in order on the engine's own thread; none blocks the event loop. */
export class EngineNetwork {
  readonly threads: number;
  /** `cpu` or `cuda:N`. */
  readonly device: string;
  /** Of a CUDA device: its driver's name for it, and what its matrix products read. */
  readonly deviceDetails: { readonly name?: string; readonly precision?: Precision };
  #handle: NativeNetwork | undefined;

  /** @param graph the JSON text of a `Graph` */
  constructor(graph: string, options: NetworkOptions = {}) {
    this.threads = options.threads ?? availableParallelism();
    const { device } = options;
    this.device = device?.name ?? "cpu";
    this.deviceDetails =
      device === undefined ? {} : { name: device.info.name, precision: device.precision };
    this.#handle = native(
      (addon) =>
        new addon.Network(graph, {
          threads: this.threads,
          real: options.real ?? "f32",
          reference: options.reference ?? false,
          device: device?.handle,
        }),
    );
  }

  get handle(): NativeNetwork {
    if (this.#handle === undefined) {
      throw new FishermaskError("ERR_FM_DISPOSED", "the network was disposed");
    }
    return this.#handle;
  }

  /** Copies weights in, by name. @throws `ERR_FM_ARGUMENT`, `ERR_FM_SHAPE`, `ERR_FM_NON_FINITE` naming the tensor */
  setParameters(values: ReadonlyMap<string, Float32Array | Float64Array>): Promise<void> {
    return nativeAsync(() => this.handle.setParameters(Object.fromEntries(values)));
  }

  /** Copies of the weights. @throws `ERR_FM_ARGUMENT` for an unknown name */
  async getParameters(names: readonly string[]): Promise<Map<string, Float32Array>> {
    const values: NamedFloats = await nativeAsync(() => this.handle.getParameters(names));
    return new Map(names.map((name) => [name, values[name] as Float32Array]));
  }

  /** Forward in evaluation mode. `keep` names values to return beside the losses. Labels of −1 are not counted. */
  evaluate(
    batch: EngineBatch,
    labels: Int32Array,
    options: { readonly temperature?: number; readonly keep?: readonly string[] } = {},
  ): Promise<NativeLoss & { readonly values: NamedFloats }> {
    return nativeAsync(() => this.handle.evaluate(toNative(batch), labels, options));
  }

  /**
   * Forward in evaluation mode, for graphs of any number of inputs and outputs.
   *
   * @param inputs by name, (count, …) row-major as the graph's inputs; copied at the call
   * @param outputs names of values of the graph
   * @returns by name, (count, …), widened to f64
   * @throws `ERR_FM_ARGUMENT`, `ERR_FM_SHAPE` naming the input
   */
  async run(
    inputs: ReadonlyMap<string, Float32Array | Float64Array | Int32Array>,
    outputs: readonly string[],
    count = 1,
  ): Promise<Map<string, Float64Array>> {
    const values = await nativeAsync(() =>
      this.handle.run(Object.fromEntries(inputs), count, outputs),
    );
    return new Map(outputs.map((name) => [name, values[name] as Float64Array]));
  }

  /**
   * The vector-Jacobian product of the logits: output, and gradients of ⟨gradOutput, logits⟩, in f64. `gradInput` is empty for
   * an input of ids.
   */
  vjp(
    batch: EngineBatch,
    gradOutput: Float64Array,
    options: { readonly training?: boolean; readonly seed?: number } = {},
  ): Promise<{
    readonly output: Float64Array;
    readonly gradInput: Float64Array;
    readonly gradients: NamedDoubles;
  }> {
    return nativeAsync(() => this.handle.vjp(toNative(batch), gradOutput, options));
  }

  trainer(options: NativeOptimizerOptions): EngineTrainer {
    return new EngineTrainer(native((addon) => new addon.Trainer(this.handle, options)));
  }

  fisherPass(options: NativeFisherOptions): EngineFisherPass {
    return new EngineFisherPass(native((addon) => new addon.FisherPass(this.handle, options)));
  }

  /** Frees the engine's memory when the last running call has ended. Later calls throw `ERR_FM_DISPOSED`. */
  dispose(): void {
    this.#handle?.dispose();
    this.#handle = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Optimiser state over a network's trainable parameters. */
export class EngineTrainer {
  readonly #handle: NativeTrainer;
  constructor(handle: NativeTrainer) {
    this.#handle = handle;
  }
  /** Holds the weights whose bit is 0 at exactly 0 from now on. One bit per weight, LSB first. */
  hold(keepMasks: ReadonlyMap<string, Uint8Array>): Promise<void> {
    return nativeAsync(() => this.#handle.hold(Object.fromEntries(keepMasks)));
  }
  /** One step on the mean loss of the batch; sign −1 ascends. Returns the losses before the step. */
  step(
    batch: EngineBatch,
    labels: Int32Array,
    options: { readonly learningRate: number; readonly sign?: number },
  ): Promise<NativeLoss> {
    return nativeAsync(() => this.#handle.step(toNative(batch), labels, options));
  }
}

/** A Fisher being accumulated. */
export class EngineFisherPass {
  readonly #handle: NativeFisherPass;
  constructor(handle: NativeFisherPass) {
    this.#handle = handle;
  }
  step(batch: EngineBatch, labels: Int32Array, firstSample: number): Promise<void> {
    return nativeAsync(() => this.#handle.step(toNative(batch), labels, firstSample));
  }
  finish(): ReturnType<NativeFisherPass["finish"]> {
    return nativeAsync(() => this.#handle.finish());
  }
}
