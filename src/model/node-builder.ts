import {
  type AttributeValue,
  GRAPH_VERSION,
  type Graph,
  type Initializer,
  type InputSpec,
  type NodeSpec,
  type ParameterRole,
  type ParameterSpec,
} from "./graph.js";
import { checkCount, expected } from "./graph-error.js";
import type { PlainOptions } from "./layer-options.js";
import { inferShape, type Shape } from "./shape-rules.js";

export interface NodeOptions {
  /** Unique; left out, the op's name and a number. */
  readonly name?: string;
  /** Slot → name of a declared parameter. */
  readonly parameters?: Readonly<Record<string, string>>;
  readonly attributes?: Readonly<Record<string, AttributeValue>>;
  /** Names of the values that it makes; left out, one of the node's own name. */
  readonly outputs?: readonly string[];
  /** Their per-sample shapes, for an op that the builder has no rule for. */
  readonly shapes?: readonly Shape[];
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    for (const part of Object.values(value)) deepFreeze(part);
    Object.freeze(value);
  }
  return value;
}

/**
 * The part of {@link GraphBuilder} that knows no layer: inputs, parameters, nodes, their names and per-sample shapes.
 * Errors are as described there.
 */
export class NodeBuilder {
  private readonly inputs: InputSpec[] = [];
  private readonly parameters = new Map<string, ParameterSpec>();
  private readonly nodes = new Map<string, NodeSpec>();
  /** Undefined: made by an op without a shape rule. */
  private readonly values = new Map<string, Shape | undefined>();

  constructor(private readonly name: string) {}

  /** Declares an input of this per-sample shape; `i32` for token ids. */
  input(name: string, shape: Shape, dtype: InputSpec["dtype"] = "f32"): string {
    for (const size of shape) checkCount(`a size of input ${name}`, size);
    this.addValue(name, shape);
    this.inputs.push({ name, shape: [...shape], dtype });
    return name;
  }

  /** Declares a parameter, in PyTorch's layout, for one or several nodes. */
  parameter(name: string, shape: Shape, role: ParameterRole, init: Initializer): string {
    for (const size of shape) checkCount(`a size of parameter ${name}`, size);
    if (this.parameters.has(name)) {
      throw expected("ERR_FM_GRAPH", "a new name", "a parameter", `"${name}" a second time`);
    }
    this.parameters.set(name, { name, shape: [...shape], role, init });
    return name;
  }

  /** Adds a node of any op. Returns the name of its first output. */
  node(op: string, inputs: string | readonly string[], options: NodeOptions = {}): string {
    const name = options.name ?? this.freshName(op);
    if (this.nodes.has(name)) {
      throw expected("ERR_FM_GRAPH", "a new name", "a node", `"${name}" a second time`);
    }
    const node: NodeSpec = {
      name,
      op,
      inputs: typeof inputs === "string" ? [inputs] : [...inputs],
      outputs: options.outputs ?? [name],
      parameters: options.parameters ?? {},
      attributes: options.attributes ?? {},
    };
    // Inferred even where shapes are given: that also checks the names of inputs and parameters.
    const inferred = this.infer(node);
    const shapes = options.shapes ?? [inferred];
    node.outputs.forEach((output, i) => {
      this.addValue(output, shapes[i]);
    });
    this.nodes.set(name, node);
    const first = node.outputs[0];
    if (first === undefined) throw expected("ERR_FM_GRAPH", "an output", `node ${name}`, "none");
    return first;
  }

  /** The per-sample shape of a value. */
  shapeOf(value: string): Shape {
    const shape = this.values.get(value);
    if (shape !== undefined) return shape;
    const problem = this.values.has(value)
      ? "one of an op without a shape rule"
      : "an unknown name";
    throw expected("ERR_FM_GRAPH", "a value of known shape", `"${value}"`, problem);
  }

  /** The shape of a declared parameter. */
  parameterShape(name: string): Shape {
    const parameter = this.parameters.get(name);
    if (parameter !== undefined) return parameter.shape;
    throw expected("ERR_FM_GRAPH", "the name of a declared parameter", "a layer", `"${name}"`);
  }

  /**
   * The finished graph, frozen; `JSON.stringify` gives what the engine reads.
   *
   * @param outputs names of values; the first is the logits
   */
  build(outputs: readonly string[]): Graph {
    if (outputs.length === 0) throw expected("ERR_FM_GRAPH", "an output", "the graph", "none");
    for (const output of outputs) this.checkValue(output);
    const graph: Graph = {
      version: GRAPH_VERSION,
      name: this.name,
      inputs: this.inputs,
      parameters: [...this.parameters.values()],
      nodes: [...this.nodes.values()],
      outputs: [...outputs],
    };
    return deepFreeze(structuredClone(graph));
  }

  /** A node whose one output takes the layer's name, or `output`. */
  protected layer(
    op: string,
    name: string,
    inputs: string | readonly string[],
    { output }: PlainOptions,
    options: NodeOptions = {},
  ): string {
    return this.node(op, inputs, { ...options, name, outputs: [output ?? name] });
  }

  private infer(node: NodeSpec): Shape | undefined {
    const parameters: Record<string, Shape> = {};
    for (const [slot, name] of Object.entries(node.parameters)) {
      const parameter = this.parameters.get(name);
      if (parameter === undefined) {
        const what = "the name of a declared parameter";
        throw expected("ERR_FM_GRAPH", what, `${slot} of node ${node.name}`, `"${name}"`);
      }
      parameters[slot] = parameter.shape;
    }
    const inputs: Shape[] = [];
    for (const input of node.inputs) {
      this.checkValue(input);
      const shape = this.values.get(input);
      if (shape === undefined) return undefined;
      inputs.push(shape);
    }
    return inferShape({ ...node, inputs, parameters });
  }

  private addValue(name: string, shape: Shape | undefined): void {
    if (this.values.has(name)) {
      throw expected("ERR_FM_GRAPH", "a new name", "a value", `"${name}" a second time`);
    }
    this.values.set(name, shape);
  }

  private checkValue(name: string): void {
    if (!this.values.has(name)) {
      throw expected("ERR_FM_GRAPH", "the name of an earlier value", "an input", `"${name}"`);
    }
  }

  private freshName(op: string): string {
    let number = this.nodes.size + 1;
    while (this.nodes.has(`${op}_${number}`) || this.values.has(`${op}_${number}`)) number += 1;
    return `${op}_${number}`;
  }
}
