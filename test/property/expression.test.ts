import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { criteria } from "../../src/unlearn/criteria.gen.js";
import type { Criterion } from "../../src/unlearn/criterion.js";
import {
  type BinaryOp,
  compile,
  constant,
  Expression,
  evaluate,
  MAX_STACK_DEPTH,
  SCORE_OPS,
  type ScoreInput,
  type ScoreInputs,
  type ScoreProgram,
  type UnaryOp,
} from "../../src/unlearn/expression.js";

const INPUTS: readonly ScoreInput[] = [
  "forgetFisher",
  "remainFisher",
  "weight",
  "forgetGradient",
  "uniform",
];
const UNARY: readonly UnaryOp[] = ["sqrt", "abs", "neg"];
const BINARY: readonly BinaryOp[] = ["add", "sub", "mul", "div", "max", "min"];

const float = fc.float();
const anyInputs: fc.Arbitrary<Record<ScoreInput, number>> = fc.record({
  forgetFisher: float,
  remainFisher: float,
  weight: float,
  forgetGradient: float,
  uniform: float,
});

const { expression } = fc.letrec<{ expression: Expression }>((tie) => ({
  expression: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    fc.constantFrom(...INPUTS).map((op) => new Expression({ op })),
    fc.float({ noNaN: true, noDefaultInfinity: true }).map(constant),
    fc.tuple(fc.constantFrom(...UNARY), tie("expression")).map(([op, a]) => a[op]()),
    fc
      .tuple(fc.constantFrom(...BINARY), tie("expression"), tie("expression"))
      .map(([op, a, b]) => a[op](b)),
  ),
}));

const ARITHMETIC: Readonly<Record<BinaryOp, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  max: Math.max,
  min: Math.min,
};

// The engine's stack machine, written apart from `evaluate`: every slot of the stack is an f32.
function runProgram(program: ScoreProgram, inputs: ScoreInputs) {
  const stack = new Float32Array(MAX_STACK_DEPTH);
  let size = 0;
  let deepest = 0;
  program.ops.forEach((number, i) => {
    const op = SCORE_OPS[number]!;
    if (op === "constant") {
      stack[size++] = program.values[i]!;
    } else if ((INPUTS as readonly string[]).includes(op)) {
      stack[size++] = inputs[op as ScoreInput]!;
    } else if ((UNARY as readonly string[]).includes(op)) {
      const a = stack[size - 1]!;
      stack[size - 1] = op === "sqrt" ? Math.sqrt(a) : op === "abs" ? Math.abs(a) : -a;
    } else {
      size -= 1;
      stack[size - 1] = ARITHMETIC[op as BinaryOp](stack[size - 1]!, stack[size]!);
    }
    deepest = Math.max(deepest, size);
  });
  return { result: stack[0]!, size, deepest };
}

describe("expressions", () => {
  it("compiled and evaluated give the same f32, bit for bit, leaving one value", () => {
    fc.assert(
      fc.property(expression, anyInputs, (tree, inputs) => {
        const run = runProgram(compile(tree), inputs);
        expect(run.size).toBe(1);
        expect(run.deepest).toBeLessThanOrEqual(MAX_STACK_DEPTH);
        expect(Object.is(run.result, evaluate(tree, inputs))).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  it("needs exactly what evaluation reads", () => {
    fc.assert(
      fc.property(expression, anyInputs, (tree, inputs) => {
        const { needs } = compile(tree);
        const needed = Object.fromEntries(
          Object.entries(inputs).filter(([name]) => needs[name as ScoreInput]),
        );
        expect(Object.is(evaluate(tree, needed), evaluate(tree, inputs))).toBe(true);
        for (const name of Object.keys(needed)) {
          const { [name]: _, ...others } = needed;
          expect(() => evaluate(tree, others)).toThrow(name);
        }
      }),
    );
  });
});

describe("every criterion", () => {
  const means = fc.record({
    forgetFisher: fc.float({ min: 0, max: 1e6, noNaN: true }),
    remainFisher: fc.float({ min: 0, max: 1e6, noNaN: true }),
    weight: fc.float({ min: -1000, max: 1000, noNaN: true }),
    forgetGradient: fc.float({ min: -1000, max: 1000, noNaN: true }),
    uniform: fc.float({ min: 0, max: Math.fround(1 - 2 ** -24), noNaN: true }),
  });
  const all: readonly (readonly [string, Criterion])[] = Object.entries(criteria);

  it.each(all)(
    "%s is finite on Fishers, weights and gradients of ordinary size",
    (_, criterion) => {
      const score = criterion.score();
      fc.assert(fc.property(means, (inputs) => Number.isFinite(evaluate(score, inputs))));
    },
  );

  it.each(all)("%s never falls as the forget Fisher grows", (_, criterion) => {
    const score = criterion.score();
    fc.assert(
      fc.property(means, fc.float({ min: 0, max: 1e6, noNaN: true }), (inputs, more) => {
        const grown = { ...inputs, forgetFisher: inputs.forgetFisher + more };
        expect(evaluate(score, grown)).toBeGreaterThanOrEqual(evaluate(score, inputs));
      }),
    );
  });
});
