import type { OnnxArray } from "../../io/onnx/model.js";
import { FishermaskError } from "../../native/errors.js";
import {
  type AttributeValue,
  GRAPH_VERSION,
  type Graph,
  type InputSpec,
  type NodeSpec,
  type ParameterRole,
  type ParameterSpec,
} from "../graph.js";
import { broadcastDims, elementCount, sameDims } from "./operand.js";

/** A value of the engine's graph: its name and per-sample shape. */
export interface EngineValue {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: "f32" | "i32";
}

/** A parameter of the engine's graph with its values and where they stand in the file. */
export interface EngineParameter {
  readonly name: string;
  shape: readonly number[];
  role: ParameterRole;
  /** In the engine's order. */
  readonly values: Float32Array | Float64Array;
  /** The initializer (or Constant output) that it is; null for what was computed at import. */
  readonly initializer: string | null;
  /** The engine's (out, in) is the file's (in, out). */
  readonly transposed: boolean;
}

/** What a parameter is to be made from. */
export interface ParameterRequest {
  readonly initializer: string;
  /** The file holds it under this name, and it can be written back. */
  readonly stored: boolean;
  readonly array: OnnxArray;
  readonly role: ParameterRole;
  readonly shape: readonly number[];
  readonly transposed: boolean;
}

// A few bytes of a file (a batch of a billion images) may ask for any number of nodes.
const kMostNodes = 200_000;

export interface EmitOptions {
  readonly parameters?: Readonly<Record<string, string>> | undefined;
  readonly attributes?: Readonly<Record<string, AttributeValue>> | undefined;
}

// A parameter used twice keeps the role that says most about it.
const kRoleRank: Readonly<Record<ParameterRole, number>> = {
  buffer: 0,
  bias: 1,
  norm: 2,
  embedding: 3,
  weight: 4,
};

/** Numbers of any dtype as the engine takes them. Doubles stay doubles. */
export function realValues(array: OnnxArray): Float32Array | Float64Array {
  const { data } = array;
  if (data instanceof Float32Array || data instanceof Float64Array) return data;
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
    return Float64Array.from(data, Number);
  }
  return Float64Array.from(data);
}

/** The (columns, rows) matrix of a (rows, columns) one. */
export function transposeMatrix<T extends Float32Array | Float64Array>(
  values: T,
  rows: number,
  columns: number,
): T {
  const out = values.slice() as T;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      out[column * rows + row] = values[row * columns + column] as number;
    }
  }
  return out;
}

function finiteParts(values: Float32Array | Float64Array): {
  readonly finite: Float32Array | Float64Array;
  readonly lower: Float32Array;
  readonly upper: Float32Array;
} {
  return {
    finite: values.map((value) => (Number.isFinite(value) ? value : 0)),
    lower: Float32Array.from(values, (value) =>
      value === Number.NEGATIVE_INFINITY ? 0 : Number.isNaN(value) ? -1 : 1,
    ),
    upper: Float32Array.from(values, (value) => (value === Number.POSITIVE_INFINITY ? 0 : 1)),
  };
}

// State and trained numbers stay apart even where a file stores them once (a scale and a variance of ones).
function parameterKey(request: Pick<ParameterRequest, "initializer" | "role">): string {
  return `${request.role === "buffer" ? "state" : "trained"} ${request.initializer}`;
}

function unusedName(hint: string, taken: Set<string>): string {
  let name = hint;
  for (let i = 2; taken.has(name); i++) name = `${hint}:${i}`;
  taken.add(name);
  return name;
}

/**
 * The engine's graph while it is made: unique names, parameters shared between their uses, and the moves that every
 * operator needs. Shapes are per sample.
 */
export class EngineGraph {
  readonly inputs: InputSpec[] = [];
  nodes: NodeSpec[] = [];
  /** In the order of their first use. */
  readonly parameters = new Map<string, EngineParameter>();
  readonly #names = new Set<string>();
  readonly #parameterNames = new Set<string>();
  readonly #values = new Map<string, EngineValue>();
  readonly #reshapes = new Map<string, EngineValue>();
  readonly #constants = new Map<OnnxArray, Map<string, EngineValue>>();
  readonly #parameterValues = new Map<string, EngineValue>();

  /** The hint, with a number behind it where a value or node has it. */
  unique(hint: string): string {
    return unusedName(hint, this.#names);
  }

  input(hint: string, shape: readonly number[], dtype: "f32" | "i32"): EngineValue {
    const name = this.unique(hint);
    this.inputs.push({ name, shape, dtype });
    return this.#made({ name, shape, dtype });
  }

  /** Adds a node with one output. The engine infers the shape anew and is right where the two differ. */
  emit(
    label: string,
    op: string,
    inputs: readonly EngineValue[],
    shape: readonly number[],
    options: EmitOptions = {},
  ): EngineValue {
    if (this.nodes.length >= kMostNodes) {
      throw new FishermaskError(
        "ERR_FM_UNSUPPORTED",
        `Expected a graph of at most ${kMostNodes} nodes for ${label} but received more`,
      );
    }
    const name = this.unique(`${label}/${op}`);
    // Without broadcasting the sum has an op of its own, which may write over its operand.
    const [a, b] = inputs;
    const isSum = op === "binary_add" && a !== undefined && b !== undefined;
    this.nodes.push({
      name,
      op: isSum && sameDims(a.shape, b.shape) ? "add" : op,
      inputs: inputs.map((input) => input.name),
      outputs: [name],
      parameters: options.parameters ?? {},
      attributes: options.attributes ?? {},
    });
    return this.#made({ name, shape, dtype: "f32" });
  }

  #made(value: EngineValue): EngineValue {
    this.#values.set(value.name, value);
    return value;
  }

  /** The value of this name. */
  value(name: string): EngineValue {
    const value = this.#values.get(name);
    if (value === undefined) throw new Error(`no value ${name}`);
    return value;
  }

  /** The node that makes the value; undefined for an input. */
  maker(value: EngineValue): NodeSpec | undefined {
    return this.nodes.find(({ outputs }) => outputs.includes(value.name));
  }

  /** The engine's name of an initializer in this order and shape; undefined where it is already used in another one. */
  parameter(request: ParameterRequest): string | undefined {
    const key = parameterKey(request);
    const known = this.parameters.get(key);
    if (known !== undefined) {
      if (known.transposed !== request.transposed || !sameDims(known.shape, request.shape)) {
        return undefined;
      }
      if (kRoleRank[request.role] > kRoleRank[known.role]) known.role = request.role;
      return known.name;
    }
    const name = unusedName(request.initializer, this.#parameterNames);
    this.parameters.set(key, { name, ...this.#stored(request) });
    return name;
  }

  #stored(request: ParameterRequest): Omit<EngineParameter, "name"> {
    const { array, role, shape, transposed, initializer, stored } = request;
    const values = realValues(array);
    const [columns = 1, rows = 1] = shape;
    return {
      shape,
      role,
      values: transposed ? transposeMatrix(values, rows, columns) : values,
      initializer: stored ? initializer : null,
      transposed,
    };
  }

  /** The initializer as a value in the file's order, whatever order its other uses have. */
  parameterValue(request: Omit<ParameterRequest, "transposed" | "shape">): EngineValue {
    const { initializer, array } = request;
    const key = parameterKey(request);
    const cached = this.#parameterValues.get(key);
    this.parameter({ ...request, shape: array.dims, transposed: false });
    const stored = this.parameters.get(key) as EngineParameter;
    if (kRoleRank[request.role] > kRoleRank[stored.role]) stored.role = request.role;
    if (cached !== undefined) return cached;
    let value = this.emit(initializer, "parameter", [], stored.shape, {
      parameters: { value: stored.name },
    });
    if (stored.transposed) value = this.transpose(initializer, value, [1, 0]);
    value = this.reshape(initializer, value, array.dims);
    this.#parameterValues.set(key, value);
    return value;
  }

  /** A fixed, untrained parameter's name; a new one at each call. Finite values only. */
  buffer(hint: string, values: Float32Array | Float64Array, shape: readonly number[]): string {
    const name = unusedName(hint, this.#parameterNames);
    this.parameters.set(`constant ${name}`, {
      name,
      shape,
      role: "buffer",
      values,
      initializer: null,
      transposed: false,
    });
    return name;
  }

  /** Fixed numbers as a value of this shape. Infinities and NaN are made by the engine, whose parameters are finite. */
  constant(label: string, array: OnnxArray, shape: readonly number[]): EngineValue {
    const key = shape.join();
    const shapes = this.#constants.get(array) ?? new Map<string, EngineValue>();
    this.#constants.set(array, shapes);
    const cached = shapes.get(key);
    if (cached !== undefined) return cached;
    const value = this.#constantValue(label, realValues(array), shape);
    shapes.set(key, value);
    return value;
  }

  #constantValue(
    label: string,
    values: Float32Array | Float64Array,
    shape: readonly number[],
  ): EngineValue {
    if (values.every(Number.isFinite)) return this.#read(label, values, shape);
    // ln 1 = 0 leaves a value as it is, ln 0 is −∞ and ln −1 is NaN.
    const { finite, lower, upper } = finiteParts(values);
    const down = this.emit(label, "log", [this.#read(label, lower, shape)], shape);
    const up = this.emit(label, "log", [this.#read(label, upper, shape)], shape);
    const bounded = this.emit(label, "add", [this.#read(label, finite, shape), down], shape);
    return this.emit(label, "sub", [bounded, up], shape);
  }

  #read(label: string, values: Float32Array | Float64Array, shape: readonly number[]): EngineValue {
    const name = this.buffer(`${label}/constant`, values, shape);
    return this.emit(label, "parameter", [], shape, { parameters: { value: name } });
  }

  reshape(label: string, value: EngineValue, shape: readonly number[]): EngineValue {
    if (sameDims(value.shape, shape)) return value;
    if (elementCount(value.shape) !== elementCount(shape)) {
      throw new Error(`reshape of (${value.shape.join()}) to (${shape.join()})`);
    }
    // Back to what it was made from costs nothing.
    const maker = this.#reshapes.get(value.name);
    if (maker !== undefined && sameDims(maker.shape, shape)) return maker;
    const made = this.emit(label, "reshape", [value], shape, { attributes: { shape } });
    this.#reshapes.set(made.name, maker ?? value);
    return made;
  }

  transpose(label: string, value: EngineValue, perm: readonly number[]): EngineValue {
    if (perm.every((axis, i) => axis === i)) return value;
    const shape = perm.map((axis) => value.shape[axis] as number);
    // Where only sizes of 1 change their places, no number does.
    const moved = perm.filter((axis) => value.shape[axis] !== 1);
    if (moved.every((axis, i) => i === 0 || axis > (moved[i - 1] as number))) {
      return this.reshape(label, value, shape);
    }
    return this.emit(label, "transpose", [value], shape, { attributes: { perm } });
  }

  /** y[i] = x[starts + i·steps], of these sizes; one of each per size of the value. */
  slice(
    label: string,
    value: EngineValue,
    starts: readonly number[],
    sizes: readonly number[],
    steps: readonly number[] = starts.map(() => 1),
  ): EngineValue {
    if (sameDims(sizes, value.shape) && steps.every((step) => step === 1)) return value;
    return this.emit(label, "slice", [value], sizes, { attributes: { starts, steps, sizes } });
  }

  /** `size` entries of one axis from `start`. */
  narrow(
    label: string,
    value: EngineValue,
    axis: number,
    start: number,
    size: number,
  ): EngineValue {
    const starts = value.shape.map((_, i) => (i === axis ? start : 0));
    return this.slice(label, value, starts, value.shape.with(axis, size));
  }

  concat(label: string, values: readonly EngineValue[], axis: number): EngineValue {
    const [first] = values;
    if (first === undefined) throw new Error("concat of nothing");
    if (values.length === 1) return first;
    const size = values.reduce((sum, { shape }) => sum + (shape[axis] as number), 0);
    return this.emit(label, "concat", values, first.shape.with(axis, size), {
      attributes: { axis },
    });
  }

  /** Repeats sizes of 1 and adds sizes in front. */
  expand(label: string, value: EngineValue, shape: readonly number[]): EngineValue {
    if (sameDims(value.shape, shape)) return value;
    return this.emit(label, "expand", [value], shape, { attributes: { shape } });
  }

  /** One input, no parameter: the shape stays. */
  unary(
    label: string,
    op: string,
    value: EngineValue,
    attributes: Readonly<Record<string, AttributeValue>> = {},
  ): EngineValue {
    return this.emit(label, op, [value], value.shape, { attributes });
  }

  /** One of the broadcasting ops with two inputs, under docs/ops.md's name (`binary_add` for the sum). */
  binary(label: string, op: string, a: EngineValue, b: EngineValue): EngineValue {
    const shape = broadcastDims(a.shape, b.shape);
    if (shape === undefined) {
      throw new Error(`${op} of (${a.shape.join()}) and (${b.shape.join()})`);
    }
    return this.emit(label, op, [a, b], shape);
  }

  /** y = scale·x + shift. */
  affine(label: string, value: EngineValue, scale: number, shift = 0): EngineValue {
    if (scale === 1 && shift === 0) return value;
    return this.emit(label, "affine", [value], value.shape, { attributes: { scale, shift } });
  }

  /** Elements at these flat places of the value, −1 for a 0, as a value of this shape. */
  take(
    label: string,
    value: EngineValue,
    index: readonly number[],
    shape: readonly number[],
  ): EngineValue {
    return this.emit(label, "take", [value], shape, { attributes: { index, shape } });
  }

  /** Each new entry of one axis is a weighted sum of `taps` old ones: index −1 is none. */
  resample(
    label: string,
    value: EngineValue,
    axis: number,
    rows: readonly { readonly index: readonly number[]; readonly weight: readonly number[] }[],
  ): EngineValue {
    const taps = Math.max(1, ...rows.map(({ index }) => index.length));
    const padded = <T>(list: readonly T[], fill: T): readonly T[] =>
      Array.from({ length: taps }, (_, i) => list[i] ?? fill);
    const attributes = {
      axis,
      taps,
      index: rows.flatMap(({ index }) => padded(index, -1)),
      weight: rows.flatMap(({ weight }) => padded(weight, 0)),
    };
    return this.emit(label, "resample", [value], value.shape.with(axis, rows.length), {
      attributes,
    });
  }

  /** A `reduce_…` op over these axes (≥ 0). */
  reduce(
    label: string,
    op: string,
    value: EngineValue,
    axes: readonly number[],
    keepdims: boolean,
  ): EngineValue {
    const shape = value.shape.flatMap((size, axis) =>
      axes.includes(axis) ? (keepdims ? [1] : []) : [size],
    );
    return this.emit(label, op, [value], shape, { attributes: { axes, keepdims } });
  }

  /** The finished document: what these values need, and no more. Parameters keep the order of their first use. */
  finish(name: string, outputs: readonly string[]): Graph {
    const needed = new Set(outputs);
    const nodes = this.nodes
      .toReversed()
      .filter((node) => {
        if (!node.outputs.some((output) => needed.has(output))) return false;
        for (const input of node.inputs) needed.add(input);
        return true;
      })
      .reverse();
    const used = new Set(nodes.flatMap((node) => Object.values(node.parameters)));
    const parameters: ParameterSpec[] = [...this.parameters.values()]
      .filter((parameter) => used.has(parameter.name))
      .map(({ name: parameter, shape, role }) => ({
        name: parameter,
        shape,
        role,
        init: { kind: "zeros" },
      }));
    const read = this.inputs.filter((input) => needed.has(input.name));
    // The engine counts its samples by an input.
    const counted: InputSpec = {
      name: unusedName("nothing", this.#names),
      shape: [1],
      dtype: "f32",
    };
    const inputs = read.length > 0 ? read : [counted];
    return { version: GRAPH_VERSION, name, inputs, parameters, nodes, outputs };
  }
}
