import { sha256File } from "../io/digest.js";
import { rewriteSafetensors, SafetensorsFile, writeSafetensors } from "../io/safetensors.js";
import {
  chooseDevice,
  type DeviceChoice,
  type EngineDevice,
  type Precision,
} from "../native/device.js";
import { FishermaskError } from "../native/errors.js";
import { EngineNetwork, type NetworkOptions } from "../native/network.js";
import { getArchitecture } from "./architectures.js";
import type { Graph } from "./graph.js";
import { initialize } from "./initialize.js";
import { matchStateDict } from "./state-dict.js";

/** A network's graph and weights, with where they came from. The weights are the caller's to change. */
export interface Model {
  readonly arch: string;
  readonly graph: Graph;
  /** The value that the classifier head reads. */
  readonly features: string;
  /** Parameters and buffers by name, PyTorch layout. */
  readonly weights: Map<string, Float32Array>;
  /** The file it was read from; null for a fresh network. */
  readonly file: string | null;
  /** SHA-256 of that file. */
  readonly sha256: string | null;
  /**
   * Writes weights in the form that the model came in, byte for byte but the changed ones; what `saveModel` calls. Left out
   * for fresh networks and single state dict files.
   */
  readonly writeBack?: (
    weights: ReadonlyMap<string, Float32Array>,
    destination: string,
  ) => Promise<void>;
}

export interface ModelShape {
  /** A name that `getArchitecture` knows. */
  readonly arch: string;
  /** Per sample: (H, W, C) of an image. */
  readonly inputShape: readonly number[];
  readonly classes: number;
  /** `mlp` alone: the sizes of the hidden layers. */
  readonly hidden?: readonly number[] | undefined;
}

function buildGraph(shape: ModelShape): { graph: Graph; features: string } {
  const architecture = getArchitecture(shape.arch);
  const graph = architecture.build({
    inputShape: [...shape.inputShape],
    classes: shape.classes,
    hidden: shape.hidden,
  });
  return { graph, features: architecture.features };
}

/** A network with fresh weights. @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for an unknown architecture */
export function createModel(shape: ModelShape, seed: number): Model {
  const { graph, features } = buildGraph(shape);
  const weights = initialize(graph, seed);
  return { arch: shape.arch, graph, features, weights, file: null, sha256: null };
}

/**
 * Reads a state dict in safetensors form.
 *
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE`, `ERR_FM_IO`; `ERR_FM_MISMATCH` naming the tensors that do not fit;
 * `ERR_FM_NON_FINITE` naming the tensor that holds NaN or infinity
 */
export async function openModel(file: string, shape: ModelShape): Promise<Model> {
  const { graph, features } = buildGraph(shape);
  await using source = await SafetensorsFile.open(file);
  const { parameters } = matchStateDict(graph, source.tensors, file);
  const weights = new Map<string, Float32Array>();
  for (const name of parameters) {
    const values = await source.readFloat32(name);
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) {
      throw new FishermaskError(
        "ERR_FM_NON_FINITE",
        `Expected finite values for tensor "${name}" of ${file} but received ${values[bad]} at element ${bad}`,
      );
    }
    weights.set(name, values);
  }
  return { arch: shape.arch, graph, features, weights, file, sha256: await sha256File(file) };
}

/** How many numbers the trainable parameters hold; buffers are not counted. */
export function parameterCount(graph: Graph): number {
  return graph.parameters
    .filter((parameter) => parameter.role !== "buffer")
    .reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
}

export interface LoadOptions extends Omit<NetworkOptions, "device"> {
  /** `auto`, `cpu` (the default) or `cuda:N`; or a device that is open. */
  readonly device?: string | EngineDevice | undefined;
  readonly precision?: Precision | undefined;
  /** Hears which device was taken, and why. */
  readonly onDevice?: ((choice: DeviceChoice) => void) | undefined;
}

async function deviceFor(graph: Graph, options: LoadOptions): Promise<EngineDevice | undefined> {
  const { device, precision, onDevice } = options;
  if (device === undefined || typeof device !== "string") return device;
  const ops = new Set(graph.nodes.map((node) => node.op));
  const choice = await chooseDevice({ name: device, precision, ops });
  onDevice?.(choice);
  return choice.device;
}

/**
 * Takes the weights into the engine. The model's own map stays as it is.
 *
 * @throws {@link FishermaskError} those of `chooseDevice`, `ERR_FM_OUT_OF_MEMORY`, `ERR_FM_NON_FINITE` naming the tensor
 */
export async function loadNetwork(model: Model, options: LoadOptions = {}): Promise<EngineNetwork> {
  const { threads, real, reference } = options;
  const device = await deviceFor(model.graph, options);
  const network = new EngineNetwork(JSON.stringify(model.graph), {
    threads,
    real,
    reference,
    device,
  });
  try {
    await network.setParameters(model.weights);
  } catch (error) {
    network.dispose();
    throw error;
  }
  return network;
}

/** The engine's weights and buffers, as a new map. */
export function readWeights(
  graph: Graph,
  network: EngineNetwork,
): Promise<Map<string, Float32Array>> {
  return network.getParameters(graph.parameters.map((parameter) => parameter.name));
}

/**
 * Writes weights in the form that the model came in: same tensors, order, shapes, dtypes and header, byte for byte but the
 * changed ones. A network that came from no file is written in f32 in graph order. The destination is old or new, never
 * partial.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO`, `ERR_FM_NON_FINITE`
 */
export async function saveModel(
  model: Model,
  weights: ReadonlyMap<string, Float32Array>,
  destination: string,
): Promise<void> {
  if (model.writeBack !== undefined) return model.writeBack(weights, destination);
  if (model.file !== null) {
    await using source = await SafetensorsFile.open(model.file);
    await rewriteSafetensors(source, destination, weights);
    return;
  }
  const tensors = model.graph.parameters.map(({ name, shape }) => {
    const values = weights.get(name);
    if (values === undefined) {
      throw new FishermaskError(
        "ERR_FM_MISMATCH",
        `Expected weights for tensor "${name}" but received none`,
      );
    }
    const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    return { name, shape, dtype: "F32" as const, data };
  });
  await writeSafetensors(destination, tensors, { format: "pt", "fishermask.arch": model.arch });
}
