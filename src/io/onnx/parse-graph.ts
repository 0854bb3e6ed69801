import { dtypeOfCode } from "./dtypes.js";
import type { OnnxAttribute, OnnxGraph, OnnxNode, OnnxTensor, OnnxValueInfo } from "./model.js";
import { parseTensor } from "./parse-tensor.js";
import { type Reading, WIRE, type WireReader } from "./wire.js";

/** Subgraphs (the bodies of If, Loop, Scan) may stand in each other this deep. */
export const MAX_GRAPH_DEPTH = 64;

const kNodeCost = 300;
const kAttributeMapCost = 200;
const kAttributeCost = 100;
const kGraphCost = 1200;
const kValueInfoCost = 250;
const kEntryCost = 16;

const kNoAttributes: ReadonlyMap<string, OnnxAttribute> = new Map();

/** The domain under which the standard operators go here, whichever way the file spells it. */
export function normalDomain(domain: string): string {
  return domain === "ai.onnx" ? "" : domain;
}

/** The values of an AttributeProto as they come; `type` says which of them counts. */
interface AttributeDraft {
  name: string;
  type: number;
  reference: string;
  f: number;
  i: bigint;
  /** Null for bytes that are no UTF-8. */
  s: string | null;
  t: OnnxTensor | null;
  g: OnnxGraph | null;
  floats: number[];
  ints: bigint[];
  strings: (string | null)[];
  tensors: OnnxTensor[];
  graphs: OnnxGraph[];
  /** Number of the last value field that was there, for files before IR version 2, which have no type. */
  present: number;
}

// AttributeProto.AttributeType by field number of the value.
const kTypeOfField: ReadonlyMap<number, number> = new Map([
  [2, 1],
  [3, 2],
  [4, 3],
  [5, 4],
  [6, 5],
  [7, 6],
  [8, 7],
  [9, 8],
  [10, 9],
  [11, 10],
  [22, 11],
  [23, 12],
  [14, 13],
  [15, 14],
]);

const kOtherTypes: ReadonlyMap<number, string> = new Map([
  [11, "a sparse tensor"],
  [12, "sparse tensors"],
  [13, "a type"],
  [14, "types"],
]);

function* readAttributeValue(
  reader: WireReader,
  draft: AttributeDraft,
  depth: number,
): Reading<void> {
  const graph = (inner: WireReader, end: number) => parseGraph(inner, end, depth + 1);
  switch (reader.field) {
    case 2:
      draft.f = yield* reader.float();
      break;
    case 3:
      draft.i = reader.int64();
      break;
    case 4:
      draft.s = yield* reader.textOrNull();
      break;
    case 5:
      if (draft.t !== null) {
        throw reader.fault("one t", "two");
      }
      draft.t = yield* reader.message("t", parseTensor);
      break;
    case 6:
      if (draft.g !== null) {
        throw reader.fault("one g", "two");
      }
      draft.g = yield* reader.message("g", graph);
      break;
    case 7:
      yield* reader.floats(draft.floats);
      break;
    case 8:
      yield* reader.int64s(draft.ints);
      break;
    case 9:
      draft.strings.push(yield* reader.textOrNull());
      break;
    case 10:
      draft.tensors.push(yield* reader.message(`tensors[${draft.tensors.length}]`, parseTensor));
      break;
    case 11:
      draft.graphs.push(yield* reader.message(`graphs[${draft.graphs.length}]`, graph));
      break;
    case 22:
    case 23:
      yield* reader.message("sparse_tensor", parseSparseName);
      break;
  }
}

function needed<T>(reader: WireReader, value: T | null, field: string): T {
  if (value === null) {
    throw reader.fault(`field ${field}`, "none");
  }
  return value;
}

function isText(values: readonly (string | null)[]): values is readonly string[] {
  return !values.includes(null);
}

// A value that is not there is 0 or empty: writers of proto3 leave those out.
function finishAttribute(reader: WireReader, draft: AttributeDraft): OnnxAttribute {
  if (draft.reference !== "") {
    return { kind: "reference", value: draft.reference };
  }
  const type = draft.type === 0 ? (kTypeOfField.get(draft.present) ?? 0) : draft.type;
  switch (type) {
    case 1:
      return { kind: "float", value: draft.f };
    case 2:
      return { kind: "int", value: draft.i };
    case 3:
      return draft.s === null
        ? { kind: "other", what: "bytes that are no UTF-8" }
        : { kind: "string", value: draft.s };
    case 4:
      return { kind: "tensor", value: needed(reader, draft.t, "t") };
    case 5:
      return { kind: "graph", value: needed(reader, draft.g, "g") };
    case 6:
      return { kind: "floats", value: draft.floats };
    case 7:
      return { kind: "ints", value: draft.ints };
    case 8:
      return isText(draft.strings)
        ? { kind: "strings", value: draft.strings }
        : { kind: "other", what: "strings of bytes that are no UTF-8" };
    case 9:
      return { kind: "tensors", value: draft.tensors };
    case 10:
      return { kind: "graphs", value: draft.graphs };
  }
  const what = kOtherTypes.get(type);
  if (what === undefined) {
    throw reader.fault("an attribute type of ONNX", type === 0 ? "none" : `${type}`);
  }
  return { kind: "other", what };
}

/** An AttributeProto: its name and value. `depth` is that of the graph it stands in. */
export function* parseAttribute(
  reader: WireReader,
  end: number,
  depth: number,
): Reading<[string, OnnxAttribute]> {
  const begin = reader.fieldBegin;
  reader.charge(kAttributeCost);
  const draft: AttributeDraft = {
    name: "",
    type: 0,
    reference: "",
    f: 0,
    i: 0n,
    s: "",
    t: null,
    g: null,
    floats: [],
    ints: [],
    strings: [],
    tensors: [],
    graphs: [],
    present: 0,
  };
  while (yield* reader.nextField(end)) {
    const { field } = reader;
    if (field === 1) {
      draft.name = yield* reader.text();
    } else if (field === 20) {
      draft.type = reader.integer("type");
    } else if (field === 21) {
      draft.reference = yield* reader.text();
    } else {
      draft.present = kTypeOfField.has(field) ? field : draft.present;
      yield* readAttributeValue(reader, draft, depth);
    }
  }
  reader.fieldBegin = begin;
  if (draft.name === "") {
    throw reader.fault("a name", "none");
  }
  return [draft.name, finishAttribute(reader, draft)];
}

/** Reads an attribute into a map, which must not have one of its name. */
export function* addAttribute(
  reader: WireReader,
  into: Map<string, OnnxAttribute>,
  depth: number,
): Reading<void> {
  const [name, attribute] = yield* reader.message(`attribute[${into.size}]`, (inner, end) =>
    parseAttribute(inner, end, depth),
  );
  if (into.has(name)) {
    throw reader.fault("attributes of different names", `${JSON.stringify(name)} twice`);
  }
  into.set(name, attribute);
}

/** A NodeProto. `depth` is that of the graph it stands in. */
export function* parseNode(reader: WireReader, end: number, depth: number): Reading<OnnxNode> {
  const begin = reader.fieldBegin;
  reader.charge(kNodeCost);
  let name = "";
  let opType = "";
  let domain = "";
  let overload = "";
  const inputs: string[] = [];
  const outputs: string[] = [];
  let attributes: Map<string, OnnxAttribute> | undefined;
  while (yield* reader.nextField(end)) {
    switch (reader.field) {
      case 1:
        inputs.push(yield* reader.text());
        break;
      case 2:
        outputs.push(yield* reader.text());
        break;
      case 3:
        name = yield* reader.text();
        break;
      case 4:
        opType = yield* reader.text();
        break;
      case 5:
        if (attributes === undefined) {
          reader.charge(kAttributeMapCost);
          attributes = new Map();
        }
        yield* addAttribute(reader, attributes, depth);
        break;
      case 7:
        domain = normalDomain(yield* reader.text());
        break;
      case 8:
        overload = yield* reader.text();
        break;
    }
  }
  if (opType === "") {
    reader.fieldBegin = begin;
    throw reader.fault("an op_type", "none");
  }
  return {
    name,
    opType,
    domain,
    overload,
    // Copies have no spare room.
    inputs: inputs.slice(),
    outputs: outputs.slice(),
    attributes: attributes ?? kNoAttributes,
  };
}

function* parseDim(reader: WireReader, end: number): Reading<number | string | null> {
  let dim: number | string | null = null;
  while (yield* reader.nextField(end)) {
    if (reader.field === 1) {
      const value = reader.integer("dim_value");
      // Some exporters write −1 for a size that is not known.
      dim = value < 0 ? null : value;
    } else if (reader.field === 2) {
      const symbol = yield* reader.text();
      dim = symbol === "" ? null : symbol;
    }
  }
  return dim;
}

function* parseShape(reader: WireReader, end: number): Reading<(number | string | null)[]> {
  const dims: (number | string | null)[] = [];
  while (yield* reader.nextField(end)) {
    if (reader.field === 1) {
      reader.charge(kEntryCost);
      dims.push(yield* reader.message(`dim[${dims.length}]`, parseDim));
    }
  }
  return dims;
}

type TypeOfValue = Pick<OnnxValueInfo, "kind" | "dtype" | "dims">;

function* parseTensorType(reader: WireReader, end: number): Reading<TypeOfValue> {
  let dtype: OnnxValueInfo["dtype"] = null;
  let dims: OnnxValueInfo["dims"] = null;
  while (yield* reader.nextField(end)) {
    if (reader.field === 1) {
      dtype = dtypeOfCode(reader.integer("elem_type"));
    } else if (reader.field === 2) {
      dims = yield* reader.message("shape", parseShape);
    }
  }
  return { kind: "tensor", dtype, dims };
}

// The types inside these are not read: no importer needs them, and so nothing here can nest.
const kOtherKinds: ReadonlyMap<number, OnnxValueInfo["kind"]> = new Map([
  [4, "sequence"],
  [5, "map"],
  [8, "sparse"],
  [9, "optional"],
]);

function* parseType(reader: WireReader, end: number): Reading<TypeOfValue> {
  let type: TypeOfValue = { kind: "unknown", dtype: null, dims: null };
  while (yield* reader.nextField(end)) {
    const other = kOtherKinds.get(reader.field);
    if (reader.field === 1) {
      type = yield* reader.message("tensor_type", parseTensorType);
    } else if (other !== undefined) {
      reader.expectWire(WIRE.bytes);
      type = { kind: other, dtype: null, dims: null };
    }
  }
  return type;
}

function* parseValueInfo(reader: WireReader, end: number): Reading<OnnxValueInfo> {
  reader.charge(kValueInfoCost);
  let name = "";
  let type: TypeOfValue = { kind: "unknown", dtype: null, dims: null };
  while (yield* reader.nextField(end)) {
    if (reader.field === 1) {
      name = yield* reader.text();
    } else if (reader.field === 2) {
      type = yield* reader.message("type", parseType);
    }
  }
  return { name, ...type };
}

/**
 * The name of a SparseTensorProto: that of its values. Both of its tensors are read, so that the files of their data are
 * known.
 */
function* parseSparseName(reader: WireReader, end: number): Reading<string> {
  let name = "";
  while (yield* reader.nextField(end)) {
    if (reader.field === 1) {
      name = (yield* reader.message("values", parseTensor)).name;
    } else if (reader.field === 2) {
      yield* reader.message("indices", parseTensor);
    }
  }
  return name;
}

interface GraphDraft {
  name: string;
  nodes: OnnxNode[];
  inputs: OnnxValueInfo[];
  outputs: OnnxValueInfo[];
  valueInfo: OnnxValueInfo[];
  initializers: Map<string, OnnxTensor>;
  sparseInitializers: string[];
}

function* addInitializer(reader: WireReader, draft: GraphDraft): Reading<void> {
  const { initializers } = draft;
  const tensor = yield* reader.message(`initializer[${initializers.size}]`, parseTensor);
  if (tensor.name === "") {
    throw reader.fault("a name for every initializer", "none");
  }
  if (initializers.has(tensor.name)) {
    const name = JSON.stringify(tensor.name);
    throw reader.fault("initializers of different names", `${name} twice`);
  }
  initializers.set(tensor.name, tensor);
}

function* addValueInfo(reader: WireReader, label: string, into: OnnxValueInfo[]): Reading<void> {
  into.push(yield* reader.message(`${label}[${into.length}]`, parseValueInfo));
}

function* readGraphField(reader: WireReader, draft: GraphDraft, depth: number): Reading<void> {
  switch (reader.field) {
    case 1:
      draft.nodes.push(
        yield* reader.message(`node[${draft.nodes.length}]`, (inner, end) =>
          parseNode(inner, end, depth),
        ),
      );
      break;
    case 2:
      draft.name = yield* reader.text();
      break;
    case 5:
      yield* addInitializer(reader, draft);
      break;
    case 11:
      yield* addValueInfo(reader, "input", draft.inputs);
      break;
    case 12:
      yield* addValueInfo(reader, "output", draft.outputs);
      break;
    case 13:
      yield* addValueInfo(reader, "value_info", draft.valueInfo);
      break;
    case 15: {
      const label = `sparse_initializer[${draft.sparseInitializers.length}]`;
      draft.sparseInitializers.push(yield* reader.message(label, parseSparseName));
      break;
    }
  }
}

/** A GraphProto. `depth` is 1 for the model's own graph and for nodes of a function. */
export function* parseGraph(reader: WireReader, end: number, depth: number): Reading<OnnxGraph> {
  if (depth > MAX_GRAPH_DEPTH) {
    throw reader.fault(`graphs at most ${MAX_GRAPH_DEPTH} deep`, "a deeper one");
  }
  reader.charge(kGraphCost);
  const draft: GraphDraft = {
    name: "",
    nodes: [],
    inputs: [],
    outputs: [],
    valueInfo: [],
    initializers: new Map(),
    sparseInitializers: [],
  };
  while (yield* reader.nextField(end)) {
    yield* readGraphField(reader, draft, depth);
  }
  return draft;
}
