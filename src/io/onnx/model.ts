import type { OnnxStorage } from "./storage.js";

/** The element types of TensorProto.DataType, in its order from 1, in lower case. Source: onnx/onnx.proto. */
export const ONNX_DTYPES = [
  "float",
  "uint8",
  "int8",
  "uint16",
  "int16",
  "int32",
  "int64",
  "string",
  "bool",
  "float16",
  "double",
  "uint32",
  "uint64",
  "complex64",
  "complex128",
  "bfloat16",
  "float8e4m3fn",
  "float8e4m3fnuz",
  "float8e5m2",
  "float8e5m2fnuz",
  "uint4",
  "int4",
  "float4e2m1",
  "float8e8m0",
  "uint2",
  "int2",
  "float6e2m3",
  "float6e3m2",
] as const;

export type OnnxDType = (typeof ONNX_DTYPES)[number];

/** A tensor of a file. Its elements stay in the file until `OnnxFile.readTensor` is asked for them. */
export interface OnnxTensor {
  /** Empty for most tensors in attributes. */
  readonly name: string;
  readonly dtype: OnnxDType;
  /** Row-major; empty for a scalar. */
  readonly dims: readonly number[];
  /** Product of `dims`. */
  readonly elements: number;
  /** Where its bytes stand: for this folder only. */
  readonly storage: OnnxStorage;
  /** The file of its data, relative to the model's folder, or null where the model's own file holds it. */
  readonly external: string | null;
}

export type OnnxData =
  | Float32Array
  | Float64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array;

/**
 * The elements of a tensor, row-major. float16 and bfloat16 are widened to a Float32Array, bool is a Uint8Array of 0 and
 * 1, int4 and int2 (uint4 and uint2) an Int8Array (Uint8Array) of one element a byte.
 */
export interface OnnxArray {
  readonly dtype: OnnxDType;
  readonly dims: readonly number[];
  readonly data: OnnxData;
}

export type OnnxAttribute =
  | { readonly kind: "float"; readonly value: number }
  | { readonly kind: "int"; readonly value: bigint }
  /** A text in UTF-8; bytes that are none are of kind "other". */
  | { readonly kind: "string"; readonly value: string }
  | { readonly kind: "tensor"; readonly value: OnnxTensor }
  | { readonly kind: "graph"; readonly value: OnnxGraph }
  | { readonly kind: "floats"; readonly value: readonly number[] }
  | { readonly kind: "ints"; readonly value: readonly bigint[] }
  | { readonly kind: "strings"; readonly value: readonly string[] }
  | { readonly kind: "tensors"; readonly value: readonly OnnxTensor[] }
  | { readonly kind: "graphs"; readonly value: readonly OnnxGraph[] }
  /** Inside a function's body: the value of the calling node's attribute of this name. */
  | { readonly kind: "reference"; readonly value: string }
  /** What fishermask does not read: `what` says what it is, for a message. */
  | { readonly kind: "other"; readonly what: string };

export interface OnnxNode {
  /** Often empty. */
  readonly name: string;
  readonly opType: string;
  /** Empty for the standard operators ("ai.onnx" is read as empty). */
  readonly domain: string;
  /** Which overload of a function is called; nearly always empty. */
  readonly overload: string;
  /** Names of values; an empty one is an optional input that is left out. */
  readonly inputs: readonly string[];
  /** Names of values; an empty one is an output that nobody asked for. */
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, OnnxAttribute>;
}

export interface OnnxValueInfo {
  readonly name: string;
  readonly kind: "tensor" | "sequence" | "map" | "optional" | "sparse" | "unknown";
  /** Null where the kind is no tensor, or the file does not say. */
  readonly dtype: OnnxDType | null;
  /** A number, a symbol ("batch"), or null for an unknown size; null for an unknown rank. */
  readonly dims: readonly (number | string | null)[] | null;
}

export interface OnnxGraph {
  readonly name: string;
  /** Each after those that make its inputs (the main graph's are put in this order where the file's is another). */
  readonly nodes: readonly OnnxNode[];
  /** May include initializers (always before IR version 4): those have a default and need not be fed. */
  readonly inputs: readonly OnnxValueInfo[];
  readonly outputs: readonly OnnxValueInfo[];
  readonly valueInfo: readonly OnnxValueInfo[];
  /** By name, in the file's order. */
  readonly initializers: ReadonlyMap<string, OnnxTensor>;
  /** Names of the initializers stored as sparse tensors, whose data are not read. */
  readonly sparseInitializers: readonly string[];
}

/** A function of the model itself: a node whose domain, opType and overload are these stands for the body. */
export interface OnnxFunction {
  readonly name: string;
  readonly domain: string;
  readonly overload: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Names of the attributes without a default. */
  readonly attributes: readonly string[];
  /** Attributes with a default. */
  readonly defaults: ReadonlyMap<string, OnnxAttribute>;
  readonly nodes: readonly OnnxNode[];
  readonly opsets: ReadonlyMap<string, number>;
}

export interface OnnxModel {
  readonly irVersion: number;
  /** Name and version of the program that wrote the file, or empty. */
  readonly producer: string;
  /** Version by domain; the standard operators' domain is "". */
  readonly opsets: ReadonlyMap<string, number>;
  readonly graph: OnnxGraph;
  readonly functions: readonly OnnxFunction[];
  readonly metadata: ReadonlyMap<string, string>;
}
