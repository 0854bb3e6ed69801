import type {
  OnnxArray,
  OnnxAttribute,
  OnnxDType,
  OnnxGraph,
  OnnxModel,
  OnnxNode,
  OnnxTensor,
} from "../../../../src/io/onnx/model.js";
import { allocate } from "../../../../src/model/onnx/fold/array.js";
import type { FoldAttributes } from "../../../../src/model/onnx/fold/attributes.js";
import { fold } from "../../../../src/model/onnx/fold/registry.js";
import {
  type InputBinding,
  importOnnx,
  type OnnxImport,
} from "../../../../src/model/onnx/import.js";
import { elementCount, isFloat } from "../../../../src/model/onnx/operand.js";
import { EngineNetwork } from "../../../../src/native/network.js";

export type AttributeLiteral =
  | bigint
  | number
  | string
  | bigint[]
  | number[]
  | string[]
  | OnnxArray;

/** A tensor of these elements, in ONNX's order. */
export function tensor(
  dtype: OnnxDType,
  dims: readonly number[],
  values: readonly (number | bigint)[],
): OnnxArray {
  const data = allocate(dtype, dims);
  values.forEach((value, i) => {
    if (data instanceof BigInt64Array || data instanceof BigUint64Array) data[i] = BigInt(value);
    else data[i] = Number(value);
  });
  return { dtype, dims, data };
}

export function floats(dims: readonly number[], values: readonly number[]): OnnxArray {
  return tensor("float", dims, values);
}

export function int64(dims: readonly number[], values: readonly number[]): OnnxArray {
  return tensor("int64", dims, values);
}

/** 0, 1, 2, … as f32. */
export function counting(dims: readonly number[]): OnnxArray {
  return floats(
    dims,
    Array.from({ length: elementCount(dims) }, (_, i) => i),
  );
}

/** What the data hold, bigints as numbers. */
export function numbers(array: OnnxArray | undefined): readonly number[] {
  return Array.from((array?.data ?? []) as ArrayLike<number | bigint>, Number);
}

function isArray(value: AttributeLiteral): value is OnnxArray {
  return typeof value === "object" && !Array.isArray(value);
}

const kTensors = new WeakMap<OnnxTensor, OnnxArray>();

function fileTensor(name: string, array: OnnxArray): OnnxTensor {
  const { dtype, dims } = array;
  const made: OnnxTensor = {
    name,
    dtype,
    dims,
    elements: elementCount(dims),
    storage: { kind: "none" },
    external: null,
  };
  kTensors.set(made, array);
  return made;
}

function attribute(value: AttributeLiteral): OnnxAttribute {
  if (isArray(value)) return { kind: "tensor", value: fileTensor("", value) };
  if (typeof value === "bigint") return { kind: "int", value };
  if (typeof value === "number") return { kind: "float", value };
  if (typeof value === "string") return { kind: "string", value };
  if (value.every((each) => typeof each === "bigint")) return { kind: "ints", value };
  if (value.every((each) => typeof each === "number")) return { kind: "floats", value };
  return { kind: "strings", value: value as string[] };
}

export interface NodeOptions {
  readonly attributes?: Readonly<Record<string, AttributeLiteral>>;
  readonly opset?: number;
  readonly outputs?: number;
}

function foldAttributes({ attributes = {}, outputs = 1 }: NodeOptions): FoldAttributes {
  const get = <T>(name: string): T | undefined => attributes[name] as T | undefined;
  return {
    outputCount: outputs,
    has: (name) => attributes[name] !== undefined,
    int: (name, fallback) => Number(get<bigint>(name) ?? fallback),
    float: (name, fallback) => (get<number>(name) ?? fallback) as number,
    string: (name, fallback) => (get<string>(name) ?? fallback) as string,
    ints: (name) => get<bigint[]>(name)?.map(Number),
    floats: (name) => get<number[]>(name),
    tensor: (name) => get<OnnxArray>(name),
  };
}

/** Folds one operator; null where it is not foldable. */
export function folded(
  opType: string,
  inputs: readonly (OnnxArray | null)[],
  options: NodeOptions = {},
): readonly OnnxArray[] | null {
  return fold(opType, inputs, foldAttributes(options), options.opset ?? 18);
}

/** The first output of a fold that must work. */
export function foldOne(
  opType: string,
  inputs: readonly (OnnxArray | null)[],
  options: NodeOptions = {},
): OnnxArray {
  const first = folded(opType, inputs, options)?.[0];
  if (first === undefined) throw new Error(`${opType} was not folded`);
  return first;
}

export interface NodeInput {
  readonly array: OnnxArray;
  /** An initializer of the file; without it a float is computed on and an integer known. */
  readonly initializer?: boolean;
}

function model(
  opType: string,
  inputs: readonly (NodeInput | null)[],
  options: NodeOptions,
): OnnxModel {
  const names = inputs.map((input, i) => (input === null ? "" : `in${i}`));
  const outputs = Array.from({ length: options.outputs ?? 1 }, (_, i) => `out${i}`);
  const node: OnnxNode = {
    name: `the_${opType}`,
    opType,
    domain: "",
    overload: "",
    inputs: names,
    outputs,
    attributes: new Map(
      Object.entries(options.attributes ?? {}).map(([name, value]) => [name, attribute(value)]),
    ),
  };
  const info = (name: string) => ({ name, kind: "tensor", dtype: null, dims: null }) as const;
  const stored = inputs.flatMap((input, i) =>
    input?.initializer ? [[`in${i}`, fileTensor(`in${i}`, input.array)] as const] : [],
  );
  const graph: OnnxGraph = {
    name: "one",
    nodes: [node],
    inputs: inputs.flatMap((input, i) => (input && !input.initializer ? [info(`in${i}`)] : [])),
    outputs: outputs.map(info),
    valueInfo: [],
    initializers: new Map(stored),
    sparseInitializers: [],
  };
  return {
    irVersion: 8,
    producer: "test",
    opsets: new Map([["", options.opset ?? 18]]),
    graph,
    functions: [],
    metadata: new Map(),
  };
}

export interface RunNode {
  readonly imported: OnnxImport;
  readonly outputs: readonly { readonly dims: readonly number[]; readonly values: number[] }[];
}

function binding(array: OnnxArray): InputBinding {
  if (!isFloat(array.dtype)) return { kind: "constant", array };
  return { kind: "value", dims: array.dims, dtype: array.dtype, known: array };
}

/** Imports a model of one node and runs it on its inputs in f32 (f64 for doubles). */
export async function runNode(
  opType: string,
  inputs: readonly (NodeInput | OnnxArray | null)[],
  options: NodeOptions = {},
): Promise<RunNode> {
  const given = inputs.map((input) => (input && "data" in input ? { array: input } : input));
  const bindings = new Map(
    given.flatMap((input, i) =>
      input && !input.initializer ? [[`in${i}`, binding(input.array)] as const] : [],
    ),
  );
  const imported = await importOnnx(
    model(opType, given, options),
    async (each) => kTensors.get(each) as OnnxArray,
    { name: "one", inputs: bindings },
  );
  return { imported, outputs: await outputsOf(imported, given) };
}

async function outputsOf(
  imported: OnnxImport,
  inputs: readonly (NodeInput | null)[],
): Promise<RunNode["outputs"]> {
  const fixed = imported.outputs.map(({ dims, array }) => ({ dims, values: [...numbers(array)] }));
  if (imported.graph.outputs.length === 0) return fixed;
  using network = new EngineNetwork(JSON.stringify(imported.graph), {
    real: imported.real,
    threads: 1,
  });
  await network.setParameters(imported.weights);
  const data = new Map(
    imported.inputs.map(({ input, value }) => {
      const array = inputs[Number(input.slice(2))]?.array as OnnxArray;
      return [value.name, array.data as Float32Array] as const;
    }),
  );
  const values = await network.run(data, imported.graph.outputs);
  return imported.outputs.map(({ dims, value }, i) =>
    value === undefined
      ? (fixed[i] as RunNode["outputs"][number])
      : { dims, values: Array.from(values.get(value) ?? []) },
  );
}
