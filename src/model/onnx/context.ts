import type { OnnxArray, OnnxAttribute, OnnxDType, OnnxNode } from "../../io/onnx/model.js";
import { FishermaskError } from "../../native/errors.js";
import type { ParameterRole } from "../graph.js";
import type { EmitOptions, EngineGraph, EngineValue } from "./engine-graph.js";
import { Forms } from "./forms.js";
import {
  broadcastDims,
  constantOperand,
  elementCount,
  formShape,
  isFloat,
  type Layout,
  type Operand,
  type ValueOperand,
  valueOperand,
} from "./operand.js";

/** Makes the engine's nodes for one ONNX node and says what its outputs are. */
export type NodeImporter = (node: NodeContext) => Operand | readonly Operand[];

/** What one file of ops/ exports: ONNX's operator → importer. */
export type Importers = Readonly<Record<string, NodeImporter>>;

/** Where a parameter of a node comes from. */
export interface SlotOptions {
  /** The engine wants the matrix the other way round: (out, in) for the operand's (in, out). */
  readonly transposed?: boolean;
  /** The engine's shape: the same numbers in the same order; default: the operand's. */
  readonly shape?: readonly number[];
}

/** Operands of an elementwise op in one layout, and the way back. */
export interface Aligned {
  readonly layout: Layout;
  /** One per operand; their shapes broadcast to the result's. */
  readonly values: readonly EngineValue[];
  /** The operands' dims, broadcast. */
  readonly dims: readonly number[];
  /** The engine's shape of `dims` in this layout. */
  readonly shape: readonly number[];
  /** An operand from a value of `shape`. */
  readonly finish: (value: EngineValue, dtype?: OnnxDType) => ValueOperand;
}

// What lies beyond 2^53 is how exporters write "to the end".
function whole(value: bigint): number {
  const most = Number.MAX_SAFE_INTEGER;
  return Math.min(Math.max(Number(value), -most), most);
}

/** How the error of a node that is not imported names it. */
export function unsupported(label: string, opType: string, reason: string): FishermaskError {
  return new FishermaskError(
    "ERR_FM_UNSUPPORTED",
    `Expected a node that fishermask imports for ${label} (${opType}) but received ${reason}`,
    { details: { node: label, op: opType, reason } },
  );
}

/**
 * What an importer sees of one ONNX node: its operands, its attributes with their defaults, and the engine's graph under
 * construction. Every method refuses (`ERR_FM_UNSUPPORTED`, naming node, op and reason) what it cannot give.
 */
export class NodeContext {
  readonly node: OnnxNode;
  /** The node's name, or its first output's. */
  readonly label: string;
  /** Of the node's domain. */
  readonly opset: number;
  /** null: left out. */
  readonly inputs: readonly (Operand | null)[];
  readonly graph: EngineGraph;
  readonly #forms: Forms;
  readonly #outputUsed: (name: string) => boolean;
  readonly #tensors: (attribute: string) => OnnxArray | undefined;
  readonly #note: (text: string) => void;
  readonly #final: boolean;

  constructor(parts: {
    readonly node: OnnxNode;
    readonly label: string;
    readonly opset: number;
    readonly inputs: readonly (Operand | null)[];
    readonly graph: EngineGraph;
    readonly outputUsed: (name: string) => boolean;
    readonly tensors: (attribute: string) => OnnxArray | undefined;
    readonly note: (text: string) => void;
    /** No node of the model reads the outputs. */
    readonly final: boolean;
  }) {
    this.node = parts.node;
    this.label = parts.label;
    this.opset = parts.opset;
    this.inputs = parts.inputs;
    this.graph = parts.graph;
    this.#outputUsed = parts.outputUsed;
    this.#tensors = parts.tensors;
    this.#note = parts.note;
    this.#final = parts.final;
    this.#forms = new Forms(this.graph, this.label, (reason) => this.refuse(reason));
  }

  refuse(reason: string): never {
    throw unsupported(this.label, this.node.opType, reason);
  }

  /** A remark for the import's result, said once. */
  note(text: string): void {
    this.#note(text);
  }

  // --- operands ---

  /** The i-th input; refuses where it is left out. */
  input(i: number): Operand {
    return this.inputs[i] ?? this.refuse(`no input ${i}`);
  }

  /** The i-th input, undefined where it is left out. */
  optional(i: number): Operand | undefined {
    return this.inputs[i] ?? undefined;
  }

  get outputCount(): number {
    return this.node.outputs.length;
  }

  /** Whether the i-th output is named and read by somebody. */
  wantsOutput(i: number): boolean {
    const name = this.node.outputs[i];
    return name !== undefined && name !== "" && this.#outputUsed(name);
  }

  // --- attributes ---

  has(name: string): boolean {
    return this.node.attributes.has(name);
  }

  int(name: string, fallback?: number): number {
    const attribute = this.#attribute(name, "int");
    if (attribute === undefined) return fallback ?? this.refuse(`no attribute ${name}`);
    return whole(attribute.value);
  }

  float(name: string, fallback?: number): number {
    const attribute = this.#attribute(name, "float");
    return attribute?.value ?? fallback ?? this.refuse(`no attribute ${name}`);
  }

  string(name: string, fallback?: string): string {
    const attribute = this.#attribute(name, "string");
    return attribute?.value ?? fallback ?? this.refuse(`no attribute ${name}`);
  }

  /** undefined where it is left out. */
  ints(name: string): readonly number[] | undefined {
    return this.#attribute(name, "ints")?.value.map(whole);
  }

  floats(name: string): readonly number[] | undefined {
    return this.#attribute(name, "floats")?.value;
  }

  strings(name: string): readonly string[] | undefined {
    return this.#attribute(name, "strings")?.value;
  }

  /** A tensor attribute's data; undefined where it is left out. */
  tensor(name: string): OnnxArray | undefined {
    return this.#tensors(name);
  }

  #attribute<K extends OnnxAttribute["kind"]>(
    name: string,
    kind: K,
  ): Extract<OnnxAttribute, { kind: K }> | undefined {
    const attribute = this.node.attributes.get(name);
    if (attribute === undefined) return undefined;
    if (attribute.kind !== kind) {
      this.refuse(`attribute ${name} of type ${attribute.kind} instead of ${kind}`);
    }
    return attribute as Extract<OnnxAttribute, { kind: K }>;
  }

  /** 0 ≤ axis < rank, from the end when negative. `rank + 1` allows the place behind the last (Unsqueeze, Flatten). */
  axis(axis: number, rank: number): number {
    const place = axis < 0 ? axis + rank : axis;
    if (place < 0 || place >= rank) this.refuse(`axis ${axis} of a tensor of rank ${rank}`);
    return place;
  }

  // --- what is known at import ---

  /** The data, where they are at hand: of a constant, a parameter or a known graph input. */
  known(operand: Operand): OnnxArray | undefined {
    if (operand.kind === "value") return operand.known;
    if (operand.kind === "constant") return operand.array;
    return operand.transposed ? undefined : { ...operand.array, dims: operand.dims };
  }

  /** The data; refuses where they are computed at run time. */
  array(operand: Operand, what: string): OnnxArray {
    return this.known(operand) ?? this.refuse(`${what} that is computed at run time`);
  }

  /** Whole numbers: axes, shapes, pads, indices. Beyond ±2^53 the nearest within. */
  integers(operand: Operand, what: string): readonly number[] {
    const { data } = this.array(operand, what);
    if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
      return Array.from<bigint, number>(data, whole);
    }
    if (isFloat(operand.dtype)) this.refuse(`${what} of type ${operand.dtype}`);
    return Array.from(data);
  }

  /** Numbers of any type as doubles. */
  numbers(operand: Operand, what: string): readonly number[] {
    const { data } = this.array(operand, what);
    return data instanceof BigInt64Array || data instanceof BigUint64Array
      ? Array.from(data, Number)
      : Array.from(data);
  }

  /** The one number of a tensor of one element. */
  scalar(operand: Operand, what: string): number {
    const values = this.numbers(operand, what);
    if (values.length !== 1) this.refuse(`${what} of ${values.length} elements`);
    return values[0] as number;
  }

  // --- layouts ---

  /** Shape: the operand's dims. `role` is for an initializer that is read as a value. */
  plain(operand: Operand, role?: ParameterRole): EngineValue {
    return this.#forms.of(operand, "plain", role);
  }

  /** Shape: dims without the leading 1, which must be there. */
  unbatched(operand: Operand): EngineValue {
    return this.#forms.of(operand, "unbatched");
  }

  /** Of (N, C, spatial…): (spatial…, C) where N is 1, else (N, spatial…, C). */
  channelsLast(operand: Operand): EngineValue {
    return this.#forms.of(operand, "channelsLast");
  }

  /** The operand in this layout. */
  form(operand: Operand, layout: Layout): EngineValue {
    return this.#forms.of(operand, layout);
  }

  /** The layout that the operand has already; channels-last where there are several. */
  layoutOf(operand: Operand): Layout {
    if (operand.kind !== "value") return "plain";
    const order: readonly Layout[] = ["channelsLast", "unbatched", "plain"];
    return order.find((layout) => operand.forms.has(layout)) ?? "plain";
  }

  /** `i32` ids of an integer operand, of the operand's dims or, of a sample's, without the leading 1. */
  ids(operand: Operand): EngineValue {
    return this.#forms.ids(operand);
  }

  /** The layout that most of these operands of one rank have already. */
  commonLayout(operands: readonly Operand[], dims: readonly number[]): Layout {
    return this.#forms.cheapest(operands, dims);
  }

  /**
   * Works on (N, C, spatial…) one item at a time, where an op takes the whole engine sample as one: `work` takes
   * (spatial…, C) and may change all of these sizes; `dims` are the result's.
   */
  perItem(
    operand: Operand,
    dims: readonly number[],
    work: (item: EngineValue) => EngineValue,
  ): ValueOperand {
    const whole = this.channelsLast(operand);
    const count = operand.dims[0] ?? 0;
    if (count === 1) return this.result(work(whole), dims, operand.dtype, "channelsLast");
    const items = Array.from({ length: count }, (_, i) => {
      const item = this.graph.narrow(this.label, whole, 0, i, 1);
      const made = work(this.graph.reshape(this.label, item, whole.shape.slice(1)));
      return this.graph.reshape(this.label, made, [1, ...made.shape]);
    });
    const all = this.graph.concat(this.label, items, 0);
    return this.result(all, dims, operand.dtype, "channelsLast");
  }

  /** The images of (N, C, H, W) or (N, C, L), each (H, W, C) with H = 1 for a line. */
  images(operand: Operand): readonly EngineValue[] {
    const [count = 0, channels = 0, ...spatial] = operand.dims;
    if (spatial.length < 1 || spatial.length > 2) {
      this.refuse(`an input of rank ${operand.dims.length}`);
    }
    const whole = this.channelsLast(operand);
    const image = [...(spatial.length === 1 ? [1] : []), ...spatial, channels];
    return Array.from({ length: count }, (_, i) => {
      const one = count === 1 ? whole : this.graph.narrow(this.label, whole, 0, i, 1);
      return this.graph.reshape(this.label, one, image);
    });
  }

  /** An operand (N, C, spatial…) from N images (H, W, C). */
  fromImages(
    images: readonly EngineValue[],
    dims: readonly number[],
    dtype: OnnxDType,
  ): ValueOperand {
    const [, channels = 1, ...spatial] = dims;
    const size = [...spatial, channels];
    if (images.length === 1) {
      const image = this.graph.reshape(this.label, images[0] as EngineValue, size);
      return valueOperand("channelsLast", image, dims, dtype);
    }
    const rows = images.map((image) => this.graph.reshape(this.label, image, [1, ...size]));
    return valueOperand("channelsLast", this.graph.concat(this.label, rows, 0), dims, dtype);
  }

  /** Brings the operands of an elementwise op into one layout; which one costs the fewest moves. */
  align(operands: readonly Operand[]): Aligned {
    const dims = broadcastDims(...operands.map((operand) => operand.dims));
    if (dims === undefined) {
      const shapes = operands.map((operand) => `(${operand.dims.join(", ")})`).join(" and ");
      return this.refuse(`shapes that do not broadcast: ${shapes}`);
    }
    const layout = this.#forms.cheapest(operands, dims);
    const values = operands.map((operand) => this.#forms.broadcast(operand, layout, dims));
    const dtype = operands.find((operand) => isFloat(operand.dtype))?.dtype ?? "float";
    return {
      layout,
      values,
      dims,
      shape: formShape(layout, dims),
      finish: (value, type = dtype) => this.result(value, dims, type, layout),
    };
  }

  // --- parameters ---

  /**
   * The engine's name of the parameter that this operand is: an initializer in its role, or a buffer of the numbers of a
   * constant or known input. undefined where an initializer is in use in another order or shape (read it as a value then),
   * or the operand is computed.
   */
  tryParameter(
    operand: Operand,
    role: ParameterRole,
    options: SlotOptions = {},
  ): string | undefined {
    return this.#forms.parameter(operand, role, options);
  }

  /** As `tryParameter`, but refuses. */
  parameter(
    operand: Operand,
    role: ParameterRole,
    what: string,
    options: SlotOptions = {},
  ): string {
    const name = this.tryParameter(operand, role, options);
    if (name !== undefined) return name;
    return this.refuse(
      operand.kind === "value"
        ? `a ${what} that is computed at run time`
        : `a ${what} that another node uses in another order`,
    );
  }

  // --- results ---

  /** Adds an engine node with one output of this per-sample shape. */
  emit(
    op: string,
    inputs: readonly EngineValue[],
    shape: readonly number[],
    options: EmitOptions = {},
  ): EngineValue {
    return this.graph.emit(this.label, op, inputs, shape, options);
  }

  /** An operand of the engine's value, which stands in `layout` for these ONNX dims. */
  result(
    value: EngineValue,
    dims: readonly number[],
    dtype: OnnxDType,
    layout: Layout = "plain",
  ): ValueOperand {
    if (!isFloat(dtype) && dtype !== "bool") {
      this.refuse(`a result of type ${dtype}, which the engine does not compute`);
    }
    const shape = formShape(layout, dims);
    if (shape.join() !== value.shape.join()) {
      throw new Error(`${this.label}: (${value.shape.join()}) for (${shape.join()}), ${layout}`);
    }
    if (elementCount(dims) === 0) this.refuse("a result without elements");
    return valueOperand(layout, value, dims, dtype);
  }

  /** What a Cast may do freely: the result goes to the model's reader, who rounds it to its type. */
  get final(): boolean {
    return this.#final;
  }

  /**
   * Whole numbers that the engine computed as reals, for the model's reader: no node may compute with them, since the engine
   * has no integers.
   */
  wholeResult(value: EngineValue, dims: readonly number[], dtype: OnnxDType): ValueOperand {
    if (!this.final) this.refuse(`a reader of run-time values of type ${dtype}`);
    return valueOperand("plain", value, dims, dtype);
  }

  /** A constant result. */
  constant(array: OnnxArray): Operand {
    return constantOperand(array);
  }

  /** One op on one operand, which keeps dims, dtype and layout. */
  unary(
    op: string,
    operand: Operand,
    attributes: EmitOptions["attributes"] = {},
    dtype: OnnxDType = operand.dtype,
  ): ValueOperand {
    const layout = this.layoutOf(operand);
    const value = this.form(operand, layout);
    return this.result(
      this.emit(op, [value], value.shape, { attributes }),
      operand.dims,
      dtype,
      layout,
    );
  }
}
