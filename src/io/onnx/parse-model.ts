import { orderNodes } from "./check-graph.js";
import type { OnnxAttribute, OnnxFunction, OnnxGraph, OnnxModel, OnnxNode } from "./model.js";
import { addAttribute, normalDomain, parseGraph, parseNode } from "./parse-graph.js";
import { parseEntry } from "./parse-tensor.js";
import type { Reading, WireReader } from "./wire.js";

// Functions, metadata and operator sets: maps and arrays of their own.
const kEntryCost = 400;
const kFunctionCost = 1500;
// Operator sets have been listed since this version; before it, version 1 of the standard operators was meant.
const kFirstIrWithOpsets = 3;

function* parseOpset(reader: WireReader, end: number): Reading<[string, number]> {
  let domain = "";
  let version = 0;
  while (yield* reader.nextField(end)) {
    if (reader.field === 1) {
      domain = normalDomain(yield* reader.text());
    } else if (reader.field === 2) {
      version = reader.integer("version");
    }
  }
  return [domain, version];
}

function* addOpset(reader: WireReader, into: Map<string, number>): Reading<void> {
  reader.charge(kEntryCost);
  const [domain, version] = yield* reader.message(`opset_import[${into.size}]`, parseOpset);
  const known = into.get(domain);
  if (known !== undefined && known !== version) {
    const name = JSON.stringify(domain);
    throw reader.fault(`one version of operator set ${name}`, `${known} and ${version}`);
  }
  into.set(domain, version);
}

function* parseFunction(reader: WireReader, end: number): Reading<OnnxFunction> {
  reader.charge(kFunctionCost);
  let name = "";
  let domain = "";
  let overload = "";
  const inputs: string[] = [];
  const outputs: string[] = [];
  const attributes: string[] = [];
  const defaults = new Map<string, OnnxAttribute>();
  const nodes: OnnxNode[] = [];
  const opsets = new Map<string, number>();
  while (yield* reader.nextField(end)) {
    switch (reader.field) {
      case 1:
        name = yield* reader.text();
        break;
      case 4:
        inputs.push(yield* reader.text());
        break;
      case 5:
        outputs.push(yield* reader.text());
        break;
      case 6:
        attributes.push(yield* reader.text());
        break;
      case 7:
        nodes.push(
          yield* reader.message(`node[${nodes.length}]`, (inner, last) =>
            parseNode(inner, last, 1),
          ),
        );
        break;
      case 9:
        yield* addOpset(reader, opsets);
        break;
      case 10:
        domain = normalDomain(yield* reader.text());
        break;
      case 11:
        yield* addAttribute(reader, defaults, 1);
        break;
      case 13:
        overload = yield* reader.text();
        break;
    }
  }
  return { name, domain, overload, inputs, outputs, attributes, defaults, nodes, opsets };
}

/** A TrainingInfoProto: nothing is kept of it but the files of its tensors. */
function* passTraining(reader: WireReader, end: number): Reading<void> {
  while (yield* reader.nextField(end)) {
    if (reader.field === 1 || reader.field === 2) {
      yield* reader.message("graph", (inner, last) => parseGraph(inner, last, 1));
    }
  }
}

interface ModelDraft {
  irVersion: number;
  producerName: string;
  producerVersion: string;
  opsets: Map<string, number>;
  graph: OnnxGraph | null;
  functions: OnnxFunction[];
  metadata: Map<string, string>;
}

function* addMetadata(reader: WireReader, into: Map<string, string>): Reading<void> {
  reader.charge(kEntryCost);
  const [key, value] = yield* reader.message(`metadata_props[${into.size}]`, parseEntry);
  if (into.has(key)) {
    throw reader.fault("metadata_props of different keys", `${JSON.stringify(key)} twice`);
  }
  into.set(key, value);
}

function* readModelField(reader: WireReader, draft: ModelDraft): Reading<void> {
  switch (reader.field) {
    case 1:
      draft.irVersion = reader.integer("ir_version");
      break;
    case 2:
      draft.producerName = yield* reader.text();
      break;
    case 3:
      draft.producerVersion = yield* reader.text();
      break;
    case 7:
      if (draft.graph !== null) {
        throw reader.fault("one graph", "two");
      }
      draft.graph = yield* reader.message("graph", (inner, end) => parseGraph(inner, end, 1));
      break;
    case 8:
      yield* addOpset(reader, draft.opsets);
      break;
    case 14:
      yield* addMetadata(reader, draft.metadata);
      break;
    case 20:
      yield* reader.message("training_info", passTraining);
      break;
    case 25: {
      const label = `functions[${draft.functions.length}]`;
      draft.functions.push(yield* reader.message(label, parseFunction));
      break;
    }
  }
}

function finish(reader: WireReader, draft: ModelDraft): OnnxModel {
  const { irVersion, graph, opsets, functions, metadata } = draft;
  if (graph === null) {
    throw reader.fault("a graph", "none; is it an ONNX model?", 0);
  }
  if (irVersion < 1) {
    throw reader.fault("an ir_version from 1", `${irVersion}; is it an ONNX model?`, 0);
  }
  if (opsets.size === 0) {
    if (irVersion >= kFirstIrWithOpsets) {
      throw reader.fault("at least one opset_import", "none", 0);
    }
    opsets.set("", 1);
  }
  const producer = [draft.producerName, draft.producerVersion].filter((part) => part !== "");
  const ordered = { ...graph, nodes: orderNodes(reader.source, graph) };
  return { irVersion, producer: producer.join(" "), opsets, graph: ordered, functions, metadata };
}

/** A ModelProto, whole, with its main graph checked and put in order. */
export function* parseModel(reader: WireReader, end: number): Reading<OnnxModel> {
  const draft: ModelDraft = {
    irVersion: 0,
    producerName: "",
    producerVersion: "",
    opsets: new Map(),
    graph: null,
    functions: [],
    metadata: new Map(),
  };
  while (yield* reader.nextField(end)) {
    yield* readModelField(reader, draft);
  }
  return finish(reader, draft);
}
