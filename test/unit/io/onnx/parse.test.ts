import { existsSync, readdirSync, readFileSync } from "node:fs";
import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { findTensor } from "../../../../src/io/onnx/find-tensor.js";
import type { OnnxModel } from "../../../../src/io/onnx/model.js";
import { OnnxFile } from "../../../../src/io/onnx/onnx-file.js";
import { parseTensorProto } from "../../../../src/io/onnx/tensor-proto.js";
import { FishermaskError } from "../../../../src/native/errors.js";
import { expectError, temporaryFolder } from "../support.js";
import {
  ATTRIBUTE,
  adding,
  bytes,
  concat,
  float,
  type GraphParts,
  graph,
  int,
  model,
  modelOf,
  node,
  packedFloats,
  raw,
  tag,
  tensor,
  text,
  value,
  varint,
} from "./writer.js";

const at = temporaryFolder();
let fileNumber = 0;

async function fileOf(data: Uint8Array): Promise<string> {
  fileNumber += 1;
  const path = at(`model-${fileNumber}.onnx`);
  await writeFile(path, data);
  return path;
}

async function parsed(data: Uint8Array): Promise<OnnxModel> {
  await using file = await OnnxFile.open(await fileOf(data));
  return file.model;
}

const kWeight = tensor("w", "float", [1, 4], raw(Float32Array.of(1, 2, 3, 4)));
const kAdd = node("Add", ["x", "w"], ["y"]);

async function refuses(data: Uint8Array, ...words: string[]): Promise<void> {
  const path = await fileOf(data);
  await expectError(() => OnnxFile.open(path), "ERR_FM_BAD_FILE", path, ...words);
}

describe("a model", () => {
  it("has what the file says of it", async () => {
    const opset = bytes(8, text(1, "com.example"), int(2, 3));
    const metadata = bytes(14, text(1, "key"), text(2, "välue"));
    const { graph: main, ...rest } = await parsed(
      model(
        graph({
          nodes: [kAdd],
          initializers: [kWeight],
          inputs: [value("x", [1, "n", null])],
          outputs: [value("y", [])],
          more: [bytes(13, text(1, "s"), bytes(2, bytes(4))), bytes(13, text(1, "u"))],
        }),
        opset,
        metadata,
        text(999, "unknown"),
      ),
    );
    expect(rest).toEqual({
      irVersion: 8,
      producer: "writer 1.0",
      opsets: new Map([
        ["", 17],
        ["com.example", 3],
      ]),
      functions: [],
      metadata: new Map([["key", "välue"]]),
    });
    expect(main.inputs).toEqual([
      { name: "x", kind: "tensor", dtype: "float", dims: [1, "n", null] },
    ]);
    expect(main.outputs).toEqual([{ name: "y", kind: "tensor", dtype: "float", dims: [] }]);
    expect(main.valueInfo).toEqual([
      { name: "s", kind: "sequence", dtype: null, dims: null },
      { name: "u", kind: "unknown", dtype: null, dims: null },
    ]);
    expect(main.initializers.get("w")).toMatchObject({
      name: "w",
      dtype: "float",
      dims: [1, 4],
      elements: 4,
      external: null,
    });
    expect(main.nodes).toEqual([
      {
        name: "Add_node",
        opType: "Add",
        domain: "",
        overload: "",
        inputs: ["x", "w"],
        outputs: ["y"],
        attributes: new Map(),
      },
    ]);
  });

  it("has attributes of every kind", async () => {
    const attributes = [
      ATTRIBUTE.float("f", 0.5),
      ATTRIBUTE.int("i", -3),
      ATTRIBUTE.string("s", "text"),
      ATTRIBUTE.tensor("t", kWeight),
      ATTRIBUTE.graph("g", graph({ nodes: [node("Relu", ["x"], ["inner"])] })),
      ATTRIBUTE.floats("fs", [1, 2]),
      ATTRIBUTE.ints("is", [1, -1, 2n ** 62n]),
      ATTRIBUTE.strings("ss", ["a", ""]),
      concat(text(1, "ts"), bytes(10, kWeight), int(20, 9)),
      concat(text(1, "gs"), bytes(11, graph({})), int(20, 10)),
      concat(text(1, "bytes"), bytes(4, Uint8Array.of(0xff)), int(20, 3)),
      concat(text(1, "sparse"), bytes(22, bytes(1, kWeight)), int(20, 11)),
      concat(text(1, "reference"), text(21, "outer"), int(20, 2)),
      concat(text(1, "zero"), int(20, 2)),
      concat(text(1, "untyped"), bytes(7, new Uint8Array(8))),
    ];
    const main = (await parsed(modelOf({ nodes: [node("Op", ["x"], ["y"], ...attributes)] })))
      .graph;
    const found = main.nodes[0]?.attributes;
    expect(found?.get("f")).toEqual({ kind: "float", value: 0.5 });
    expect(found?.get("i")).toEqual({ kind: "int", value: -3n });
    expect(found?.get("s")).toEqual({ kind: "string", value: "text" });
    expect(found?.get("t")).toMatchObject({ kind: "tensor", value: { dims: [1, 4] } });
    expect(found?.get("g")).toMatchObject({
      kind: "graph",
      value: { nodes: [{ opType: "Relu" }] },
    });
    expect(found?.get("fs")).toEqual({ kind: "floats", value: [1, 2] });
    expect(found?.get("is")).toEqual({ kind: "ints", value: [1n, -1n, 2n ** 62n] });
    expect(found?.get("ss")).toEqual({ kind: "strings", value: ["a", ""] });
    expect(found?.get("ts")).toMatchObject({ kind: "tensors", value: [{ name: "w" }] });
    expect(found?.get("gs")).toMatchObject({ kind: "graphs", value: [{ name: "g" }] });
    expect(found?.get("bytes")).toEqual({ kind: "other", what: "bytes that are no UTF-8" });
    expect(found?.get("sparse")).toEqual({ kind: "other", what: "a sparse tensor" });
    expect(found?.get("reference")).toEqual({ kind: "reference", value: "outer" });
    expect(found?.get("zero")).toEqual({ kind: "int", value: 0n });
    expect(found?.get("untyped")).toEqual({ kind: "floats", value: [0, 0] });
  });

  it("has functions", async () => {
    const body = concat(
      text(1, "Twice"),
      text(4, "a"),
      text(5, "b"),
      text(6, "alpha"),
      bytes(7, node("Add", ["a", "a"], ["b"])),
      bytes(9, int(2, 17)),
      text(10, "local"),
      bytes(11, ATTRIBUTE.float("beta", 2)),
    );
    const { functions } = await parsed(
      model(graph({ inputs: [value("x", [1])], outputs: [value("x", [1])] }), bytes(25, body)),
    );
    expect(functions).toHaveLength(1);
    expect(functions[0]).toMatchObject({
      name: "Twice",
      domain: "local",
      inputs: ["a"],
      outputs: ["b"],
      attributes: ["alpha"],
      nodes: [{ opType: "Add" }],
      opsets: new Map([["", 17]]),
      defaults: new Map([["beta", { kind: "float", value: 2 }]]),
    });
  });

  it("reads ai.onnx as the standard domain", async () => {
    const plain = graph({ inputs: [value("x", [1])] });
    const same = await parsed(model(plain, bytes(8, text(1, "ai.onnx"), int(2, 17))));
    expect(same.opsets).toEqual(new Map([["", 17]]));
    await refuses(model(plain, bytes(8, text(1, "ai.onnx"), int(2, 16))), "17 and 16");
  });

  it("before IR version 3 has operator set 1", async () => {
    const old = concat(int(1, 2), bytes(7, graph({})));
    expect((await parsed(old)).opsets).toEqual(new Map([["", 1]]));
    await refuses(concat(int(1, 3), bytes(7, graph({}))), "opset_import");
  });

  it("has its constants by the name of their value", async () => {
    const constant = node("Constant", [], ["c"], ATTRIBUTE.tensor("value", kWeight));
    const found = await parsed(modelOf({ nodes: [constant, node("Add", ["x", "c"], ["y"])] }));
    expect(findTensor(found, "c")).toMatchObject({ name: "w", elements: 4 });
    expect(findTensor(found, "y")).toBeUndefined();
    expect(findTensor(found, "w")).toBeUndefined();
  });
});

describe("the order of the nodes", () => {
  const relu = (from: string, to: string) => node("Relu", [from], [to]);
  const order = async (...nodes: Uint8Array[]) =>
    (await parsed(modelOf({ nodes }))).graph.nodes.map((each) => each.outputs[0]);

  it("is the file's where that is one", async () => {
    expect(await order(relu("x", "b"), relu("x", "a"), relu("a", "y"))).toEqual(["b", "a", "y"]);
  });

  it("is put right where it is not", async () => {
    const shuffled = [relu("b", "y"), relu("a", "b"), relu("x", "a")];
    expect(await order(...shuffled)).toEqual(["a", "b", "y"]);
  });

  it("follows what subgraphs take from outside them", async () => {
    const inner = graph({
      nodes: [node("Add", ["late", "late"], ["in"])],
      outputs: [value("in", [])],
    });
    const branch = node("If", ["x"], ["y"], ATTRIBUTE.graph("then_branch", inner));
    expect(await order(branch, relu("x", "late"))).toEqual(["late", "y"]);
    await refuses(modelOf({ nodes: [branch] }), "If_node", '"late", which nothing makes');
  });

  it("stands a chain of 50,000 nodes in reverse", async () => {
    const nodes = Array.from({ length: 50_000 }, (_, i) =>
      relu(i === 0 ? "x" : `v${i - 1}`, `v${i}`),
    );
    const found = await order(...nodes.reverse(), relu("v49999", "y"));
    expect(found.slice(0, 2)).toEqual(["v0", "v1"]);
    expect(found).toHaveLength(50_001);
  });
});

const kDeep = (depth: number): Uint8Array =>
  depth === 0
    ? graph({})
    : graph({ nodes: [node("If", [], [], ATTRIBUTE.graph("then_branch", kDeep(depth - 1)))] });

function initializerOf(...data: Uint8Array[]): Uint8Array {
  return adding(tensor("w", "float", [1, 4], ...data));
}

function dimsOf(...dims: (number | bigint)[]): Uint8Array {
  return adding(tensor("w", "float", dims, raw(new Float32Array(4))));
}

function graphOf(parts: GraphParts): Uint8Array {
  return modelOf({ nodes: [kAdd], initializers: [kWeight], ...parts });
}

describe("a file that is refused", () => {
  const inWeight = "graph.initializer[0] (byte ";
  const cases: [string, Uint8Array, string[]][] = [
    ["is empty", new Uint8Array(0), ["the length"]],
    ["is no protobuf", new TextEncoder().encode("<html>"), ["the message"]],
    ["has no graph", int(1, 8), ["a graph", "is it an ONNX model?"]],
    ["has no IR version", bytes(7, graph({})), ["an ir_version"]],
    ["has two graphs", model(graph({}), bytes(7, graph({}))), ["one graph"]],
    ["has metadata twice", model(graph({}), bytes(14), bytes(14)), ["metadata_props"]],
    ["has a graph that is a varint", concat(int(1, 8), int(7, 1)), ["graph (byte 2)", "a varint"]],
    ["nests 65 graphs", model(kDeep(64)), ["64 deep", "graph.node[0].attribute[0].g.node[0]"]],
    ["has a name that is no UTF-8", model(bytes(2, Uint8Array.of(0xff))), ["graph (byte", "UTF-8"]],
    ["has an initializer twice", graphOf({ initializers: [kWeight, kWeight] }), ['"w" twice']],
    [
      "has a nameless initializer",
      graphOf({ initializers: [tensor("", "float", [0])] }),
      ["a name for every initializer"],
    ],
    ["has an input twice", graphOf({ inputs: [value("x", []), value("x", [])] }), ['"x" twice']],
    [
      "makes a value twice",
      graphOf({ nodes: [kAdd, kAdd] }),
      ["graph.node[1]", '"y", which is made'],
    ],
    ["makes an input", graphOf({ nodes: [node("A", [], ["x"])] }), ["graph.node[0]", '"x"']],
    ["reads what nothing makes", graphOf({ initializers: [] }), ['"w", which nothing makes']],
    ["gives out what nothing makes", graphOf({ nodes: [] }), ["graph.output[0]", '"y"']],
    [
      "has a cycle",
      graphOf({ nodes: [node("A", ["y"], ["z"]), node("B", ["z"], ["y"])] }),
      ["without cycles"],
    ],
    ["has a node that reads itself", graphOf({ nodes: [node("A", ["y"], ["y"])] }), ["cycles"]],
    [
      "has a node of no type",
      graphOf({ nodes: [text(2, "y")] }),
      ["graph.node[0] (byte", "op_type"],
    ],
    [
      "has an attribute twice",
      graphOf({ nodes: [node("A", [], ["y"], ATTRIBUTE.int("a", 1), ATTRIBUTE.int("a", 1))] }),
      ["graph.node[0]", '"a" twice'],
    ],
    [
      "has an attribute of an unknown type",
      graphOf({ nodes: [node("A", [], ["y"], concat(text(1, "a"), int(20, 99)))] }),
      ["graph.node[0].attribute[0]", "99"],
    ],
    [
      "has an attribute without its tensor",
      graphOf({ nodes: [node("A", [], ["y"], concat(text(1, "a"), int(20, 4)))] }),
      ["field t"],
    ],
    ["has no data", initializerOf(), [inWeight, "data of 4 elements"]],
    ["has short data", initializerOf(raw(new Float32Array(3))), [inWeight, "16 bytes", "12"]],
    ["has long data", initializerOf(raw(new Float32Array(5))), [inWeight, "16 bytes", "20"]],
    ["has too few floats", initializerOf(packedFloats([1, 2, 3])), [inWeight, "4 entries", "3"]],
    ["has floats cut", initializerOf(bytes(4, new Uint8Array(15))), [inWeight, "multiple of 4"]],
    ["has ints for floats", initializerOf(bytes(5, new Uint8Array(4))), [inWeight, "float_data"]],
    [
      "has two kinds of data",
      initializerOf(raw(new Float32Array(4)), packedFloats([1, 2, 3, 4])),
      [inWeight, "alone"],
    ],
    [
      "has raw data twice",
      initializerOf(raw(new Float32Array(4)), raw(new Float32Array(4))),
      ["two"],
    ],
    ["has a segment", initializerOf(bytes(3), raw(new Float32Array(4))), [inWeight, "a segment"]],
    ["has a negative dim", dimsOf(-1, -4), [inWeight, "dims from 0"]],
    ["has dims beyond 2^53", dimsOf(2n ** 62n, 4), [inWeight, "below 2^53"]],
    ["has dims that wrap round to 4", dimsOf(2n ** 32n, 2n ** 32n, 4), [inWeight, "below 2^53"]],
    ["has dims beyond 2^53 beside a 0", dimsOf(2n ** 62n, 0), [inWeight, "below 2^53"]],
    ["has no type of data", adding(text(8, "w")), [inWeight, "a data_type of ONNX", "0"]],
    ["has an unknown type of data", adding(concat(int(2, 29), text(8, "w"))), [inWeight, "29"]],
    [
      "has raw strings",
      adding(tensor("w", "string", [4], raw(new Uint8Array(4)))),
      [inWeight, "raw_data of strings"],
    ],
    [
      "has a dim that is a text",
      adding(concat(text(8, "w"), concat(tag(1, 2), varint(1), Uint8Array.of(0x80)))),
      [inWeight, "a varint"],
    ],
    ["has a double for a float", adding(concat(tag(4, 1), new Uint8Array(8))), ["4 fixed bytes"]],
  ];
  it.each(cases)("%s", async (_, data, words) => {
    await refuses(data, ...words);
  });

  it("is larger than protobuf allows", async () => {
    const path = await fileOf(kWeight);
    await truncate(path, 2 ** 31);
    await expectError(() => OnnxFile.open(path), "ERR_FM_BAD_FILE", path, "2147483647");
  });

  it("is a folder, or not there", async () => {
    await expectError(() => OnnxFile.open(at(".")), "ERR_FM_IO");
    await expectError(() => OnnxFile.open(at("none.onnx")), "ERR_FM_IO", "ENOENT");
  });

  it("is cut, at whatever byte", async () => {
    const nodes = [node("A", ["x"], ["a"], ATTRIBUTE.ints("i", [1, 2])), node("B", ["a"], ["y"])];
    const whole = modelOf({ nodes, initializers: [kWeight] });
    const path = await fileOf(whole);
    // Behind the graph only the operator set is left, without which the model is none.
    for (let size = whole.length - 1; size >= 0; size -= 1) {
      await truncate(path, size);
      await expectError(() => OnnxFile.open(path), "ERR_FM_BAD_FILE", path);
    }
  });
});

describe("a large file", () => {
  it("is opened without its data", async () => {
    const dims = [256, 1024, 1024];
    const size = 4 * 256 * 1024 * 1024;
    const head = concat(...dims.map((dim) => int(1, dim)), int(2, 1), text(8, "w"));
    const rawHead = concat(tag(9, 2), varint(size));
    const weightLength = head.length + rawHead.length + size;
    const before = concat(tag(5, 2), varint(weightLength), head, rawHead);
    const after = graph({ nodes: [kAdd], inputs: [value("x", [1])], outputs: [value("y", [1])] });
    const graphHead = concat(tag(7, 2), varint(before.length + size + after.length));
    const start = concat(int(1, 8), bytes(8, int(2, 17)), graphHead, before);
    const path = await fileOf(start);
    // A sparse file: its gigabyte of zeros takes no room on disk.
    await truncate(path, start.length + size);
    await writeFile(path, after, { flag: "a" });
    const memory = process.memoryUsage().arrayBuffers;
    await using file = await OnnxFile.open(path);
    expect(process.memoryUsage().arrayBuffers - memory).toBeLessThan(1024 * 1024);
    expect(file.model.graph.initializers.get("w")?.dims).toEqual(dims);
    expect(file.model.graph.nodes).toHaveLength(1);
  });
});

const kTestData = "/usr/share/libonnx-testdata/data";
const kModels = existsSync(kTestData)
  ? (readdirSync(kTestData, { recursive: true }) as string[]).filter((path) =>
      /\.(onnx|pb)$/.test(path),
    )
  : [];

describe("ONNX's own test data", () => {
  it("is read: every model and tensor", async ({ skip }) => {
    skip(kModels.length === 0, "libonnx-testdata is not installed");
    const refused = new Map<string, number>();
    let models = 0;
    let tensors = 0;
    for (const name of kModels) {
      const path = join(kTestData, name);
      try {
        if (name.endsWith(".pb")) {
          parseTensorProto(readFileSync(path), path);
          tensors += 1;
          continue;
        }
        await using file = await OnnxFile.open(path);
        models += 1;
        for (const initializer of file.model.graph.initializers.values()) {
          await file.readTensor(initializer);
        }
      } catch (error) {
        const code = error instanceof FishermaskError ? error.code : `${error} in ${path}`;
        refused.set(code, (refused.get(code) ?? 0) + 1);
      }
    }
    // Strings have no array; sequences and optional values are no tensors. Nothing else is refused.
    expect([...refused.keys()].sort()).toEqual(["ERR_FM_DTYPE", "ERR_FM_UNSUPPORTED"]);
    expect(models).toBe(kModels.filter((name) => name.endsWith(".onnx")).length);
    expect(tensors).toBeGreaterThan(3000);
  });
});

describe("a name of a gigabyte", () => {
  it("is refused before memory is taken for it", async () => {
    const path = await fileOf(concat(int(1, 8), tag(2, 2), varint(2 ** 30)));
    await truncate(path, 7 + 2 ** 30 + 1);
    const memory = process.memoryUsage().arrayBuffers;
    await expectError(
      () => OnnxFile.open(path),
      "ERR_FM_BAD_FILE",
      path,
      "536870912 bytes of memory",
    );
    expect(process.memoryUsage().arrayBuffers - memory).toBeLessThan(1024 * 1024);
  });
});

describe("a TensorProto in memory", () => {
  it("has a name and elements", () => {
    expect(parseTensorProto(kWeight, "input_0.pb")).toEqual({
      name: "w",
      dtype: "float",
      dims: [1, 4],
      data: Float32Array.of(1, 2, 3, 4),
    });
  });

  it.each([
    ["a sequence", concat(text(1, "s"), int(2, 1), bytes(3, kWeight))],
    ["an empty sequence", int(2, 1)],
    ["a sequence of sequences", concat(text(1, "seq"), int(2, 3), bytes(5, bytes(3, kWeight)))],
  ])("is told from %s", async (_, data) => {
    await expectError(() => parseTensorProto(data, "in.pb"), "ERR_FM_UNSUPPORTED", "SequenceProto");
  });

  it("has its data with it", async () => {
    const away = tensor(
      "w",
      "float",
      [1],
      bytes(13, text(1, "location"), text(2, "w.bin")),
      int(14, 1),
    );
    await expectError(
      () => parseTensorProto(away, "in.pb"),
      "ERR_FM_BAD_FILE",
      "in.pb",
      "external",
    );
    await expectError(
      () => parseTensorProto(kWeight.slice(0, 9), "in.pb"),
      "ERR_FM_BAD_FILE",
      "in.pb",
    );
    await expectError(() => parseTensorProto(float(1, 1), "in.pb"), "ERR_FM_BAD_FILE", "byte 0");
  });
});
