import { ONNX_DTYPES, type OnnxDType } from "../../../../src/io/onnx/model.js";

/** Bytes of a protobuf message or field: what the functions below put together. */
export type Bytes = Uint8Array<ArrayBuffer>;

export function concat(...parts: Uint8Array[]): Bytes {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}

export function varint(value: number | bigint): Bytes {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    const more = rest > 127n;
    bytes.push(Number(rest & 127n) | (more ? 128 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Uint8Array.from(bytes);
}

export function tag(field: number, wire: number): Bytes {
  return varint(field * 8 + wire);
}

export function int(field: number, value: number | bigint): Bytes {
  return concat(tag(field, 0), varint(value));
}

export function bytes(field: number, ...parts: Uint8Array[]): Bytes {
  const body = concat(...parts);
  return concat(tag(field, 2), varint(body.byteLength), body);
}

export function text(field: number, value: string): Bytes {
  return bytes(field, new TextEncoder().encode(value));
}

export function float(field: number, value: number): Bytes {
  return concat(tag(field, 5), bytesOf(Float32Array.of(value)));
}

export function bytesOf(array: ArrayBufferView): Bytes {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength).slice() as Bytes;
}

/** A TensorProto's fields; `data` are its data fields, as {@link raw} and the others make them. */
export function tensor(
  name: string,
  dtype: OnnxDType,
  dims: readonly (number | bigint)[],
  ...data: Uint8Array[]
): Bytes {
  return concat(
    ...dims.map((dim) => int(1, dim)),
    int(2, ONNX_DTYPES.indexOf(dtype) + 1),
    text(8, name),
    ...data,
  );
}

export function raw(array: ArrayBufferView): Bytes {
  return bytes(9, bytesOf(array));
}

export function packedFloats(values: readonly number[]): Bytes {
  return bytes(4, bytesOf(Float32Array.from(values)));
}

export function singleFloats(values: readonly number[]): Bytes {
  return concat(...values.map((value) => float(4, value)));
}

export function packedDoubles(values: readonly number[]): Bytes {
  return bytes(10, bytesOf(Float64Array.from(values)));
}

export function singleDoubles(values: readonly number[]): Bytes {
  return concat(...values.map((value) => concat(tag(10, 1), bytesOf(Float64Array.of(value)))));
}

export function packedInts(field: number, values: readonly (number | bigint)[]): Bytes {
  return bytes(field, ...values.map(varint));
}

export function singleInts(field: number, values: readonly (number | bigint)[]): Bytes {
  return concat(...values.map((value) => int(field, value)));
}

export function external(entries: Readonly<Record<string, string>>): Bytes {
  const pairs = Object.entries(entries).map(([key, value]) =>
    bytes(13, text(1, key), text(2, value)),
  );
  return concat(...pairs, int(14, 1));
}

export const ATTRIBUTE = {
  float: (name: string, value: number) => concat(text(1, name), float(2, value), int(20, 1)),
  int: (name: string, value: number | bigint) => concat(text(1, name), int(3, value), int(20, 2)),
  string: (name: string, value: string) => concat(text(1, name), text(4, value), int(20, 3)),
  tensor: (name: string, value: Uint8Array) => concat(text(1, name), bytes(5, value), int(20, 4)),
  graph: (name: string, value: Uint8Array) => concat(text(1, name), bytes(6, value), int(20, 5)),
  floats: (name: string, values: readonly number[]) =>
    concat(text(1, name), ...values.map((value) => float(7, value)), int(20, 6)),
  ints: (name: string, values: readonly (number | bigint)[]) =>
    concat(text(1, name), packedInts(8, values), int(20, 7)),
  strings: (name: string, values: readonly string[]) =>
    concat(text(1, name), ...values.map((value) => text(9, value)), int(20, 8)),
};

export function node(
  opType: string,
  inputs: readonly string[],
  outputs: readonly string[],
  ...attributes: Uint8Array[]
): Bytes {
  return concat(
    ...inputs.map((name) => text(1, name)),
    ...outputs.map((name) => text(2, name)),
    text(3, `${opType}_node`),
    text(4, opType),
    ...attributes.map((attribute) => bytes(5, attribute)),
  );
}

/** A ValueInfoProto of a tensor of floats; a null dim is one of unknown size. */
export function value(name: string, dims: readonly (number | string | null)[]): Bytes {
  const shape = dims.map((dim) => {
    const size = typeof dim === "number" ? int(1, dim) : text(2, dim ?? "");
    return bytes(1, dim === null ? new Uint8Array(0) : size);
  });
  return concat(text(1, name), bytes(2, bytes(1, int(1, 1), bytes(2, ...shape))));
}

export interface GraphParts {
  readonly nodes?: readonly Uint8Array[];
  readonly initializers?: readonly Uint8Array[];
  readonly inputs?: readonly Uint8Array[];
  readonly outputs?: readonly Uint8Array[];
  readonly more?: readonly Uint8Array[];
}

export function graph(parts: GraphParts): Bytes {
  return concat(
    ...(parts.nodes ?? []).map((part) => bytes(1, part)),
    text(2, "g"),
    ...(parts.initializers ?? []).map((part) => bytes(5, part)),
    ...(parts.inputs ?? []).map((part) => bytes(11, part)),
    ...(parts.outputs ?? []).map((part) => bytes(12, part)),
    ...(parts.more ?? []),
  );
}

/** A ModelProto of IR version 8 and operator set 17 around a GraphProto. */
export function model(graphBytes: Uint8Array, ...more: Uint8Array[]): Bytes {
  return concat(
    int(1, 8),
    text(2, "writer"),
    text(3, "1.0"),
    bytes(7, graphBytes),
    bytes(8, int(2, 17)),
    ...more,
  );
}

/** A model of these initializers and nodes, with input x and output y of shape (1, 4). */
export function modelOf(parts: GraphParts): Bytes {
  return model(graph({ inputs: [value("x", [1, 4])], outputs: [value("y", [1, 4])], ...parts }));
}

/** y = x + w, with the initializer w as it is given. */
export function adding(weight: Uint8Array): Bytes {
  return modelOf({ nodes: [node("Add", ["x", "w"], ["y"])], initializers: [weight] });
}
