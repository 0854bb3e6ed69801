import type {
  OnnxArray,
  OnnxAttribute,
  OnnxDType,
  OnnxFunction,
  OnnxGraph,
  OnnxModel,
  OnnxNode,
  OnnxTensor,
} from "../../io/onnx/model.js";

/** A tensor's data, from the file. */
export type ReadTensor = (tensor: OnnxTensor) => Promise<OnnxArray>;

const kReadable: ReadonlySet<OnnxDType> = new Set<OnnxDType>([
  "float",
  "double",
  "float16",
  "bfloat16",
  "int8",
  "int16",
  "int32",
  "int64",
  "uint8",
  "uint16",
  "uint32",
  "uint64",
  "bool",
]);

/** The function of the model that this node calls. */
export function functionOf(model: OnnxModel, node: OnnxNode): OnnxFunction | undefined {
  return model.functions.find(
    ({ name, domain, overload }) =>
      name === node.opType && domain === node.domain && overload === node.overload,
  );
}

function subgraphs(node: OnnxNode): readonly OnnxGraph[] {
  return [...node.attributes.values()].flatMap((attribute) => {
    if (attribute.kind === "graph") return [attribute.value];
    return attribute.kind === "graphs" ? attribute.value : [];
  });
}

/** Every value name that the node reads, in the bodies of its subgraphs too (they see the names around them). */
function namesRead(node: OnnxNode): readonly string[] {
  const inner = subgraphs(node).flatMap((graph) => [
    ...graph.nodes.flatMap(namesRead),
    ...graph.outputs.map(({ name }) => name),
  ]);
  return [...node.inputs, ...inner];
}

/** What of a body is worked on. */
export interface LiveBody {
  readonly nodes: readonly OnnxNode[];
  /** Every value that a live node or the body's reader reads. */
  readonly read: ReadonlySet<string>;
  /** Those that a live node reads. */
  readonly readInside: ReadonlySet<string>;
}

/** The nodes that the wanted values need, in their order. */
export function liveBody(nodes: readonly OnnxNode[], wanted: readonly string[]): LiveBody {
  const read = new Set(wanted.filter((name) => name !== ""));
  const readInside = new Set<string>();
  const live: OnnxNode[] = [];
  for (const node of nodes.toReversed()) {
    if (!node.outputs.some((name) => read.has(name))) continue;
    live.push(node);
    for (const name of namesRead(node)) {
      if (name === "") continue;
      read.add(name);
      readInside.add(name);
    }
  }
  return { nodes: live.reverse(), read, readInside };
}

/** A function's node with the caller's attributes in the place of references. */
export function withAttributes(
  node: OnnxNode,
  given: ReadonlyMap<string, OnnxAttribute>,
): OnnxNode {
  const attributes = new Map<string, OnnxAttribute>();
  for (const [name, attribute] of node.attributes) {
    // A reference to what the caller left out leaves the attribute out.
    const value = attribute.kind === "reference" ? given.get(attribute.value) : attribute;
    if (value !== undefined) attributes.set(name, substituted(value, given));
  }
  return { ...node, attributes };
}

function substituted(
  attribute: OnnxAttribute,
  given: ReadonlyMap<string, OnnxAttribute>,
): OnnxAttribute {
  if (attribute.kind !== "graph") return attribute;
  const nodes = attribute.value.nodes.map((node) => withAttributes(node, given));
  return { kind: "graph", value: { ...attribute.value, nodes } };
}

/** Tensors of the live part of a model: initializers that are read, and those in attributes. */
class TensorWalk {
  readonly tensors = new Set<OnnxTensor>();
  readonly #model: OnnxModel;
  readonly #functions = new Set<OnnxFunction>();

  constructor(model: OnnxModel) {
    this.#model = model;
  }

  graph(graph: OnnxGraph): void {
    const { nodes, read } = liveBody(
      graph.nodes,
      graph.outputs.map(({ name }) => name),
    );
    for (const [name, tensor] of graph.initializers) if (read.has(name)) this.tensors.add(tensor);
    for (const node of nodes) this.#node(node);
  }

  #node(node: OnnxNode): void {
    for (const attribute of node.attributes.values()) this.#attribute(attribute);
    const body = functionOf(this.#model, node);
    if (body === undefined || this.#functions.has(body)) return;
    this.#functions.add(body);
    for (const attribute of body.defaults.values()) this.#attribute(attribute);
    for (const inner of body.nodes) this.#node(inner);
  }

  #attribute(attribute: OnnxAttribute): void {
    if (attribute.kind === "tensor") this.tensors.add(attribute.value);
    if (attribute.kind === "graph") this.graph(attribute.value);
  }
}

/** Reads every tensor that the model's outputs need, in the file's order. Types without numbers are left out. */
export async function readTensors(
  model: OnnxModel,
  readTensor: ReadTensor,
): Promise<ReadonlyMap<OnnxTensor, OnnxArray>> {
  const walk = new TensorWalk(model);
  walk.graph(model.graph);
  const arrays = new Map<OnnxTensor, OnnxArray>();
  for (const tensor of walk.tensors) {
    if (kReadable.has(tensor.dtype)) arrays.set(tensor, await readTensor(tensor));
  }
  return arrays;
}
