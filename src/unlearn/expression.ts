/**
 * A tiny expression language for criteria: whole-tensor algebra in f32 that compiles to the engine's
 * score program (`binding/mask/score_program.h`).
 */
import { FishermaskError } from "../native/errors.js";

/** The ops in the order of the engine's `enum class ScoreOp`; an op's number is its position. */
export const SCORE_OPS = [
  "forgetFisher",
  "remainFisher",
  "weight",
  "forgetGradient",
  "constant",
  "uniform",
  "add",
  "sub",
  "mul",
  "div",
  "sqrt",
  "abs",
  "neg",
  "max",
  "min",
] as const;

export type ScoreOp = (typeof SCORE_OPS)[number];
export type ScoreInput = "forgetFisher" | "remainFisher" | "weight" | "forgetGradient" | "uniform";
export type UnaryOp = "sqrt" | "abs" | "neg";
export type BinaryOp = "add" | "sub" | "mul" | "div" | "max" | "min";

/** The deepest stack that the engine evaluates. */
export const MAX_STACK_DEPTH = 16;

type Operand = Expression | number;

type Node =
  | { readonly op: ScoreInput }
  | { readonly op: "constant"; readonly value: number }
  | { readonly op: UnaryOp; readonly operand: Expression }
  | { readonly op: BinaryOp; readonly left: Expression; readonly right: Expression };

/**
 * One value per element. Every method returns a new expression; a number stands for a constant.
 *
 * Each step is one exactly rounded f32 operation: nothing is simplified, fused or reordered.
 *
 * @example
 * ```ts
 * const ratio = forgetFisher.div(remainFisher.add(1e-12));
 * ```
 */
export class Expression {
  readonly node: Node;

  constructor(node: Node) {
    this.node = node;
  }

  add(other: Operand): Expression {
    return this.binary("add", other);
  }
  sub(other: Operand): Expression {
    return this.binary("sub", other);
  }
  mul(other: Operand): Expression {
    return this.binary("mul", other);
  }
  div(other: Operand): Expression {
    return this.binary("div", other);
  }
  /** The larger; NaN if either is NaN, as `Math.max`. */
  max(other: Operand): Expression {
    return this.binary("max", other);
  }
  /** The smaller; NaN if either is NaN, as `Math.min`. */
  min(other: Operand): Expression {
    return this.binary("min", other);
  }
  sqrt(): Expression {
    return new Expression({ op: "sqrt", operand: this });
  }
  abs(): Expression {
    return new Expression({ op: "abs", operand: this });
  }
  neg(): Expression {
    return new Expression({ op: "neg", operand: this });
  }

  private binary(op: BinaryOp, other: Operand): Expression {
    const right = typeof other === "number" ? constant(other) : other;
    return new Expression({ op, left: this, right });
  }
}

/** Mean squared gradient over the forget set: the Fisher F̄_f. */
export const forgetFisher = new Expression({ op: "forgetFisher" });
/** Mean squared gradient over the remain set: the Fisher F̄_r. */
export const remainFisher = new Expression({ op: "remainFisher" });
/** The weight θ. */
export const weight = new Expression({ op: "weight" });
/** Mean gradient of the forget loss, ḡ_f. */
export const forgetGradient = new Expression({ op: "forgetGradient" });
/** Uniform in [0, 1), one draw per unit, from the seed and the unit's flat index. */
export const uniform = new Expression({ op: "uniform" });

/**
 * A constant, rounded to f32.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` when it is not finite in f32.
 */
export function constant(value: number): Expression {
  const rounded = Math.fround(value);
  if (!Number.isFinite(rounded)) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected a finite f32 number for a constant but received ${value}`,
    );
  }
  return new Expression({ op: "constant", value: rounded });
}

/** Which inputs a program reads. */
export type ScoreNeeds = Readonly<Record<ScoreInput, boolean>>;

/** A postfix program: `ops[i]` is an index into {@link SCORE_OPS}, `values[i]` its constant or 0. */
export interface ScoreProgram {
  readonly ops: Uint8Array;
  readonly values: Float32Array;
  readonly needs: ScoreNeeds;
}

interface Instruction {
  readonly op: ScoreOp;
  readonly value: number;
}

function instructionsOf(expression: Expression): Instruction[] {
  const { node } = expression;
  if ("operand" in node) return [...instructionsOf(node.operand), { op: node.op, value: 0 }];
  if ("left" in node) {
    return [...instructionsOf(node.left), ...instructionsOf(node.right), { op: node.op, value: 0 }];
  }
  return [{ op: node.op, value: node.op === "constant" ? node.value : 0 }];
}

function stackDepth(expression: Expression): number {
  const { node } = expression;
  if ("operand" in node) return stackDepth(node.operand);
  if ("left" in node) return Math.max(stackDepth(node.left), 1 + stackDepth(node.right));
  return 1;
}

/**
 * Compiles to the engine's score program.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` when it needs more than {@link MAX_STACK_DEPTH}
 * values at once.
 */
export function compile(expression: Expression): ScoreProgram {
  const depth = stackDepth(expression);
  if (depth > MAX_STACK_DEPTH) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected a stack of at most ${MAX_STACK_DEPTH} values for a score but received one of ` +
        `${depth}; write right-nested terms left to right`,
    );
  }
  const instructions = instructionsOf(expression);
  const reads = (input: ScoreInput): boolean => instructions.some(({ op }) => op === input);
  return {
    ops: Uint8Array.from(instructions, ({ op }) => SCORE_OPS.indexOf(op)),
    values: Float32Array.from(instructions, ({ value }) => value),
    needs: {
      forgetFisher: reads("forgetFisher"),
      remainFisher: reads("remainFisher"),
      weight: reads("weight"),
      forgetGradient: reads("forgetGradient"),
      uniform: reads("uniform"),
    },
  };
}

/** One element's inputs: means (not sums), rounded to f32 when read. */
export type ScoreInputs = Readonly<Partial<Record<ScoreInput, number>>>;

function unary(op: UnaryOp, operand: number): number {
  switch (op) {
    case "sqrt":
      // A double has more than twice the bits of a float, so the second rounding is exact.
      return Math.fround(Math.sqrt(operand));
    case "abs":
      return Math.abs(operand);
    case "neg":
      return -operand;
  }
}

function binary(op: BinaryOp, left: number, right: number): number {
  switch (op) {
    case "add":
      return Math.fround(left + right);
    case "sub":
      return Math.fround(left - right);
    case "mul":
      return Math.fround(left * right);
    case "div":
      return Math.fround(left / right);
    case "max":
      return Math.max(left, right);
    case "min":
      return Math.min(left, right);
  }
}

function readInput(input: ScoreInput, inputs: ScoreInputs): number {
  const value = inputs[input];
  if (value === undefined) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected a number for ${input} but received undefined`,
    );
  }
  return Math.fround(value);
}

/**
 * The score of one element, bit for bit what the engine computes: every step is rounded to f32.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` when an input that is read is missing.
 *
 * @example
 * ```ts
 * evaluate(forgetFisher.sub(remainFisher), { forgetFisher: 3, remainFisher: 1 }); // 2
 * ```
 */
export function evaluate(expression: Expression, inputs: ScoreInputs): number {
  const { node } = expression;
  if ("operand" in node) return unary(node.op, evaluate(node.operand, inputs));
  if ("left" in node) {
    return binary(node.op, evaluate(node.left, inputs), evaluate(node.right, inputs));
  }
  return node.op === "constant" ? node.value : readInput(node.op, inputs);
}
