import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { philox } from "../../src/data/philox.js";
import { scoreUnits, type Unit } from "../../src/native/masking.js";
import { criteria } from "../../src/unlearn/criteria.gen.js";
import { compile, evaluate, type ScoreInputs } from "../../src/unlearn/expression.js";

/** A tensor's sums and weights, and the counts that make means of the sums. */
interface Elements {
  readonly weight: Float32Array;
  readonly forget: Float32Array;
  readonly remain: Float32Array;
  readonly gradient: Float32Array;
  readonly forgetCount: number;
  readonly remainCount: number;
  readonly seed: number;
}

const kShape = [6, 5, 3, 3] as const;
const kCount = kShape.reduce((a, b) => a * b, 1);

// Over the whole range of f32 but for its ends, where sums of squares and quotients stay finite; zeros and subnormals
// are in it.
const kMagnitude = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: -60, max: 30 }).map((e) => 2 ** e) },
  { weight: 1, arbitrary: fc.constantFrom(0, 2 ** -149, 2 ** -126, 3 * 2 ** -140) },
);
const kPositive = fc
  .tuple(kMagnitude, fc.double({ min: 1, max: 2, noNaN: true }))
  .map(([scale, mantissa]) => Math.fround(scale * mantissa));
const kSigned = fc.tuple(kPositive, fc.boolean()).map(([x, minus]) => (minus ? -x : x));

function floats(element: fc.Arbitrary<number>): fc.Arbitrary<Float32Array> {
  return fc
    .array(element, { minLength: kCount, maxLength: kCount, size: "max" })
    .map((values) => Float32Array.from(values));
}

const kElements: fc.Arbitrary<Elements> = fc.record({
  weight: floats(kSigned),
  forget: floats(kPositive),
  remain: floats(kPositive),
  gradient: floats(kSigned),
  forgetCount: fc.integer({ min: 1, max: 100_000 }),
  remainCount: fc.integer({ min: 1, max: 100_000 }),
  seed: fc.nat(),
});

/** Uniform in [0, 1) with 24 bits: the draw of unit `unit`. */
function uniformOf(seed: number, unit: number): number {
  const words = philox({ seed, stream: 0 }, Math.floor(unit / 4));
  return ((words[unit % 4] as number) >>> 8) / 2 ** 24;
}

function inputsAt(elements: Elements, i: number, unit: number): ScoreInputs {
  const forgetCount = Math.fround(elements.forgetCount);
  const remainCount = Math.fround(elements.remainCount);
  return {
    forgetFisher: Math.fround((elements.forget[i] as number) / forgetCount),
    remainFisher: Math.fround((elements.remain[i] as number) / remainCount),
    weight: elements.weight[i] as number,
    forgetGradient: Math.fround((elements.gradient[i] as number) / forgetCount),
    uniform: uniformOf(elements.seed, unit),
  };
}

const kPerUnit: Readonly<Record<Unit, number>> = {
  weight: 1,
  kernel: kShape[2] * kShape[3],
  filter: kShape[1] * kShape[2] * kShape[3],
};

type Score = (inputs: ScoreInputs) => number;

/** The scores by TypeScript alone: a weight's own, or the mean over the unit, summed in f64 in index order. */
function expectedScores(score: Score, elements: Elements, unit: Unit): Float32Array {
  const size = kPerUnit[unit];
  return Float32Array.from({ length: kCount / size }, (_, u) => {
    const indices = Array.from({ length: size }, (_x, j) => u * size + j);
    if (indices.every((i) => elements.weight[i] === 0)) return Number.NEGATIVE_INFINITY;
    const scores = indices.map((i) => score(inputsAt(elements, i, u)));
    return size === 1 ? (scores[0] as number) : scores.reduce((a, b) => a + b, 0) / size;
  });
}

function bits(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

describe("the engine scores as TypeScript does, bit for bit", () => {
  for (const [name, criterion] of Object.entries(criteria)) {
    for (const unit of ["weight", "kernel", "filter"] as const) {
      it(`${name}, by ${unit}`, async () => {
        const expression = criterion.score();
        const { ops, values } = compile(expression);
        await fc.assert(
          fc.asyncProperty(kElements, fc.integer({ min: 1, max: 3 }), async (elements, threads) => {
            const { weight, forget, remain, gradient, ...settings } = elements;
            const tensors = [{ name: "t", shape: kShape, weight, forget, remain, gradient }];
            const [scores] = await scoreUnits({ ops, values, unit, threads, tensors, ...settings });
            const wanted = expectedScores((i) => evaluate(expression, i), elements, unit);
            expect(bits(scores as Float32Array)).toEqual(bits(wanted));
          }),
          { numRuns: 40 },
        );
      });
    }
  }
});
