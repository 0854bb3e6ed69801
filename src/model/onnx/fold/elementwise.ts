import type { OnnxArray, OnnxDType } from "../../../io/onnx/model.js";
import { broadcastDims, isFloat } from "../operand.js";
import {
  bigIntsOf,
  boolArray,
  floatArray,
  foldError,
  integerArray,
  numbersOf,
  takeElements,
} from "./array.js";
import type { Folder, Folders } from "./attributes.js";
import { broadcastPlaces } from "./places.js";

type RealFunction = (x: number) => number;
type WholeFunction = (x: bigint) => bigint;

interface BinaryKernel {
  readonly real: (a: number, b: number) => number;
  readonly whole?: (a: bigint, b: bigint, dtype: OnnxDType) => bigint;
}

interface TestKernel {
  readonly real: (a: number, b: number) => boolean;
  readonly whole: (a: bigint, b: bigint) => boolean;
}

function required(inputs: readonly (OnnxArray | null)[]): readonly OnnxArray[] {
  return inputs.map((input, i) => {
    if (input === null) throw foldError(`an input ${i}`, "none");
    return input;
  });
}

/** Both operands repeated to the shape that they broadcast to. */
function spread(a: OnnxArray, b: OnnxArray): readonly [OnnxArray, OnnxArray] {
  const dims = broadcastDims(a.dims, b.dims);
  if (dims === undefined) {
    throw foldError("shapes that broadcast", `(${a.dims.join()}) and (${b.dims.join()})`);
  }
  const spreadOne = (array: OnnxArray): OnnxArray => {
    const { places } = broadcastPlaces(array.dims, dims);
    return takeElements(array, dims, places);
  };
  return [spreadOne(a), spreadOne(b)];
}

function combine(a: OnnxArray, b: OnnxArray, kernel: BinaryKernel): OnnxArray | null {
  if (a.dtype !== b.dtype) throw foldError("operands of one type", `${a.dtype} and ${b.dtype}`);
  const [left, right] = spread(a, b);
  if (isFloat(a.dtype)) {
    const others = numbersOf(right);
    const values = numbersOf(left).map((x, i) => kernel.real(x, others[i] as number));
    return floatArray(a.dtype, left.dims, values);
  }
  const { whole } = kernel;
  if (whole === undefined || a.dtype === "bool") return null;
  const others = bigIntsOf(right);
  const values = bigIntsOf(left).map((x, i) => whole(x, others[i] as bigint, a.dtype));
  return integerArray(a.dtype, left.dims, values);
}

function binary(kernel: BinaryKernel): Folder {
  return (inputs, attributes, opset) => {
    // Before opset 7 an axis may say where the second operand's sizes stand.
    if (opset < 7 && attributes.has("axis")) return null;
    const [a, b] = required(inputs);
    if (a === undefined || b === undefined) return null;
    const result = combine(a, b, kernel);
    return result && [result];
  };
}

/** Two or more operands from left to right; one is the result itself. */
function variadic(kernel: BinaryKernel): Folder {
  return (inputs) => {
    const [first, ...rest] = required(inputs);
    if (first === undefined) return null;
    let result: OnnxArray | null = first;
    for (const each of rest) result = result && combine(result, each, kernel);
    return result && [result];
  };
}

function test(kernel: TestKernel): Folder {
  return (inputs) => {
    const [a, b] = required(inputs);
    if (a === undefined || b === undefined || a.dtype !== b.dtype) return null;
    const [left, right] = spread(a, b);
    if (isFloat(a.dtype)) {
      const others = numbersOf(right);
      const holds = numbersOf(left).map((x, i) => kernel.real(x, others[i] as number));
      return [boolArray(left.dims, holds)];
    }
    const others = bigIntsOf(right);
    const holds = bigIntsOf(left).map((x, i) => kernel.whole(x, others[i] as bigint));
    return [boolArray(left.dims, holds)];
  };
}

function unary(real: RealFunction | null, whole: WholeFunction | null): Folder {
  return (inputs) => {
    const [x] = required(inputs);
    if (x === undefined) return null;
    if (isFloat(x.dtype)) {
      return real && [floatArray(x.dtype, x.dims, numbersOf(x).map(real))];
    }
    if (whole === null || x.dtype === "bool") return null;
    return [integerArray(x.dtype, x.dims, bigIntsOf(x).map(whole))];
  };
}

function floatTest(real: (x: number) => boolean): Folder {
  return (inputs) => {
    const [x] = required(inputs);
    if (x === undefined || !isFloat(x.dtype)) return null;
    return [boolArray(x.dims, numbersOf(x).map(real))];
  };
}

/** Half to even, as ONNX Round and NumPy do. */
export function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : Math.ceil(x);
  return floor % 2 === 0 ? floor : floor + 1;
}

function divide(a: bigint, b: bigint): bigint {
  if (b === 0n) throw foldError("an integer divisor", "0");
  return a / b;
}

function modulo(a: bigint, b: bigint): bigint {
  if (b === 0n) throw foldError("an integer divisor", "0");
  const rest = a % b;
  return rest !== 0n && rest < 0n !== b < 0n ? rest + b : rest;
}

function remainder(a: bigint, b: bigint): bigint {
  if (b === 0n) throw foldError("an integer divisor", "0");
  return a % b;
}

const kAdd: BinaryKernel = { real: (a, b) => a + b, whole: (a, b) => a + b };
const kSub: BinaryKernel = { real: (a, b) => a - b, whole: (a, b) => a - b };
const kMul: BinaryKernel = { real: (a, b) => a * b, whole: (a, b) => a * b };
const kDiv: BinaryKernel = { real: (a, b) => a / b, whole: divide };
const kMin: BinaryKernel = { real: Math.min, whole: (a, b) => (b < a ? b : a) };
const kMax: BinaryKernel = { real: Math.max, whole: (a, b) => (b > a ? b : a) };

const mod: Folder = (inputs, attributes, opset) => {
  const [a] = inputs;
  const fmod = attributes.int("fmod", 0) === 1;
  if (a && isFloat(a.dtype) && !fmod) return null;
  return binary({ real: (x, y) => x % y, whole: fmod ? remainder : modulo })(
    inputs,
    attributes,
    opset,
  );
};

function wholePower(base: bigint, exponent: bigint): bigint {
  if (exponent < 0n || exponent > 4096n)
    throw foldError("an exponent of 0 to 4096", String(exponent));
  return base ** exponent;
}

/** The result has the base's type. */
const pow: Folder = (inputs) => {
  const [a, b] = required(inputs);
  if (a === undefined || b === undefined) return null;
  const [base, exponent] = spread(a, b);
  if (!isFloat(a.dtype) && !isFloat(b.dtype)) {
    const powers = bigIntsOf(exponent);
    const values = bigIntsOf(base).map((x, i) => wholePower(x, powers[i] as bigint));
    return [integerArray(a.dtype, base.dims, values)];
  }
  const powers = numbersOf(exponent);
  const values = numbersOf(base).map((x, i) => x ** (powers[i] as number));
  if (isFloat(a.dtype)) return [floatArray(a.dtype, base.dims, values)];
  if (!values.every((value) => Number.isSafeInteger(Math.trunc(value)))) return null;
  return [
    integerArray(
      a.dtype,
      base.dims,
      values.map((value) => BigInt(Math.trunc(value))),
    ),
  ];
};

const bitShift: Folder = (inputs, attributes, opset) => {
  const left = attributes.string("direction") === "LEFT";
  const kernel: BinaryKernel = {
    real: () => Number.NaN,
    whole: (a, b) => {
      if (b > 63n) return 0n;
      return left ? a << b : a >> b;
    },
  };
  const [a] = inputs;
  // Of signed integers the standard did not speak for long, and then in its own way.
  if (!a?.dtype.startsWith("uint")) return null;
  return binary(kernel)(inputs, attributes, opset);
};

/** Bitwise operators have no meaning on floats. */
function bitwise(whole: (a: bigint, b: bigint) => bigint): Folder {
  return (inputs, attributes, opset) => {
    const [a] = inputs;
    if (!a || isFloat(a.dtype)) return null;
    return binary({ real: () => Number.NaN, whole })(inputs, attributes, opset);
  };
}

function logic(kernel: (a: boolean, b: boolean) => boolean): Folder {
  return (inputs, attributes, opset) => {
    if (inputs.some((input) => input?.dtype !== "bool")) return null;
    return test({
      real: () => false,
      whole: (a, b) => kernel(a !== 0n, b !== 0n),
    })(inputs, attributes, opset);
  };
}

const not: Folder = ([x]) => {
  if (x?.dtype !== "bool") return null;
  return [
    boolArray(
      x.dims,
      numbersOf(x).map((value) => value === 0),
    ),
  ];
};

const isInf: Folder = ([x], attributes) => {
  if (!x || !isFloat(x.dtype)) return null;
  const positive = attributes.int("detect_positive", 1) !== 0;
  const negative = attributes.int("detect_negative", 1) !== 0;
  const holds = (value: number): boolean =>
    (positive && value === Number.POSITIVE_INFINITY) ||
    (negative && value === Number.NEGATIVE_INFINITY);
  return [boolArray(x.dims, numbersOf(x).map(holds))];
};

const where: Folder = (inputs) => {
  const [condition, a, b] = required(inputs);
  if (condition === undefined || a === undefined || b === undefined || a.dtype !== b.dtype)
    return null;
  const dims = broadcastDims(condition.dims, a.dims, b.dims);
  if (dims === undefined) throw foldError("shapes that broadcast", `(${a.dims}) and (${b.dims})`);
  const holds = takeElements(condition, dims, broadcastPlaces(condition.dims, dims).places);
  const first = broadcastPlaces(a.dims, dims).places;
  const second = broadcastPlaces(b.dims, dims).places;
  const chosen = numbersOf(holds);
  const left = takeElements(
    a,
    dims,
    first.map((place, i) => (chosen[i] === 0 ? -1 : place)),
  );
  const right = takeElements(b, dims, second);
  return [pick(left, right, chosen)];
};

function pick(left: OnnxArray, right: OnnxArray, chosen: readonly number[]): OnnxArray {
  if (isFloat(left.dtype)) {
    const [a, b] = [numbersOf(left), numbersOf(right)];
    return floatArray(
      left.dtype,
      left.dims,
      chosen.map((each, i) => (each === 0 ? b[i] : a[i]) as number),
    );
  }
  const [a, b] = [bigIntsOf(left), bigIntsOf(right)];
  return integerArray(
    left.dtype,
    left.dims,
    chosen.map((each, i) => (each === 0 ? b[i] : a[i]) as bigint),
  );
}

/** What a bound that is left out stands for before opset 11: the largest finite f32. */
const kLargestF32 = 3.4028234663852886e38;

/** Bounds come as attributes before opset 11 and as scalars since. */
const clip: Folder = ([x, low, high], attributes, opset) => {
  if (!x || x.dtype === "bool") return null;
  if (isFloat(x.dtype)) {
    const min = low
      ? (numbersOf(low)[0] as number)
      : attributes.float("min", opset < 11 ? -kLargestF32 : Number.NEGATIVE_INFINITY);
    const max = high
      ? (numbersOf(high)[0] as number)
      : attributes.float("max", opset < 11 ? kLargestF32 : Number.POSITIVE_INFINITY);
    return [
      floatArray(
        x.dtype,
        x.dims,
        numbersOf(x).map((value) => Math.min(Math.max(value, min), max)),
      ),
    ];
  }
  const min = low ? bigIntsOf(low)[0] : undefined;
  const max = high ? bigIntsOf(high)[0] : undefined;
  const bound = (value: bigint): bigint => {
    const raised = min !== undefined && value < min ? min : value;
    return max !== undefined && raised > max ? max : raised;
  };
  return [integerArray(x.dtype, x.dims, bigIntsOf(x).map(bound))];
};

const absolute: WholeFunction = (x) => (x < 0n ? -x : x);
const sign: WholeFunction = (x) => (x > 0n ? 1n : x < 0n ? -1n : 0n);

/** Operators that treat each element alone, with NumPy's broadcasting. Integers are exact and wrap. */
export const elementwiseFolders: Folders = {
  Add: binary(kAdd),
  Sub: binary(kSub),
  Mul: binary(kMul),
  Div: binary(kDiv),
  Mod: mod,
  Pow: pow,
  Sum: variadic(kAdd),
  Min: variadic(kMin),
  Max: variadic(kMax),
  BitShift: bitShift,
  BitwiseAnd: bitwise((a, b) => a & b),
  BitwiseOr: bitwise((a, b) => a | b),
  BitwiseXor: bitwise((a, b) => a ^ b),
  BitwiseNot: unary(null, (x) => ~x),
  Equal: test({ real: (a, b) => a === b, whole: (a, b) => a === b }),
  Less: test({ real: (a, b) => a < b, whole: (a, b) => a < b }),
  LessOrEqual: test({ real: (a, b) => a <= b, whole: (a, b) => a <= b }),
  Greater: test({ real: (a, b) => a > b, whole: (a, b) => a > b }),
  GreaterOrEqual: test({ real: (a, b) => a >= b, whole: (a, b) => a >= b }),
  And: logic((a, b) => a && b),
  Or: logic((a, b) => a || b),
  Xor: logic((a, b) => a !== b),
  Not: not,
  Where: where,
  IsNaN: floatTest(Number.isNaN),
  IsInf: isInf,
  Clip: clip,
  Abs: unary(Math.abs, absolute),
  Neg: unary(
    (x) => -x,
    (x) => -x,
  ),
  Sign: unary(Math.sign, sign),
  Relu: unary(
    (x) => (x < 0 ? 0 : x),
    (x) => (x < 0n ? 0n : x),
  ),
  Floor: unary(Math.floor, null),
  Ceil: unary(Math.ceil, null),
  Round: unary(roundHalfEven, null),
  Sqrt: unary(Math.sqrt, null),
  Exp: unary(Math.exp, null),
  Log: unary(Math.log, null),
  Reciprocal: unary((x) => 1 / x, null),
};
