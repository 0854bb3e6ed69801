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
import type { FishermaskError } from "../../native/errors.js";
import type { Graph } from "../graph.js";
import {
  functionOf,
  type LiveBody,
  liveBody,
  type ReadTensor,
  readTensors,
  withAttributes,
} from "./bodies.js";
import { NodeContext, unsupported } from "./context.js";
import { EngineGraph, type EngineValue } from "./engine-graph.js";
import { foldNode } from "./fold-node.js";
import {
  type ConstantOperand,
  constantOperand,
  elementCount,
  formShape,
  isFloat,
  type Layout,
  type Operand,
  valueOperand,
} from "./operand.js";
import { nodeImporters } from "./registry.js";
import { wholeImporter, wholeOperand } from "./whole.js";

/** What a graph input is fed with. */
export type InputBinding =
  /** Known now: folded into the graph. */
  | { readonly kind: "constant"; readonly array: OnnxArray }
  /** Computed on, in this layout (`plain` where left out). `known` may serve where the engine takes a parameter. */
  | {
      readonly kind: "value";
      readonly dims: readonly number[];
      readonly dtype: OnnxDType;
      readonly layout?: Layout;
      readonly known?: OnnxArray;
    }
  /** 1 for each of a sample's ids, 0 for padding: computed from the ids, another input of kind `value`, (1, T). */
  | { readonly kind: "mask"; readonly ids: string; readonly dtype: OnnxDType };

export interface ImportOptions {
  /** The graph's name. */
  readonly name: string;
  /** One for every graph input that is not an initializer and that an output needs. */
  readonly inputs: ReadonlyMap<string, InputBinding>;
}

/** An engine input: `name` is the engine's. */
export interface ImportedInput {
  /** The ONNX graph input. */
  readonly input: string;
  readonly value: EngineValue;
}

/** An ONNX model as operands over an engine graph that can still grow. */
export interface ImportedOperands {
  readonly graph: EngineGraph;
  readonly inputs: readonly ImportedInput[];
  /** In the model's order. */
  readonly outputs: readonly { readonly name: string; readonly operand: Operand }[];
  /** The engine's real type: `f64` where a computed value is a double. */
  readonly real: "f32" | "f64";
  /** What a user should know of how the model was read. */
  readonly notes: readonly string[];
}

/** An output of an imported model. */
export interface ImportedOutput {
  readonly name: string;
  readonly dims: readonly number[];
  readonly dtype: OnnxDType;
  /** The engine's value, of `dims`; undefined where the output is `array`. */
  readonly value: string | undefined;
  /** Known without running. */
  readonly array: OnnxArray | undefined;
}

/** Where an engine parameter stands in the file. */
export interface ParameterOrigin {
  readonly initializer: string;
  /** The engine's (out, in) matrix is (in, out) in the file. */
  readonly transposed: boolean;
}

export interface OnnxImport {
  readonly graph: Graph;
  /** Every parameter's values in the engine's order. */
  readonly weights: ReadonlyMap<string, Float32Array | Float64Array>;
  /** Of the parameters that are initializers or Constant nodes of the file. */
  readonly parameters: ReadonlyMap<string, ParameterOrigin>;
  readonly inputs: readonly ImportedInput[];
  readonly outputs: readonly ImportedOutput[];
  readonly real: "f32" | "f64";
  readonly notes: readonly string[];
}

// The newest whose backend tests were run: a newer one may have changed what an operator means.
const kNewestOpset = 28;
const kDeepest = 64;
const kMostNodes = 1_000_000;

/** Names seen from a body: its own, then those around it. */
class Scope {
  readonly #values = new Map<string, Operand>();
  readonly #outer: Scope | undefined;

  constructor(outer?: Scope) {
    this.#outer = outer;
  }
  set(name: string, operand: Operand): void {
    this.#values.set(name, operand);
  }
  get(name: string): Operand | undefined {
    return this.#values.get(name) ?? this.#outer?.get(name);
  }
}

/** Where a body's nodes stand. */
interface Place {
  readonly scope: Scope;
  readonly opsets: ReadonlyMap<string, number>;
  /** In front of the labels of a function's or branch's nodes. */
  readonly prefix: string;
  readonly depth: number;
}

class Importer {
  readonly graph = new EngineGraph();
  readonly notes = new Set<string>();
  readonly inputs: ImportedInput[] = [];
  double = false;
  readonly #model: OnnxModel;
  readonly #arrays: ReadonlyMap<OnnxTensor, OnnxArray>;
  #nodes = 0;

  constructor(model: OnnxModel, arrays: ReadonlyMap<OnnxTensor, OnnxArray>) {
    this.#model = model;
    this.#arrays = arrays;
  }

  /** The operands of the model's outputs. */
  run(bindings: ReadonlyMap<string, InputBinding>): readonly Operand[] {
    const { graph, opsets } = this.#model;
    const scope = new Scope();
    const masks: [string, InputBinding & { readonly kind: "mask" }][] = [];
    for (const { name } of graph.inputs) {
      const binding = bindings.get(name);
      if (binding?.kind === "mask") masks.push([name, binding]);
      else if (binding !== undefined) scope.set(name, this.#bind(name, binding));
    }
    for (const [name, { ids, dtype }] of masks) {
      const operand = scope.get(ids) ?? fail(missing(name, "input", ids));
      scope.set(name, this.#mask(name, operand, dtype));
    }
    return this.#graphBody(graph, { scope, opsets, prefix: "", depth: 0 });
  }

  #mask(name: string, ids: Operand, dtype: OnnxDType): Operand {
    const value = ids.kind === "value" ? ids.forms.get("unbatched") : undefined;
    if (value === undefined) throw unsupported(name, "input", "a mask of what are no ids");
    const padding = this.graph.unary(name, "pad_mask", value);
    const mask = valueOperand("unbatched", this.graph.unary(name, "not", padding), ids.dims, dtype);
    return isFloat(dtype) || dtype === "bool" ? mask : wholeOperand(mask, dtype, 1);
  }

  #bind(name: string, binding: Exclude<InputBinding, { readonly kind: "mask" }>): Operand {
    if (binding.kind === "constant") return constantOperand(binding.array);
    const { dims, dtype, layout = "plain", known } = binding;
    if (elementCount(dims) === 0) {
      return constantOperand(known ?? { dtype, dims, data: new Float32Array(0) });
    }
    if (dtype === "double") this.double = true;
    const shape = formShape(layout, dims);
    const value = this.graph.input(name, shape, isFloat(dtype) ? "f32" : "i32");
    this.inputs.push({ input: name, value });
    return { ...valueOperand(layout, value, dims, dtype), known, input: name };
  }

  #graphBody(graph: OnnxGraph, place: Place): readonly Operand[] {
    for (const name of graph.sparseInitializers) {
      this.notes.add(`the sparse initializer ${name} is not read`);
    }
    for (const [name, tensor] of graph.initializers) {
      // A fed input takes the place of its default.
      if (place.depth === 0 && place.scope.get(name) !== undefined) continue;
      const operand = this.#initializer(name, tensor);
      if (operand !== undefined) place.scope.set(name, operand);
    }
    const names = graph.outputs.map(({ name }) => name);
    return this.#body(graph.nodes, names, place);
  }

  #initializer(name: string, tensor: OnnxTensor): Operand | undefined {
    const array = this.#arrays.get(tensor);
    if (array === undefined) return undefined;
    // A number without sizes is part of a formula, not something that was learnt.
    if (!isFloat(array.dtype) || array.dims.length === 0 || array.data.length === 0) {
      return constantOperand(array);
    }
    const { dtype, dims } = array;
    return { kind: "parameter", dtype, dims, initializer: name, array, transposed: false };
  }

  #body(nodes: readonly OnnxNode[], wanted: readonly string[], place: Place): readonly Operand[] {
    const live = liveBody(nodes, wanted);
    for (const node of live.nodes) this.#node(node, live, place);
    return wanted.map((name) => {
      const operand = place.scope.get(name);
      if (operand === undefined) throw missing(`${place.prefix}output`, "graph", name);
      return operand;
    });
  }

  #node(node: OnnxNode, live: LiveBody, place: Place): void {
    const own = node.name || node.outputs.find((name) => name !== "") || node.opType;
    const label = `${place.prefix}${own}`;
    this.#nodes += 1;
    if (place.depth > kDeepest || this.#nodes > kMostNodes) {
      throw unsupported(label, node.opType, "functions or branches nested without measure");
    }
    const inputs = node.inputs.map((name) => {
      if (name === "") return null;
      return place.scope.get(name) ?? fail(missing(label, node.opType, name));
    });
    const results = this.#results(node, label, inputs, live, place);
    node.outputs.forEach((name, i) => {
      const operand = results[i];
      if (name === "" || operand === undefined) {
        if (live.read.has(name)) throw unsupported(label, node.opType, `a reader of output ${i}`);
        return;
      }
      if (operand.kind === "value" && operand.dtype === "double") this.double = true;
      place.scope.set(
        name,
        isSource(node, operand, place) ? { ...operand, source: name } : operand,
      );
    });
  }

  #results(
    node: OnnxNode,
    label: string,
    inputs: readonly (Operand | null)[],
    live: LiveBody,
    place: Place,
  ): readonly (Operand | undefined)[] {
    const body = functionOf(this.#model, node);
    if (body !== undefined) return this.#call(body, node, label, inputs, live, place);
    if (node.domain !== "") throw unsupported(label, node.opType, `the domain ${node.domain}`);
    const opset = place.opsets.get("") ?? 1;
    if (opset > kNewestOpset) {
      throw unsupported(label, node.opType, `opset ${opset}; ${kNewestOpset} is the newest known`);
    }
    if (node.opType === "If") return this.#branch(node, label, inputs[0] ?? null, place);
    const context = this.#context(node, label, opset, inputs, live, place);
    const folded = foldNode(context);
    if (folded !== null) return folded.map(constantOperand);
    const importer = nodeImporters.get(node.opType);
    if (importer === undefined)
      throw unsupported(label, node.opType, "an operator that it does not know");
    const made =
      wholeImporter(context, importer, (reals) =>
        this.#context(node, label, opset, reals, live, place),
      ) ?? importer(context);
    return Array.isArray(made) ? (made as readonly Operand[]) : [made as Operand];
  }

  /** A function's body in the place of the node that calls it. */
  #call(
    body: OnnxFunction,
    node: OnnxNode,
    label: string,
    inputs: readonly (Operand | null)[],
    live: LiveBody,
    place: Place,
  ): readonly (Operand | undefined)[] {
    const scope = new Scope();
    body.inputs.forEach((name, i) => {
      const operand = inputs[i];
      if (operand) scope.set(name, operand);
    });
    const given = new Map<string, OnnxAttribute>([...body.defaults, ...node.attributes]);
    const nodes = body.nodes.map((inner) =>
      withAttributes(withoutAbsent(inner, body.inputs, scope), given),
    );
    const wanted = body.outputs.filter((_, i) => live.read.has(node.outputs[i] ?? ""));
    const made = this.#body(nodes, wanted, {
      scope,
      opsets: body.opsets,
      prefix: `${label}/`,
      depth: place.depth + 1,
    });
    const byName = new Map(wanted.map((name, i) => [name, made[i]]));
    return body.outputs.map((name) => byName.get(name));
  }

  #context(
    node: OnnxNode,
    label: string,
    opset: number,
    inputs: readonly (Operand | null)[],
    live: LiveBody,
    place: Place,
  ): NodeContext {
    return new NodeContext({
      node,
      label,
      opset,
      inputs,
      graph: this.graph,
      outputUsed: (name) => live.read.has(name),
      final: place.depth === 0 && !node.outputs.some((name) => live.readInside.has(name)),
      tensors: (name) => {
        const attribute = node.attributes.get(name);
        return attribute?.kind === "tensor" ? this.#arrays.get(attribute.value) : undefined;
      },
      note: (text) => this.notes.add(text),
    });
  }

  /** The branch that a known condition takes. */
  #branch(
    node: OnnxNode,
    label: string,
    condition: Operand | null,
    place: Place,
  ): readonly Operand[] {
    if (condition?.kind !== "constant" || condition.array.data.length !== 1) {
      throw unsupported(label, "If", "a condition that is computed at run time");
    }
    const name = Number(condition.array.data[0]) === 0 ? "else_branch" : "then_branch";
    const branch = node.attributes.get(name);
    if (branch?.kind !== "graph") throw unsupported(label, "If", `no ${name}`);
    return this.#graphBody(branch.value, {
      scope: new Scope(place.scope),
      opsets: place.opsets,
      prefix: `${label}/`,
      depth: place.depth + 1,
    });
  }
}

/** Whether the operand is the data of a Constant node of the main graph, where the file can be rewritten. */
function isSource(node: OnnxNode, operand: Operand, place: Place): operand is ConstantOperand {
  return (
    operand.kind === "constant" &&
    node.attributes.has("value") &&
    place.depth === 0 &&
    node.opType === "Constant"
  );
}

function fail(error: Error): never {
  throw error;
}

function missing(label: string, opType: string, name: string): FishermaskError {
  return unsupported(
    label,
    opType,
    `the value ${name}, which is no tensor of numbers that is known`,
  );
}

/** Inputs that the caller left out are left out of the body's nodes too. */
function withoutAbsent(node: OnnxNode, formal: readonly string[], scope: Scope): OnnxNode {
  const absent = (name: string): boolean => formal.includes(name) && scope.get(name) === undefined;
  if (!node.inputs.some(absent)) return node;
  return { ...node, inputs: node.inputs.map((name) => (absent(name) ? "" : name)) };
}

/**
 * Reads an ONNX graph as it runs on one sample into the engine's ops.
 *
 * Functions of the model and branches with a known condition are put in the place of their nodes; nodes that no output
 * needs are left out; what is known is computed now.
 *
 * @throws {@link FishermaskError} `ERR_FM_UNSUPPORTED` naming the node, its operator and the reason; what `readTensor` throws
 */
export async function importOperands(
  model: OnnxModel,
  readTensor: ReadTensor,
  options: ImportOptions,
): Promise<ImportedOperands> {
  const arrays = await readTensors(model, readTensor);
  const importer = new Importer(model, arrays);
  const operands = importer.run(options.inputs);
  return {
    graph: importer.graph,
    inputs: importer.inputs,
    outputs: model.graph.outputs.map(({ name }, i) => ({ name, operand: operands[i] as Operand })),
    real: importer.double ? "f64" : "f32",
    notes: [...importer.notes],
  };
}

/** The finished graph whose outputs are these engine values, with the parameters that they need. */
export function finishImport(
  imported: ImportedOperands,
  name: string,
  outputs: readonly ImportedOutput[],
): OnnxImport {
  const values = outputs.flatMap(({ value }) => (value === undefined ? [] : [value]));
  const graph = imported.graph.finish(name, [...new Set(values)]);
  const used = new Set(graph.parameters.map((parameter) => parameter.name));
  const parameters = [...imported.graph.parameters.values()].filter((each) => used.has(each.name));
  return {
    graph,
    weights: new Map(parameters.map((parameter) => [parameter.name, parameter.values])),
    parameters: new Map(
      parameters.flatMap(({ name: engine, initializer, transposed }) =>
        initializer === null ? [] : [[engine, { initializer, transposed }] as const],
      ),
    ),
    inputs: imported.inputs.filter(({ value }) =>
      graph.inputs.some((input) => input.name === value.name),
    ),
    outputs,
    real: imported.real,
    notes: imported.notes,
  };
}

function plainOutput(graph: EngineGraph, name: string, operand: Operand): ImportedOutput {
  const { dims, dtype } = operand;
  if (operand.kind !== "value") {
    return { name, dims, dtype, value: undefined, array: knownArray(name, operand) };
  }
  const context = new NodeContext({
    node: {
      name,
      opType: "output",
      domain: "",
      overload: "",
      inputs: [],
      outputs: [],
      attributes: new Map(),
    },
    label: name,
    opset: kNewestOpset,
    inputs: [],
    graph,
    outputUsed: () => true,
    tensors: () => undefined,
    note: () => {},
    final: true,
  });
  // Whole numbers are made in plain order alone.
  const value = operand.forms.get("plain") ?? context.plain(operand);
  // The engine's outputs are made by nodes: an input that is an output passes through one.
  const made = graph.inputs.some((input) => input.name === value.name)
    ? graph.emit(name, "reshape", [value], dims, { attributes: { shape: [...dims] } })
    : value;
  return { name, dims, dtype, value: made.name, array: undefined };
}

function knownArray(name: string, operand: Exclude<Operand, { kind: "value" }>): OnnxArray {
  if (operand.kind === "parameter" && operand.transposed) {
    throw unsupported(name, "output", "a transposed initializer as an output");
  }
  return { ...operand.array, dims: operand.dims };
}

/** As `importOperands`, with the model's outputs in ONNX's order of sizes. */
export async function importOnnx(
  model: OnnxModel,
  readTensor: ReadTensor,
  options: ImportOptions,
): Promise<OnnxImport> {
  const imported = await importOperands(model, readTensor, options);
  const outputs = imported.outputs.map(({ name, operand }) =>
    plainOutput(imported.graph, name, operand),
  );
  return finishImport(imported, options.name, outputs);
}
