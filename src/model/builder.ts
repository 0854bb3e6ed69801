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
import {
  type AvgPoolOptions,
  type BatchNormOptions,
  type ConcatOptions,
  type Conv2dOptions,
  type DropoutOptions,
  type LayerInit,
  type LinearOptions,
  type MaxPoolOptions,
  type Pad2dOptions,
  type PlainOptions,
  type PoolOptions,
  pair,
  sides,
} from "./layer-options.js";
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

// PyTorch's kaiming_uniform_(a = √5) is a gain of √(2 / (1 + 5)).
const kPyTorchWeight: Initializer = { kind: "kaiming-uniform", gain: Math.sqrt(1 / 3) };

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    for (const part of Object.values(value)) deepFreeze(part);
    Object.freeze(value);
  }
  return value;
}

/**
 * Builds a {@link Graph} layer by layer. Layer methods take and return names of values, follow per-sample shapes, and
 * declare parameters under PyTorch's names: `conv1` owns `conv1.weight` and `conv1.bias`.
 *
 * Every method throws {@link FishermaskError}: `ERR_FM_GRAPH` for a name that is taken or unknown, `ERR_FM_SHAPE` for
 * sizes that do not fit, `ERR_FM_ARGUMENT` for a size that is no whole number from 1.
 *
 * @example
 * const b = new GraphBuilder("tiny");
 * const x = b.input("input", [8, 8, 3]);
 * const y = b.globalAvgPool("pool", b.relu("relu1", b.conv2d("conv1", x, { out: 4, kernel: 3 })));
 * const graph = b.build([b.linear("fc", y, { out: 10, output: "logits" })]);
 */
export class GraphBuilder {
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

  /** y = x·Wᵀ + b on the last size of x: (…, in) → (…, out). */
  linear(name: string, x: string, options: LinearOptions): string {
    const width = this.shapeOf(x).at(-1) ?? 0;
    const parameters = this.weightAndBias(name, [options.out, width], options);
    return this.layer("linear", name, x, options, { parameters });
  }

  /** (H, W, C_in) → (H', W', C_out), weight (C_out, C_in/groups, K_h, K_w). */
  conv2d(name: string, x: string, options: Conv2dOptions): string {
    const groups = options.groups ?? 1;
    const perGroup = (this.shapeOf(x)[2] ?? 0) / groups;
    const shape = [options.out, perGroup, ...pair(options.kernel)];
    return this.layer("conv2d", name, x, options, {
      parameters: this.weightAndBias(name, shape, options),
      attributes: {
        stride: pair(options.stride ?? 1),
        padding: sides(options.padding ?? 0),
        dilation: pair(options.dilation ?? 1),
        groups,
      },
    });
  }

  /** Over the last size (channels): weight 1, bias 0, running_mean 0, running_var 1 at first. */
  batchNorm(name: string, x: string, options: BatchNormOptions = {}): string {
    const shape = [this.shapeOf(x).at(-1) ?? 0];
    const own = (slot: string, role: ParameterRole, kind: "ones" | "zeros"): string =>
      this.parameter(`${name}.${slot}`, shape, role, { kind });
    return this.layer("batch_norm", name, x, options, {
      parameters: {
        weight: own("weight", "norm", "ones"),
        bias: own("bias", "norm", "zeros"),
        running_mean: own("running_mean", "buffer", "zeros"),
        running_var: own("running_var", "buffer", "ones"),
      },
      attributes: { epsilon: options.epsilon ?? 1e-5, momentum: options.momentum ?? 0.1 },
    });
  }

  relu(name: string, x: string, options: PlainOptions = {}): string {
    return this.layer("relu", name, x, options);
  }

  /** Padding never wins: it counts as −∞. */
  maxPool2d(name: string, x: string, options: MaxPoolOptions): string {
    const dilation = pair(options.dilation ?? 1);
    const attributes = { ...this.poolAttributes(options), dilation };
    return this.layer("max_pool2d", name, x, options, { attributes });
  }

  avgPool2d(name: string, x: string, options: AvgPoolOptions): string {
    const counted = options.countIncludePad ?? true;
    const attributes = { ...this.poolAttributes(options), count_include_pad: counted };
    return this.layer("avg_pool2d", name, x, options, { attributes });
  }

  /** (H, W, C) → (C,), the mean over positions. */
  globalAvgPool(name: string, x: string, options: PlainOptions = {}): string {
    return this.layer("global_avg_pool", name, x, options);
  }

  /** The sum of values of one shape. */
  add(name: string, inputs: readonly string[], options: PlainOptions = {}): string {
    return this.layer("add", name, inputs, options);
  }

  concat(name: string, inputs: readonly string[], options: ConcatOptions): string {
    return this.layer("concat", name, inputs, options, { attributes: { axis: options.axis } });
  }

  /** (H, W, C) → (C·H·W,) in the order of PyTorch's (C, H, W), so that its linear weights fit. */
  flatten(name: string, x: string, options: PlainOptions = {}): string {
    return this.layer("flatten", name, x, options);
  }

  /** Takes every step-th row and column, then pads rows, columns and channels with a value. */
  pad2d(name: string, x: string, options: Pad2dOptions): string {
    const attributes = {
      padding: sides(options.padding ?? 0),
      channels: options.channels ?? [0, 0],
      step: pair(options.step ?? 1),
      value: options.value ?? 0,
    };
    return this.layer("pad2d", name, x, options, { attributes });
  }

  dropout(name: string, x: string, options: DropoutOptions): string {
    if (!(options.rate >= 0 && options.rate < 1)) {
      throw expected("ERR_FM_ARGUMENT", "a share from 0 to below 1", `${name}.rate`, options.rate);
    }
    return this.layer("dropout", name, x, options, { attributes: { rate: options.rate } });
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

  private layer(
    op: string,
    name: string,
    inputs: string | readonly string[],
    { output }: PlainOptions,
    options: NodeOptions = {},
  ): string {
    return this.node(op, inputs, { ...options, name, outputs: [output ?? name] });
  }

  private weightAndBias(
    name: string,
    shape: Shape,
    options: { bias?: boolean; init?: LayerInit },
  ): Record<string, string> {
    const { init = {} } = options;
    const fanIn = shape.slice(1).reduce((product, size) => product * size, 1);
    const weight = this.parameter(`${name}.weight`, shape, "weight", init.weight ?? kPyTorchWeight);
    if (options.bias === false) return { weight };
    const filled = init.bias ?? { kind: "uniform", bound: 1 / Math.sqrt(fanIn) };
    return {
      weight,
      bias: this.parameter(`${name}.bias`, shape.slice(0, 1), "bias", filled),
    };
  }

  private poolAttributes(options: PoolOptions): Record<string, AttributeValue> {
    return {
      kernel: pair(options.kernel),
      stride: pair(options.stride ?? options.kernel),
      padding: sides(options.padding ?? 0),
    };
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
