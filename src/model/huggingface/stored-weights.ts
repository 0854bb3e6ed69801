import { firstNonFinite, nonFiniteError } from "../../io/float-format.js";
import type { SafetensorsFile } from "../../io/safetensors.js";
import { FishermaskError } from "../../native/errors.js";
import type { Graph, ParameterSpec } from "../graph.js";
import { shapeText } from "../graph-error.js";
import type { HuggingFaceNetwork, StoredParameter } from "./network.js";

const kNamedAtMost = 5;
const kRealTypes: ReadonlySet<string> = new Set(["F64", "F32", "F16", "BF16"]);

/** Tensor → the file that holds it. */
export type TensorFiles = ReadonlyMap<string, SafetensorsFile>;

function storedAs(network: HuggingFaceNetwork, name: string): StoredParameter {
  return network.stored.get(name) ?? { tensors: [name], transposed: false };
}

/** (rows, columns) → (columns, rows), row-major. */
export function transposed(
  values: Float32Array,
  rows: number,
  columns: number,
): Float32Array<ArrayBuffer> {
  const out = new Float32Array(values.length);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) out[c * rows + r] = values[r * columns + c] as number;
  }
  return out;
}

function problemOf(tensor: string, shape: readonly number[], files: TensorFiles): string[] {
  const info = files.get(tensor)?.info(tensor);
  if (info === undefined) return [`${tensor} ${shapeText(shape)} is missing`];
  if (shapeText(info.shape) !== shapeText(shape)) {
    return [`${tensor} is expected to be ${shapeText(shape)} but is ${shapeText(info.shape)}`];
  }
  if (kRealTypes.has(info.dtype)) return [];
  return [`${tensor} is expected to be of a floating type but is ${info.dtype}`];
}

/**
 * Holds the files' tensors against the network: all there, of the configuration's shapes and of floating types, and none
 * but known buffers beside them.
 *
 * @param source what the message names
 * @throws {@link FishermaskError} `ERR_FM_MISMATCH` naming up to 5 tensors; `details.problems` has them all
 */
export function checkTensors(
  network: HuggingFaceNetwork,
  files: TensorFiles,
  source: string,
): void {
  const known = new Set<string>();
  const problems = network.graph.parameters.flatMap(({ name, shape }) => {
    const { tensors, transposed: turned } = storedAs(network, name);
    return tensors.flatMap((tensor) => {
      known.add(tensor);
      return problemOf(tensor, turned ? shape.toReversed() : shape, files);
    });
  });
  for (const [tensor, file] of files) {
    if (known.has(tensor) || network.buffers.test(tensor)) continue;
    problems.push(`${tensor} ${shapeText(file.info(tensor).shape)} is unexpected`);
  }
  if (problems.length === 0) return;
  const left = problems.length - kNamedAtMost;
  const named = problems.slice(0, kNamedAtMost).join("; ");
  throw new FishermaskError(
    "ERR_FM_MISMATCH",
    `Expected the tensors of ${network.graph.name} for ${source} but received others: ${named}${left > 0 ? `; and ${left} more` : ""}`,
    { details: { problems } },
  );
}

async function readFinite(tensor: string, files: TensorFiles): Promise<Float32Array> {
  const file = files.get(tensor) as SafetensorsFile;
  const values = await file.readFloat32(tensor);
  const bad = firstNonFinite(values);
  if (bad < 0) return values;
  throw nonFiniteError(file.path, tensor, bad, "a finite number", values[bad]);
}

async function readParameter(
  { name, shape }: ParameterSpec,
  network: HuggingFaceNetwork,
  files: TensorFiles,
): Promise<Float32Array> {
  const { tensors, transposed: turned } = storedAs(network, name);
  const [first = name, ...copies] = tensors;
  const values = await readFinite(first, files);
  for (const copy of copies) {
    const other = await readFinite(copy, files);
    const differing = other.findIndex((value, i) => value !== values[i]);
    if (differing < 0) continue;
    const what = `the values of tensor "${first}", to which the configuration ties it,`;
    throw new FishermaskError(
      "ERR_FM_MISMATCH",
      `Expected ${what} for tensor "${copy}" of ${files.get(copy)?.path} but received others from element ${differing}`,
    );
  }
  if (!turned) return values;
  const [rows = 1, columns = 1] = shape;
  return transposed(values, columns, rows);
}

/**
 * The network's parameters by name, in the graph's layout.
 *
 * @throws {@link FishermaskError} `ERR_FM_NON_FINITE` naming the tensor; `ERR_FM_MISMATCH` for a tied weight that is stored
 * twice with different values; `ERR_FM_BAD_FILE`, `ERR_FM_IO`
 */
export async function readStoredWeights(
  network: HuggingFaceNetwork,
  files: TensorFiles,
): Promise<Map<string, Float32Array>> {
  const weights = new Map<string, Float32Array>();
  for (const parameter of network.graph.parameters) {
    weights.set(parameter.name, await readParameter(parameter, network, files));
  }
  return weights;
}

/**
 * Weights in the graph's layout as tensors in the files' layout, by the files' names. Parameters that are not given are
 * left out.
 */
export function toStoredTensors(
  network: { readonly graph: Graph } & Pick<HuggingFaceNetwork, "stored">,
  weights: ReadonlyMap<string, Float32Array>,
): Map<string, Float32Array> {
  const tensors = new Map<string, Float32Array>();
  for (const { name, shape } of network.graph.parameters) {
    const values = weights.get(name);
    if (values === undefined) continue;
    const stored = network.stored.get(name) ?? { tensors: [name], transposed: false };
    const [rows = 1, columns = 1] = shape;
    const turned = stored.transposed ? transposed(values, rows, columns) : values;
    for (const tensor of stored.tensors) tensors.set(tensor, turned);
  }
  return tensors;
}
