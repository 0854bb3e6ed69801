import { writeFileAtomic } from "../../io/atomic-write.js";
import {
  encodeOnnx,
  type OnnxAttributeValue,
  type OnnxNodeParts,
  type OnnxTensorParts,
} from "../../io/onnx/encode.js";
import { FishermaskError } from "../../native/errors.js";
import { VERSION } from "../../version.js";
import type { AttributeValue, Graph, NodeSpec } from "../graph.js";
import type { Model } from "../model.js";
import { inferShape, type Shape } from "../shape-rules.js";

const kOpset = 17;
// Protobuf's own limit.
const kMaxBytes = 2 ** 31 - 1;

/** What a node's writer works with. Images are (N, C, H, W) in ONNX, rows (N, F). */
interface Writing {
  readonly node: NodeSpec;
  /** Per-sample shape of each input, as the engine has it. */
  readonly shapes: readonly Shape[];
  readonly output: string;
  readonly emit: (
    op: string,
    inputs: readonly string[],
    attributes?: Readonly<Record<string, OnnxAttributeValue>>,
    output?: string,
  ) => string;
  /** The name of a new constant. */
  readonly constant: (values: BigInt64Array | Float32Array) => string;
}

type NodeWriter = (writing: Writing) => void;

function integers(value: AttributeValue | undefined, fallback: readonly number[]): number[] {
  return Array.isArray(value) ? [...(value as readonly number[])] : [...fallback];
}

const number = (value: AttributeValue | undefined, fallback: number): number =>
  typeof value === "number" ? value : fallback;

function refuse({ name, op }: NodeSpec, reason: string): FishermaskError {
  return new FishermaskError(
    "ERR_FM_UNSUPPORTED",
    `Expected a node that ONNX export covers but received '${name}' (${op}): ${reason}`,
  );
}

const input = ({ node }: Writing): string => node.inputs[0] as string;

/** weight and, where there is one, bias. */
function parameters({ node }: Writing, ...slots: string[]): string[] {
  return slots.flatMap((slot) => node.parameters[slot] ?? []);
}

function convolution(writing: Writing): void {
  const { attributes } = writing.node;
  writing.emit("Conv", [input(writing), ...parameters(writing, "weight", "bias")], {
    strides: { ints: integers(attributes["stride"], [1, 1]) },
    pads: { ints: integers(attributes["padding"], [0, 0, 0, 0]) },
    dilations: { ints: integers(attributes["dilation"], [1, 1]) },
    group: { int: number(attributes["groups"], 1) },
  });
}

function batchNorm(writing: Writing): void {
  const slots = parameters(writing, "weight", "bias", "running_mean", "running_var");
  const epsilon = { float: number(writing.node.attributes["epsilon"], 1e-5) };
  writing.emit("BatchNormalization", [input(writing), ...slots], { epsilon });
}

function linear(writing: Writing): void {
  if (writing.shapes[0]?.length !== 1) {
    throw refuse(writing.node, "a linear layer on sequences");
  }
  const slots = parameters(writing, "weight", "bias");
  writing.emit("Gemm", [input(writing), ...slots], { transB: { int: 1 } });
}

function pool(op: string): NodeWriter {
  return (writing) => {
    const { attributes } = writing.node;
    const kernel = integers(attributes["kernel"], [1, 1]);
    const counted = attributes["count_include_pad"] === false ? 0 : 1;
    writing.emit(op, [input(writing)], {
      kernel_shape: { ints: kernel },
      strides: { ints: integers(attributes["stride"], kernel) },
      pads: { ints: integers(attributes["padding"], [0, 0, 0, 0]) },
      ...(op === "MaxPool"
        ? { dilations: { ints: integers(attributes["dilation"], [1, 1]) } }
        : { count_include_pad: { int: counted } }),
    });
  };
}

function globalAveragePool(writing: Writing): void {
  const { emit, output } = writing;
  const pooled = emit("GlobalAveragePool", [input(writing)], {}, `${output}/pooled`);
  emit("Flatten", [pooled], { axis: { int: 1 } });
}

/** The engine's (H, W, C) and ONNX's (N, C, H, W): where an axis of the one is in the other. */
function axisInOnnx(axis: number, rank: number): number {
  const place = axis < 0 ? axis + rank : axis;
  if (rank !== 3) return place + 1;
  return place === 2 ? 1 : place + 2;
}

function concat(writing: Writing): void {
  const { node, shapes } = writing;
  const axis = axisInOnnx(number(node.attributes["axis"], -1), shapes[0]?.length ?? 0);
  writing.emit("Concat", node.inputs, { axis: { int: axis } });
}

function add(writing: Writing): void {
  const { node, emit, output } = writing;
  // Two at a time, as `Sum` does it too, in the engine's order.
  node.inputs.slice(1).reduce((sum, other, i) => {
    const isLast = i === node.inputs.length - 2;
    return emit("Add", [sum, other], {}, isLast ? output : `${output}/${i}`);
  }, node.inputs[0] as string);
}

function pad2d(writing: Writing): void {
  const { node, emit, constant, output } = writing;
  const [top = 0, left = 0, bottom = 0, right = 0] = integers(node.attributes["padding"], []);
  const [before = 0, after = 0] = integers(node.attributes["channels"], []);
  const [rows = 1, columns = 1] = integers(node.attributes["step"], []);
  const longs = (...values: number[]): string =>
    constant(BigInt64Array.from(values, (value) => BigInt(value)));
  const stepped =
    rows === 1 && columns === 1
      ? input(writing)
      : emit(
          "Slice",
          [
            input(writing),
            longs(0, 0),
            constant(BigInt64Array.of(2n ** 31n - 1n, 2n ** 31n - 1n)),
            longs(2, 3),
            longs(rows, columns),
          ],
          {},
          `${output}/stepped`,
        );
  const pads = longs(0, before, top, left, 0, after, bottom, right);
  const value = constant(Float32Array.of(number(node.attributes["value"], 0)));
  emit("Pad", [stepped, pads, value], { mode: { string: "constant" } });
}

function silu(writing: Writing): void {
  const gate = writing.emit("Sigmoid", [input(writing)], {}, `${writing.output}/gate`);
  writing.emit("Mul", [input(writing), gate]);
}

const plain =
  (op: string, ...attributes: string[]): NodeWriter =>
  (writing) => {
    const given = attributes.flatMap((name) => {
      const value = writing.node.attributes[name];
      return typeof value === "number" ? [[name, { float: value }] as const] : [];
    });
    writing.emit(op, [input(writing)], Object.fromEntries(given));
  };

/** By the engine's op. */
const kWriters: Readonly<Record<string, NodeWriter>> = {
  conv2d: convolution,
  batch_norm: batchNorm,
  linear,
  relu: plain("Relu"),
  sigmoid: plain("Sigmoid"),
  tanh: plain("Tanh"),
  softplus: plain("Softplus"),
  hard_swish: plain("HardSwish"),
  hard_sigmoid: plain("HardSigmoid", "alpha", "beta"),
  leaky_relu: plain("LeakyRelu", "alpha"),
  elu: plain("Elu", "alpha"),
  silu,
  // In evaluation it does nothing.
  dropout: plain("Identity"),
  max_pool2d: pool("MaxPool"),
  avg_pool2d: pool("AveragePool"),
  global_avg_pool: globalAveragePool,
  flatten: (writing) => {
    writing.emit("Flatten", [input(writing)], { axis: { int: 1 } });
  },
  add,
  concat,
  pad2d,
};

class Exporter {
  readonly nodes: OnnxNodeParts[] = [];
  readonly initializers: OnnxTensorParts[] = [];
  readonly #graph: Graph;
  readonly #shapes = new Map<string, Shape>();

  constructor(graph: Graph) {
    this.#graph = graph;
    for (const { name, shape } of graph.inputs) this.#shapes.set(name, shape);
    for (const node of graph.nodes) this.#write(node);
  }

  shapeOf(value: string): Shape {
    return this.#shapes.get(value) as Shape;
  }

  #write(node: NodeSpec): void {
    const write = Object.hasOwn(kWriters, node.op) ? kWriters[node.op] : undefined;
    if (write === undefined) throw refuse(node, "its op is not among those of image classifiers");
    const shapes = node.inputs.map((name) => this.shapeOf(name));
    const output = node.outputs[0] as string;
    const specs = new Map(this.#graph.parameters.map((each) => [each.name, each.shape]));
    const parameters = Object.fromEntries(
      Object.entries(node.parameters).map(([slot, name]) => [slot, specs.get(name) as Shape]),
    );
    const shape = inferShape({ ...node, inputs: shapes, parameters });
    if (shape === undefined) throw refuse(node, "its shape is not known");
    this.#shapes.set(output, shape);
    write({ node, shapes, output, emit: this.#emitter(node, output), constant: this.#constant });
  }

  #emitter(node: NodeSpec, last: string): Writing["emit"] {
    return (op, inputs, attributes = {}, output = last) => {
      const name = output === last ? node.name : output;
      this.nodes.push({ name, op, inputs, outputs: [output], attributes });
      return output;
    };
  }

  #constant = (values: BigInt64Array | Float32Array): string => {
    const name = `constant/${this.initializers.length}`;
    const isFloat = values instanceof Float32Array;
    this.initializers.push({
      name,
      dtype: isFloat ? "float" : "int64",
      dims: isFloat ? [] : [values.length],
      bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
    });
    return name;
  };
}

/** A value's sizes in ONNX: the batch first, and channels before rows and columns. */
function dimsOf(shape: Shape): (number | string)[] {
  const [height, width, channels] = shape;
  return shape.length === 3
    ? ["N", channels as number, height as number, width as number]
    : ["N", ...shape];
}

/**
 * Writes an image classifier as an ONNX model (operator set 17): input (N, C, H, W) as the network takes it, after normalisation;
 * output the logits (N, classes). Weights keep their names. The destination is old or new, never partial.
 *
 * @throws {@link FishermaskError} `ERR_FM_UNSUPPORTED` naming the node that is not covered, before anything is written, or for more
 * than 2 GiB; `ERR_FM_IO`
 */
export async function exportOnnx(
  model: Pick<Model, "graph">,
  weights: ReadonlyMap<string, Float32Array>,
  destination: string,
): Promise<void> {
  const { graph } = model;
  const exporter = new Exporter(graph);
  const logits = graph.outputs[0] as string;
  const tensors = graph.parameters.map(({ name, shape }): OnnxTensorParts => {
    const values = weights.get(name);
    if (values === undefined) {
      throw new FishermaskError("ERR_FM_MISMATCH", `Expected weights for tensor "${name}"`);
    }
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    return { name, dtype: "float", dims: shape, bytes };
  });
  const { pieces, size } = encodeOnnx({
    name: graph.name,
    producer: "fishermask",
    producerVersion: VERSION,
    opset: kOpset,
    nodes: exporter.nodes,
    initializers: [...tensors, ...exporter.initializers],
    inputs: graph.inputs.map(({ name, shape }) => ({ name, dims: dimsOf(shape) })),
    outputs: [{ name: logits, dims: dimsOf(exporter.shapeOf(logits)) }],
  });
  if (size > kMaxBytes) {
    const received = `${size} bytes`;
    throw new FishermaskError(
      "ERR_FM_UNSUPPORTED",
      `Expected at most 2 GiB for ${destination} but received ${received}`,
    );
  }
  await writeFileAtomic(destination, pieces);
}
