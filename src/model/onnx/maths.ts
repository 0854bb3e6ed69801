import type { OnnxDType } from "../../io/onnx/model.js";
import type { NodeContext } from "./context.js";
import type { EngineValue } from "./engine-graph.js";
import { elementCount } from "./operand.js";

/** Formulas over engine values for operators that are compositions: shapes are the values' own. */
export class Maths {
  readonly #node: NodeContext;
  /** The float type of the operator's constants. */
  readonly #dtype: OnnxDType;

  constructor(node: NodeContext, dtype: OnnxDType) {
    // Each step of a formula is rounded to 8 bits there: what is computed in one go differs visibly.
    if (dtype === "bfloat16") node.refuse("a formula of several steps in bfloat16");
    this.#node = node;
    this.#dtype = dtype;
  }

  binary(op: string, a: EngineValue, b: EngineValue): EngineValue {
    return this.#node.graph.binary(this.#node.label, op, a, b);
  }

  add(a: EngineValue, b: EngineValue): EngineValue {
    return this.binary("binary_add", a, b);
  }

  sub(a: EngineValue, b: EngineValue): EngineValue {
    return this.binary("sub", a, b);
  }

  mul(a: EngineValue, b: EngineValue): EngineValue {
    return this.binary("mul", a, b);
  }

  /** scale·x + shift. */
  affine(x: EngineValue, scale: number, shift = 0): EngineValue {
    return this.#node.graph.affine(this.#node.label, x, scale, shift);
  }

  unary(
    op: string,
    x: EngineValue,
    attributes: Readonly<Record<string, number | boolean>> = {},
  ): EngineValue {
    return this.#node.graph.unary(this.#node.label, op, x, attributes);
  }

  /** (…, M, K) × (…, K, N), or (…, N, K) turned; leading sizes are broadcast by the engine and must be the first's. */
  matmul(a: EngineValue, b: EngineValue, transposeB = false): EngineValue {
    const columns = b.shape.at(transposeB ? -2 : -1) as number;
    if (a.shape.at(-1) !== b.shape.at(transposeB ? -1 : -2)) {
      this.#node.refuse(`a product of (${a.shape.join(", ")}) and (${b.shape.join(", ")})`);
    }
    return this.#node.emit("matmul", [a, b], a.shape.with(-1, columns), {
      attributes: { transpose_a: false, transpose_b: transposeB },
    });
  }

  where(condition: EngineValue, a: EngineValue, b: EngineValue, shape = a.shape): EngineValue {
    return this.#node.emit("where", [condition, a, b], shape);
  }

  sum(x: EngineValue, axes: readonly number[], keepdims: boolean): EngineValue {
    return this.#node.graph.reduce(this.#node.label, "reduce_sum", x, axes, keepdims);
  }

  take(x: EngineValue, shape: readonly number[], index: ArrayLike<number>): EngineValue {
    return this.#node.emit("take", [x], shape, {
      attributes: { shape, index: Array.from(index) },
    });
  }

  narrow(x: EngineValue, axis: number, start: number, size: number): EngineValue {
    return this.#node.graph.narrow(this.#node.label, x, axis, start, size);
  }

  reshape(x: EngineValue, shape: readonly number[]): EngineValue {
    return this.#node.graph.reshape(this.#node.label, x, shape);
  }

  transpose(x: EngineValue, perm: readonly number[]): EngineValue {
    return this.#node.graph.transpose(this.#node.label, x, perm);
  }

  concat(values: readonly EngineValue[], axis: number): EngineValue {
    return this.#node.graph.concat(this.#node.label, values, axis);
  }

  /** Fixed numbers of these sizes. */
  constant(values: readonly number[], shape: readonly number[]): EngineValue {
    const data = this.#dtype === "double" ? Float64Array.from(values) : Float32Array.from(values);
    const array = { dtype: this.#dtype, dims: shape, data };
    return this.#node.graph.constant(this.#node.label, array, shape);
  }

  zeros(shape: readonly number[]): EngineValue {
    return this.constant(new Array<number>(elementCount(shape)).fill(0), shape);
  }

  get dtype(): OnnxDType {
    return this.#dtype;
  }
}
