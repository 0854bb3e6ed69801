import type { OnnxDType } from "./model.js";
import { ONNX_DTYPES } from "./model.js";

/** An attribute of a node to be written. */
export type OnnxAttributeValue =
  | { readonly float: number }
  | { readonly int: number }
  | { readonly ints: readonly number[] }
  | { readonly string: string };

export interface OnnxNodeParts {
  readonly name: string;
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, OnnxAttributeValue>>;
}

export interface OnnxTensorParts {
  readonly name: string;
  readonly dtype: OnnxDType;
  readonly dims: readonly number[];
  /** Little-endian, row-major. */
  readonly bytes: Uint8Array;
}

/** A float tensor at the graph's border; a text is a size of that name. */
export interface OnnxValueParts {
  readonly name: string;
  readonly dims: readonly (number | string)[];
}

export interface OnnxModelParts {
  readonly name: string;
  readonly producer: string;
  readonly producerVersion: string;
  readonly opset: number;
  readonly nodes: readonly OnnxNodeParts[];
  readonly initializers: readonly OnnxTensorParts[];
  readonly inputs: readonly OnnxValueParts[];
  readonly outputs: readonly OnnxValueParts[];
}

// IR 8 is what operator set 17 came with: read by everything since 2022.
const kIrVersion = 8;
const kWire = { varint: 0, bytes: 2, fixed32: 5 } as const;
const kFloat = ONNX_DTYPES.indexOf("float") + 1;

/** A message as its pieces, so that large tensors are never copied together. */
class Message {
  readonly pieces: Uint8Array[] = [];
  size = 0;

  int(field: number, value: number): this {
    return this.#tag(field, kWire.varint).#varint(value);
  }

  float(field: number, value: number): this {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    return this.#tag(field, kWire.fixed32).#push(bytes);
  }

  bytes(field: number, bytes: Uint8Array): this {
    return this.#tag(field, kWire.bytes).#varint(bytes.byteLength).#push(bytes);
  }

  text(field: number, text: string): this {
    return this.bytes(field, new TextEncoder().encode(text));
  }

  message(field: number, { pieces, size }: Message): this {
    this.#tag(field, kWire.bytes).#varint(size);
    for (const piece of pieces) this.#push(piece);
    return this;
  }

  #tag(field: number, wire: number): this {
    return this.#varint(field * 8 + wire);
  }

  #varint(value: number): this {
    const bytes: number[] = [];
    let rest = BigInt.asUintN(64, BigInt(value));
    for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
    bytes.push(Number(rest));
    return this.#push(Uint8Array.from(bytes));
  }

  #push(bytes: Uint8Array): this {
    this.pieces.push(bytes);
    this.size += bytes.byteLength;
    return this;
  }
}

// Field numbers below are those of onnx/onnx.proto.
function attributeOf(name: string, value: OnnxAttributeValue): Message {
  const message = new Message().text(1, name);
  if ("float" in value) return message.float(2, value.float).int(20, 1);
  if ("int" in value) return message.int(3, value.int).int(20, 2);
  if ("string" in value) return message.text(4, value.string).int(20, 3);
  for (const item of value.ints) message.int(8, item);
  return message.int(20, 7);
}

function nodeOf({ name, op, inputs, outputs, attributes = {} }: OnnxNodeParts): Message {
  const message = new Message();
  for (const input of inputs) message.text(1, input);
  for (const output of outputs) message.text(2, output);
  message.text(3, name).text(4, op);
  for (const [key, value] of Object.entries(attributes))
    message.message(5, attributeOf(key, value));
  return message;
}

function tensorOf({ name, dtype, dims, bytes }: OnnxTensorParts): Message {
  const message = new Message();
  for (const size of dims) message.int(1, size);
  return message
    .int(2, ONNX_DTYPES.indexOf(dtype) + 1)
    .text(8, name)
    .bytes(9, bytes);
}

function valueInfoOf({ name, dims }: OnnxValueParts): Message {
  const shape = new Message();
  for (const size of dims) {
    const dim = new Message();
    shape.message(1, typeof size === "number" ? dim.int(1, size) : dim.text(2, size));
  }
  const tensor = new Message().int(1, kFloat).message(2, shape);
  return new Message().text(1, name).message(2, new Message().message(1, tensor));
}

/**
 * An ONNX model in protobuf's wire format, as pieces to be written one after the other.
 *
 * Source: onnx/onnx.proto.
 */
export function encodeOnnx(parts: OnnxModelParts): { pieces: readonly Uint8Array[]; size: number } {
  const graph = new Message();
  for (const node of parts.nodes) graph.message(1, nodeOf(node));
  graph.text(2, parts.name);
  for (const tensor of parts.initializers) graph.message(5, tensorOf(tensor));
  for (const input of parts.inputs) graph.message(11, valueInfoOf(input));
  for (const output of parts.outputs) graph.message(12, valueInfoOf(output));
  return new Message()
    .int(1, kIrVersion)
    .text(2, parts.producer)
    .text(3, parts.producerVersion)
    .message(7, graph)
    .message(8, new Message().int(2, parts.opset));
}
