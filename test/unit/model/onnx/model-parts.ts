import type {
  OnnxArray,
  OnnxAttribute,
  OnnxDType,
  OnnxFunction,
  OnnxGraph,
  OnnxModel,
  OnnxNode,
  OnnxTensor,
  OnnxValueInfo,
} from "../../../../src/io/onnx/model.js";
import { realValues } from "../../../../src/model/onnx/engine-graph.js";
import {
  type InputBinding,
  importOnnx,
  type OnnxImport,
} from "../../../../src/model/onnx/import.js";
import { EngineNetwork } from "../../../../src/native/network.js";

const kData = new WeakMap<OnnxTensor, OnnxArray>();

export function floats(dims: readonly number[], values: readonly number[]): OnnxArray {
  return { dtype: "float", dims, data: Float32Array.from(values) };
}

export function int64s(dims: readonly number[], values: readonly number[]): OnnxArray {
  return { dtype: "int64", dims, data: BigInt64Array.from(values, BigInt) };
}

/** 1, 2, 3, … of these sizes, divided by `divisor`. */
export function counting(dims: readonly number[], divisor = 1): OnnxArray {
  const count = dims.reduce((product, size) => product * size, 1);
  return floats(
    dims,
    Array.from({ length: count }, (_, i) => (i + 1) / divisor),
  );
}

/** A tensor of a model whose data need no file. */
export function tensor(name: string, array: OnnxArray): OnnxTensor {
  const { dtype, dims } = array;
  const elements = dims.reduce((product, size) => product * size, 1);
  const made: OnnxTensor = {
    name,
    dtype,
    dims,
    elements,
    storage: { kind: "none" },
    external: null,
  };
  kData.set(made, array);
  return made;
}

export async function readTensor(made: OnnxTensor): Promise<OnnxArray> {
  const array = kData.get(made);
  if (array === undefined) throw new Error(`no data for ${made.name}`);
  return array;
}

export const ints = (...values: readonly number[]): OnnxAttribute => ({
  kind: "ints",
  value: values.map(BigInt),
});
export const int = (value: number): OnnxAttribute => ({ kind: "int", value: BigInt(value) });
export const float = (value: number): OnnxAttribute => ({ kind: "float", value });
export const text = (value: string): OnnxAttribute => ({ kind: "string", value });

export function node(
  opType: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes: Readonly<Record<string, OnnxAttribute>> = {},
  domain = "",
): OnnxNode {
  return {
    name: `the ${opType}`,
    opType,
    domain,
    overload: "",
    inputs,
    outputs,
    attributes: new Map(Object.entries(attributes)),
  };
}

export function info(
  name: string,
  dims: readonly (number | string | null)[],
  dtype: OnnxDType = "float",
): OnnxValueInfo {
  return { name, kind: "tensor", dtype, dims };
}

export interface ModelParts {
  readonly nodes: readonly OnnxNode[];
  readonly inputs: readonly OnnxValueInfo[];
  readonly outputs: readonly string[];
  readonly initializers?: Readonly<Record<string, OnnxArray>>;
  readonly functions?: readonly OnnxFunction[];
  readonly opset?: number;
}

export function graph(parts: ModelParts): OnnxGraph {
  const initializers = Object.entries(parts.initializers ?? {});
  return {
    name: "g",
    nodes: parts.nodes,
    inputs: parts.inputs,
    outputs: parts.outputs.map((name) => info(name, [])),
    valueInfo: [],
    initializers: new Map(initializers.map(([name, array]) => [name, tensor(name, array)])),
    sparseInitializers: [],
  };
}

export function model(parts: ModelParts): OnnxModel {
  const opset = parts.opset ?? 17;
  return {
    irVersion: 8,
    producer: "",
    opsets: new Map([["", opset]]),
    graph: graph(parts),
    functions: parts.functions ?? [],
    metadata: new Map(),
  };
}

/** Imports with every input fed by these arrays: floats are computed on, the others are known. */
export function importParts(
  parts: ModelParts,
  arrays: Readonly<Record<string, OnnxArray>>,
  known = false,
): Promise<OnnxImport> {
  const inputs = new Map(
    Object.entries(arrays).map(([name, array]): [string, InputBinding] => {
      const { dtype, dims } = array;
      if (dtype !== "float") return [name, { kind: "constant", array }];
      return [name, { kind: "value", dims, dtype, ...(known ? { known: array } : {}) }];
    }),
  );
  return importOnnx(model(parts), readTensor, { name: "g", inputs });
}

/** The first output's dims and numbers, computed by the engine. */
export async function run(
  parts: ModelParts,
  arrays: Readonly<Record<string, OnnxArray>>,
): Promise<{ readonly dims: readonly number[]; readonly values: readonly number[] }> {
  const imported = await importParts(parts, arrays, true);
  const [output] = imported.outputs;
  if (output === undefined) throw new Error("no output");
  if (output.array !== undefined) {
    return { dims: output.dims, values: Array.from(output.array.data, Number) };
  }
  using network = new EngineNetwork(JSON.stringify(imported.graph), { threads: 1 });
  await network.setParameters(imported.weights);
  const data = new Map(
    imported.inputs.map(({ input, value }) => [value.name, realValues(arrays[input] as OnnxArray)]),
  );
  const values = await network.run(data, [output.value as string]);
  return { dims: output.dims, values: [...(values.get(output.value as string) ?? [])] };
}
