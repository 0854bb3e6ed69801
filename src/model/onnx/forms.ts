import type { ParameterRole } from "../graph.js";
import type { SlotOptions } from "./context.js";
import { type EngineGraph, type EngineValue, realValues } from "./engine-graph.js";
import {
  type ConstantOperand,
  channelsLastPerm,
  elementCount,
  formShape,
  isFloat,
  type Layout,
  type Operand,
  type ParameterOperand,
  sameDims,
  type ValueOperand,
} from "./operand.js";

/** What an initializer is where nothing says more: a single number is a constant of the formula. */
function plainRole(operand: ParameterOperand): ParameterRole {
  return elementCount(operand.dims) === 1 ? "buffer" : "bias";
}

/** Brings operands into the engine's layouts, each once. */
export class Forms {
  readonly #graph: EngineGraph;
  readonly #label: string;
  readonly #refuse: (reason: string) => never;

  constructor(graph: EngineGraph, label: string, refuse: (reason: string) => never) {
    this.#graph = graph;
    this.#label = label;
    this.#refuse = refuse;
  }

  of(operand: Operand, layout: Layout, role?: ParameterRole): EngineValue {
    if (layout === "unbatched" && operand.dims[0] !== 1) {
      this.#refuse(`a tensor whose first size is ${operand.dims[0] ?? "none"} instead of 1`);
    }
    if (layout === "channelsLast" && operand.dims.length < 3) {
      this.#refuse(`a tensor of rank ${operand.dims.length} without channels and places`);
    }
    if (operand.kind !== "value")
      return this.#move(this.#stored(operand, role), operand.dims, layout);
    if (!isFloat(operand.dtype) && operand.dtype !== "bool" && operand.largest === undefined) {
      this.#refuse(`computing with a run-time input of type ${operand.dtype}`);
    }
    const made = operand.forms.get(layout);
    if (made !== undefined) return made;
    const value = this.#move(this.#plainValue(operand), operand.dims, layout);
    operand.forms.set(layout, value);
    return value;
  }

  ids(operand: Operand): EngineValue {
    const forms = operand.kind === "value" ? operand.forms : undefined;
    const value = forms?.get("plain") ?? forms?.get("unbatched");
    if (value?.dtype !== "i32") return this.#refuse("ids that are neither known nor an input");
    return value;
  }

  /** From plain to another layout. */
  #move(plain: EngineValue, dims: readonly number[], layout: Layout): EngineValue {
    const shape = formShape(layout, dims);
    if (layout !== "channelsLast") return this.#graph.reshape(this.#label, plain, shape);
    const perm = channelsLastPerm(dims.length);
    if (dims[0] !== 1) return this.#graph.transpose(this.#label, plain, perm);
    const single = this.#graph.reshape(this.#label, plain, dims.slice(1));
    return this.#graph.transpose(
      this.#label,
      single,
      perm.slice(1).map((axis) => axis - 1),
    );
  }

  #plainValue(operand: ValueOperand): EngineValue {
    const plain = operand.forms.get("plain") ?? this.#makePlain(operand);
    operand.forms.set("plain", plain);
    return plain;
  }

  #makePlain(operand: ValueOperand): EngineValue {
    const { dims } = operand;
    const unbatched = operand.forms.get("unbatched");
    if (unbatched !== undefined) return this.#graph.reshape(this.#label, unbatched, dims);
    const last = operand.forms.get("channelsLast");
    if (last === undefined) throw new Error(`${this.#label}: an operand without a value`);
    // The inverse of the permutation to channels-last: C stands behind the places.
    const from = last.shape.length === dims.length ? 1 : 0;
    const rank = last.shape.length;
    const perm = [
      ...(from === 1 ? [0] : []),
      rank - 1,
      ...Array.from({ length: rank - 1 - from }, (_, i) => i + from),
    ];
    const moved = this.#graph.transpose(this.#label, last, perm);
    return this.#graph.reshape(this.#label, moved, dims);
  }

  /** A constant or parameter as a value of its dims. */
  #stored(
    operand: ConstantOperand | ParameterOperand,
    role: ParameterRole | undefined,
  ): EngineValue {
    if (elementCount(operand.dims) === 0) this.#refuse("a tensor without elements");
    if (operand.kind === "constant") {
      this.#checkExact(operand);
      return this.#graph.constant(this.#label, operand.array, operand.dims);
    }
    const { initializer, array, transposed } = operand;
    const value = this.#graph.parameterValue({
      initializer,
      stored: true,
      array,
      role: role ?? plainRole(operand),
    });
    if (!transposed) return this.#graph.reshape(this.#label, value, operand.dims);
    const matrix = this.#graph.reshape(this.#label, value, operand.dims.toReversed());
    return this.#graph.transpose(this.#label, matrix, [1, 0]);
  }

  #checkExact(operand: ConstantOperand): void {
    if (isFloat(operand.dtype) || operand.dtype === "bool") return;
    if (!realValues(operand.array).every((value) => Math.fround(value) === value)) {
      this.#refuse(`a constant of type ${operand.dtype} beyond what an f32 holds`);
    }
  }

  parameter(operand: Operand, role: ParameterRole, options: SlotOptions): string | undefined {
    const { transposed = false, shape = transposed ? operand.dims.toReversed() : operand.dims } =
      options;
    if (operand.kind === "parameter") {
      const { initializer, array } = operand;
      const turned = transposed !== operand.transposed;
      return this.#graph.parameter({
        initializer,
        stored: true,
        array,
        role,
        shape,
        transposed: turned,
      });
    }
    const array = operand.kind === "constant" ? operand.array : operand.known;
    if (array === undefined) return undefined;
    if (!realValues(array).every(Number.isFinite)) {
      this.#refuse("a parameter with infinite or undefined values");
    }
    const source = operand.kind === "value" ? operand.input : operand.source;
    return this.#graph.parameter({
      initializer: source ?? this.#graph.unique(`${this.#label}/constant`),
      stored: operand.kind === "constant" && source !== undefined,
      array,
      role,
      shape,
      transposed,
    });
  }

  /** The layout in which the fewest of the operands with a result's rank must be moved. */
  cheapest(operands: readonly Operand[], dims: readonly number[]): Layout {
    const values = operands.filter(
      (operand): operand is ValueOperand =>
        operand.kind === "value" && operand.dims.length === dims.length,
    );
    const possible: Layout[] = ["plain"];
    if (dims[0] === 1) possible.unshift("unbatched");
    if (dims.length >= 3) possible.unshift("channelsLast");
    const cost = (layout: Layout): number =>
      values.filter(({ forms }) => !forms.has(layout)).length;
    const present = possible.filter((layout) => values.some(({ forms }) => forms.has(layout)));
    return present.reduce<Layout>(
      (best, layout) => (cost(layout) < cost(best) ? layout : best),
      present[0] ?? "plain",
    );
  }

  /** The operand in the layout of a result of these dims: sizes that it lacks in front are 1. */
  broadcast(operand: Operand, layout: Layout, dims: readonly number[]): EngineValue {
    const padding = dims.length - operand.dims.length;
    const padded = [...Array.from({ length: padding }, () => 1), ...operand.dims];
    if (operand.kind === "value" && padding === 0) return this.#fullForm(operand, layout, dims);
    const plain = this.of(operand, "plain");
    if (layout === "plain") return plain;
    const full = this.#graph.reshape(this.#label, plain, padded);
    return this.#move(full, padded, layout);
  }

  /** Where the result has one more leading size than this operand's form, broadcasting adds it. */
  #fullForm(operand: ValueOperand, layout: Layout, dims: readonly number[]): EngineValue {
    const value = this.of(operand, layout);
    const leading = layout === "channelsLast" && dims[0] !== 1 && operand.dims[0] === 1;
    if (leading || sameDims(formShape(layout, operand.dims), value.shape)) return value;
    throw new Error(`${this.#label}: a form that does not fit`);
  }
}
