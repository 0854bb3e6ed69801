import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  ATTRIBUTE,
  adding,
  bytes,
  bytesOf,
  concat,
  external,
  graph,
  int,
  model,
  modelOf,
  node,
  packedDoubles,
  packedFloats,
  packedInts,
  raw,
  singleFloats,
  singleInts,
  tensor,
  text,
  value,
} from "../unit/io/onnx/writer.js";
import { safetensorsBytes } from "../unit/io/support.js";

/** The external data file that the seeds name, and its bytes. */
export const DATA_FILE = { name: "w.bin", bytes: bytesOf(new Float32Array(16)) };

const kTestData = "/usr/share/libonnx-testdata/data/node";
const kMaxTestModels = 200;
const kMaxTestBytes = 8192;

function weights(): Uint8Array[] {
  const away = external({ location: DATA_FILE.name, offset: "4", length: "16" });
  return [
    tensor("w", "float", [1, 4], raw(Float32Array.of(1, 2, 3, 4))),
    tensor("w", "float", [1, 4], packedFloats([1, 2, 3, 4])),
    tensor("w", "float", [1, 4], singleFloats([1, 2, 3, 4])),
    tensor("w", "double", [1, 4], packedDoubles([1, 2, 3, 4])),
    tensor("w", "float16", [1, 4], packedInts(5, [0x3c00, 0xc000, 0, 1])),
    tensor("w", "bfloat16", [1, 4], raw(Uint16Array.of(1, 2, 3, 4))),
    tensor("w", "int64", [1, 4], singleInts(7, [1, -2, 3, -4])),
    tensor("w", "uint32", [1, 4], packedInts(11, [1, 2, 3, 4])),
    tensor("w", "int4", [1, 4], packedInts(5, [1, 2])),
    tensor("w", "bool", [1, 4], raw(Uint8Array.of(0, 1, 1, 0))),
    tensor("w", "string", [1, 2], text(6, "a"), text(6, "b")),
    tensor("w", "float", [1, 4], away),
  ];
}

function rich(): Uint8Array {
  const constant = tensor("", "float", [4], raw(Float32Array.of(1, 2, 3, 4)));
  const inner = graph({
    nodes: [node("Mul", ["x", "w"], ["i"])],
    outputs: [value("i", [1, 4])],
  });
  const nodes = [
    node("Constant", [], ["w"], ATTRIBUTE.tensor("value", constant)),
    node(
      "If",
      ["x"],
      ["a"],
      ATTRIBUTE.graph("then_branch", inner),
      ATTRIBUTE.graph("else_branch", inner),
    ),
    node(
      "Conv",
      ["a", "w"],
      ["b"],
      ATTRIBUTE.ints("pads", [1, 1, 1, 1]),
      ATTRIBUTE.string("s", "S"),
    ),
    node("Mix", ["b"], ["y"], ATTRIBUTE.floats("f", [1, 2]), ATTRIBUTE.strings("ss", ["a", "b"])),
  ];
  const body = concat(
    text(1, "F"),
    text(4, "a"),
    text(5, "b"),
    bytes(7, node("Relu", ["a"], ["b"])),
  );
  return model(
    graph({ nodes, inputs: [value("x", [1, "n"])], outputs: [value("y", [null, 4])] }),
    bytes(14, text(1, "k"), text(2, "v")),
    bytes(25, body, bytes(9, int(2, 17)), text(10, "d")),
  );
}

/** Small ONNX models: our own and, where they are installed, those of ONNX's test data. */
export function onnxSeeds(): Uint8Array[] {
  const own = [...weights().map(adding), rich(), modelOf({ nodes: [node("Relu", ["x"], ["y"])] })];
  if (!existsSync(kTestData)) {
    return own;
  }
  const names = readdirSync(kTestData).sort();
  const stride = Math.max(1, Math.floor(names.length / kMaxTestModels));
  const files = names
    .filter((_, index) => index % stride === 0)
    .map((name) => join(kTestData, name, "model.onnx"))
    .filter((path) => existsSync(path));
  const found = files.map((path) => new Uint8Array(readFileSync(path)));
  return [...own, ...found.filter((data) => data.length <= kMaxTestBytes)];
}

/** TensorProto files, as ONNX's test data have them. */
export function tensorSeeds(): Uint8Array[] {
  const list = concat(text(1, "list"), int(2, 1), bytes(3, weights()[0] ?? new Uint8Array(0)));
  return [...weights(), list];
}

/** Small safetensors files. */
export function safetensorsSeeds(): Uint8Array[] {
  const entry = (dtype: string, shape: string, begin: number, end: number) =>
    `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;
  return [
    safetensorsBytes("{}"),
    safetensorsBytes(`{"a":${entry("F32", "[2,2]", 0, 16)}}`, 16),
    safetensorsBytes(`{"a":${entry("F16", "[4]", 0, 8)},"b":${entry("BF16", "[2]", 8, 12)}}`, 12),
    safetensorsBytes(`{"b":${entry("F64", "[1]", 0, 8)},"c":${entry("I64", "[]", 8, 16)}}  `, 16),
    safetensorsBytes(`{"__metadata__":{"format":"pt"},"e":${entry("F32", "[0,3]", 0, 0)}}`),
  ];
}

/** The indices of sharded safetensors models. */
export function shardIndexSeeds(): Uint8Array[] {
  const encoder = new TextEncoder();
  return [
    encoder.encode('{"metadata":{"total_size":32},"weight_map":{"a":"x-1.safetensors"}}'),
    encoder.encode('{"weight_map":{"a":"x-1.safetensors","b":"x-2.safetensors"}}'),
  ];
}
