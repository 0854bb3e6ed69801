import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { AttributeValue, InputSpec, NodeSpec, ParameterSpec } from "../../src/model/graph.js";
import { native } from "../../src/native/addon.js";
import { EngineNetwork } from "../../src/native/network.js";
import {
  type FixtureTensor,
  graphOfInputs,
  graphText,
  kParity,
  need,
  node,
  norm,
  parameter,
  readFixture,
  readJson,
  relativeError,
  scientific,
  table,
} from "./support.js";

interface OpCase {
  readonly op: string;
  readonly name: string;
  /** Without its extension, where the case's tensors are. */
  readonly file: string;
  readonly inputs: readonly (readonly number[])[];
  /** Which of the inputs are whole numbers, and have no gradient. */
  readonly i32: readonly number[];
  readonly attributes: Readonly<Record<string, AttributeValue>>;
  readonly parameters: Readonly<Record<string, readonly number[]>>;
  readonly training: boolean;
}

type Fixture = ReadonlyMap<string, FixtureTensor>;

const kLimits = { f64: 1e-10, f32: 1e-5 } as const;
// The façade hands running statistics out in f32, whatever the engine's real type.
const kStatisticsLimit = 2e-7;

const kCases = readJson<{ batch: number; cases: OpCase[] }>(join(kParity, "ops/cases.json"));
const kNodeCases = kCases.cases.filter(({ op }) => op !== "cross_entropy");
const kLossCases = kCases.cases.filter(({ op }) => op === "cross_entropy");
const kFixtures = new Map<string, Fixture>();
const kRows: string[][] = [];

function fixtureOf(file: string): Fixture {
  const known = kFixtures.get(file) ?? readFixture(join(kParity, `ops/${file}.safetensors`));
  kFixtures.set(file, known);
  return known;
}

function valuesOf({ file, name }: OpCase, key: string): Float64Array {
  return need(fixtureOf(file), `${name}/${key}`).values;
}

interface Built {
  readonly graph: string;
  readonly weights: Map<string, Float64Array>;
  readonly input: Float64Array;
  /** The gradients of the case's inputs, laid out as `input`. */
  readonly gradInput: Float64Array;
}

function role(slot: string): ParameterSpec["role"] {
  return slot.startsWith("running") ? "buffer" : "weight";
}

function opNode(opCase: OpCase, inputs: readonly string[]): NodeSpec {
  const slots = Object.keys(opCase.parameters).map((slot) => [slot, slot]);
  return node("op", opCase.op, inputs, Object.fromEntries(slots), opCase.attributes);
}

function parametersOf(opCase: OpCase): ParameterSpec[] {
  return Object.entries(opCase.parameters).map(([slot, shape]) =>
    parameter(slot, shape, role(slot)),
  );
}

function weightsOf(opCase: OpCase): Map<string, Float64Array> {
  const slots = Object.keys(opCase.parameters);
  return new Map(slots.map((slot) => [slot, valuesOf(opCase, `param/${slot}`)]));
}

function inputSpec(opCase: OpCase, index: number, name: string): InputSpec {
  const shape = opCase.inputs[index] as readonly number[];
  return { name, shape, dtype: opCase.i32.includes(index) ? "i32" : "f32" };
}

function buildOne(opCase: OpCase): Built {
  const shape = opCase.inputs[0] as readonly number[];
  return {
    graph: graphText(shape, parametersOf(opCase), [opNode(opCase, ["input"])], "op"),
    weights: weightsOf(opCase),
    input: valuesOf(opCase, "input0"),
    gradInput: valuesOf(opCase, "grad_input0"),
  };
}

/** An op without inputs: the border's one input is there and goes nowhere. */
function buildNone(opCase: OpCase): Built {
  return {
    graph: graphText([1], parametersOf(opCase), [opNode(opCase, [])], "op"),
    weights: weightsOf(opCase),
    input: new Float64Array(kCases.batch).fill(1),
    gradInput: new Float64Array(kCases.batch),
  };
}

function countOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** The samples' parts, each (N, size), beside one another. */
function joinSamples(parts: readonly Float64Array[], sizes: readonly number[]): Float64Array {
  const samples = Array.from({ length: kCases.batch }, (_, n) =>
    parts.map((part, k) => {
      const size = sizes[k] as number;
      return part.subarray(n * size, (n + 1) * size);
    }),
  );
  return Float64Array.from(samples.flat().flatMap((part) => [...part]));
}

/** The border's gradients are of one input: several are joined into one, and slices cut each out again. */
function buildSeveral(opCase: OpCase): Built {
  const sizes = opCase.inputs.map(countOf);
  const nodes: NodeSpec[] = [];
  let first = 0;
  for (const [k, shape] of opCase.inputs.entries()) {
    const size = sizes[k] as number;
    const range = { starts: [first], steps: [1], sizes: [size] };
    nodes.push(node(`cut${k}`, "slice", ["input"], {}, range));
    nodes.push(node(`operand${k}`, "reshape", [`cut${k}`], {}, { shape }));
    first += size;
  }
  const operands = sizes.map((_, k) => `operand${k}`);
  nodes.push(opNode(opCase, operands));
  const joined = (key: string): Float64Array =>
    joinSamples(
      sizes.map((_, k) => valuesOf(opCase, `${key}${k}`)),
      sizes,
    );
  return {
    graph: graphText([first], parametersOf(opCase), nodes, "op"),
    weights: weightsOf(opCase),
    input: joined("input"),
    gradInput: joined("grad_input"),
  };
}

function build(opCase: OpCase): Built {
  if (opCase.inputs.length === 0) return buildNone(opCase);
  return opCase.inputs.length === 1 ? buildOne(opCase) : buildSeveral(opCase);
}

interface WorstError {
  readonly error: number;
  readonly where: string;
}

function worstOf(errors: Readonly<Record<string, number>>): WorstError {
  const [where, error] = Object.entries(errors).reduce((a, b) => (b[1] > a[1] ? b : a));
  return { error, where };
}

/** The worst error over the output, the input's gradient, the parameters' and the running statistics. */
async function errorsOf(opCase: OpCase, real: "f32" | "f64"): Promise<WorstError> {
  const built = build(opCase);
  using network = new EngineNetwork(built.graph, { real, threads: 2 });
  await network.setParameters(built.weights);
  const result = await network.vjp(
    { data: built.input, count: kCases.batch },
    valuesOf(opCase, "grad_output0"),
    { training: opCase.training },
  );
  const errors: Record<string, number> = {
    output: relativeError(result.output, valuesOf(opCase, "output0")),
    "grad input": relativeError(result.gradInput, built.gradInput),
  };
  const buffers = Object.keys(opCase.parameters).filter((slot) => role(slot) === "buffer");
  for (const slot of Object.keys(opCase.parameters)) {
    if (buffers.includes(slot)) continue;
    const gradient = result.gradients[slot] as Float64Array;
    errors[`grad ${slot}`] = relativeError(gradient, valuesOf(opCase, `grad_param/${slot}`));
  }
  const statistics = await network.getParameters(buffers);
  const after = opCase.training ? "after" : "param";
  for (const [slot, values] of statistics) {
    const error = relativeError(values, valuesOf(opCase, `${after}/${slot}`));
    expect(error, `${opCase.name}: ${slot} after the pass`).toBeLessThanOrEqual(kStatisticsLimit);
  }
  return worstOf(errors);
}

type RunInputs = ReadonlyMap<string, Float64Array | Int32Array>;

/** Of the op alone, its inputs named as they are numbered. */
async function outputError(opCase: OpCase, real: "f32" | "f64"): Promise<number> {
  const inputs = opCase.inputs.map((_, k) => inputSpec(opCase, k, `input${k}`));
  const names = inputs.map(({ name }) => name);
  const graph = graphOfInputs(inputs, parametersOf(opCase), [opNode(opCase, names)], "op");
  using network = new EngineNetwork(graph, { real, threads: 2 });
  await network.setParameters(weightsOf(opCase));
  const values: RunInputs = new Map(
    inputs.map(({ name, dtype }) => {
      const value = valuesOf(opCase, name);
      return [name, dtype === "i32" ? Int32Array.from(value) : value];
    }),
  );
  const outputs = await network.run(values, ["op"], kCases.batch);
  return relativeError(need(outputs, "op"), valuesOf(opCase, "output0"));
}

/** The sum over samples of the gradient of their cross-entropy, the label 0, by the parameter `name`. */
async function lossGradient(
  network: EngineNetwork,
  ids: Int32Array,
  count: number,
  name: string,
): Promise<Float64Array> {
  const pass = network.fisherPass({ temperature: 1, gradientSums: true });
  await pass.step({ data: ids, count }, new Int32Array(count), 0);
  const { gradients } = await pass.finish();
  return Float64Array.from(gradients?.[name] ?? []);
}

/** The op's output of each sample as logits: a vector. */
function asLogits(opCase: OpCase): NodeSpec {
  const shape = [valuesOf(opCase, "output0").length / kCases.batch];
  return node("logits", "reshape", ["op"], {}, { shape });
}

/** Whole numbers in, and a slot. */
async function slotGradientError(opCase: OpCase, real: "f32" | "f64"): Promise<number> {
  const [slot] = Object.keys(opCase.parameters) as [string];
  const nodes = [opNode(opCase, ["ids"]), asLogits(opCase)];
  const inputs = [inputSpec(opCase, 0, "ids")];
  const graph = graphOfInputs(inputs, parametersOf(opCase), nodes, "logits");
  using network = new EngineNetwork(graph, { real, threads: 2 });
  await network.setParameters(weightsOf(opCase));
  const ids = Int32Array.from(valuesOf(opCase, "input0"));
  const gradient = await lossGradient(network, ids, kCases.batch, slot);
  return relativeError(gradient, valuesOf(opCase, `grad_param/${slot}`));
}

function sampleOf<T extends Float64Array | Int32Array>(values: T, n: number): T {
  const size = values.length / kCases.batch;
  return values.slice(n * size, (n + 1) * size) as T;
}

/** Real values, and whole numbers that are the border's input: sample by sample, with its values as a parameter. */
async function valueGradientError(opCase: OpCase, real: "f32" | "f64"): Promise<number> {
  const shape = opCase.inputs[0] as readonly number[];
  const value = node("x", "parameter", [], { value: "value" });
  const nodes = [value, opNode(opCase, ["x", "ids"]), asLogits(opCase)];
  const inputs = [inputSpec(opCase, 1, "ids")];
  const graph = graphOfInputs(inputs, [parameter("value", shape)], nodes, "logits");
  using network = new EngineNetwork(graph, { real, threads: 2 });
  const [x, ids] = [valuesOf(opCase, "input0"), Int32Array.from(valuesOf(opCase, "input1"))];
  const gradients: number[] = [];
  for (let n = 0; n < kCases.batch; n += 1) {
    await network.setParameters(new Map([["value", sampleOf(x, n)]]));
    gradients.push(...(await lossGradient(network, sampleOf(ids, n), 1, "value")));
  }
  return relativeError(gradients, valuesOf(opCase, "grad_input0"));
}

/** Whole numbers have no gradient, and `vjp` gives the input's: the loss's is taken instead. */
async function errorsWithIds(opCase: OpCase, real: "f32" | "f64"): Promise<WorstError> {
  const errors: Record<string, number> = { output: await outputError(opCase, real) };
  if (Object.keys(opCase.parameters).length > 0) {
    errors["grad slot"] = await slotGradientError(opCase, real);
  }
  if (opCase.inputs.length > 1) errors["grad input"] = await valueGradientError(opCase, real);
  return worstOf(errors);
}

function measure(opCase: OpCase, real: "f32" | "f64"): Promise<WorstError> {
  return opCase.i32.length > 0 ? errorsWithIds(opCase, real) : errorsOf(opCase, real);
}

afterAll(() => {
  console.log(table(["op", "case", "f64 error", "f32 error", "worst f32 of"], kRows));
});

describe("every op against PyTorch in f64", () => {
  it("has cases for each op that the engine has", () => {
    const covered = new Set(kNodeCases.map(({ op }) => op));
    expect([...covered].sort()).toEqual(native((addon) => addon.ops()).sort());
    expect(kNodeCases.length).toBe(299);
    expect(kLossCases.length).toBe(5);
  });

  it.each(kNodeCases.map((opCase) => [opCase.name, opCase] as const))("%s", async (_, opCase) => {
    const exact = await measure(opCase, "f64");
    const fast = await measure(opCase, "f32");
    kRows.push([
      opCase.op,
      opCase.name.slice(opCase.op.length + 1),
      scientific(exact.error),
      scientific(fast.error),
      fast.where,
    ]);
    expect(exact.error, exact.where).toBeLessThanOrEqual(kLimits.f64);
    expect(fast.error, fast.where).toBeLessThanOrEqual(kLimits.f32);
  });
});

/**
 * A network whose logits are its weights: position p of the input is the unit vector p, so the logit of class c there is
 * W[c, p], and the gradient of the loss by W[c, p] is the one by that logit.
 */
function logitsNetwork(positions: number, classes: number, real: "f32" | "f64"): EngineNetwork {
  const inputShape = positions === 1 ? [1] : [positions, positions];
  const graph = graphText(
    inputShape,
    [parameter("weight", [classes, positions])],
    [node("logits", "linear", ["input"], { weight: "weight" })],
    "logits",
  );
  return new EngineNetwork(graph, { real, threads: 1 });
}

function transposed(values: Float64Array, rows: number, columns: number): Float64Array {
  return values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)] as number);
}

async function lossErrors(opCase: OpCase, real: "f32" | "f64") {
  const shape = opCase.inputs[0] as number[];
  const classes = shape.at(-1) as number;
  const positions = shape.length === 1 ? 1 : (shape[0] as number);
  const temperature = opCase.attributes["temperature"] as number;
  const logits = valuesOf(opCase, "input0");
  const labels = Int32Array.from(valuesOf(opCase, "labels"));
  const size = positions * classes;
  const identity = new Float64Array(positions * positions);
  for (let p = 0; p < positions; p += 1) identity[p * positions + p] = 1;
  const losses: number[] = [];
  const gradients: number[] = [];
  using network = logitsNetwork(positions, classes, real);
  for (let n = 0; n < kCases.batch; n += 1) {
    const own = logits.slice(n * size, (n + 1) * size);
    await network.setParameters(new Map([["weight", transposed(own, positions, classes)]]));
    const batch = { data: identity, count: 1 };
    const label = labels.slice(n * positions, (n + 1) * positions);
    const evaluated = await network.evaluate(batch, label, { temperature });
    losses.push(...evaluated.losses);
    const pass = network.fisherPass({ temperature, gradientSums: true });
    await pass.step(batch, label, 0);
    const { gradients: sums } = await pass.finish();
    const gradient = sums?.["weight"] as Float64Array;
    gradients.push(...transposed(gradient, classes, positions));
  }
  return {
    loss: relativeError(losses, valuesOf(opCase, "output0")),
    gradient: relativeError(gradients, valuesOf(opCase, "grad_input0")),
  };
}

describe("cross-entropy against PyTorch in f64", () => {
  it.each(kLossCases.map((opCase) => [opCase.name, opCase] as const))("%s", async (_, opCase) => {
    const exact = await lossErrors(opCase, "f64");
    const fast = await lossErrors(opCase, "f32");
    const name = opCase.name.slice(opCase.op.length + 1);
    for (const key of ["loss", "gradient"] as const) {
      const errors = [scientific(exact[key]), scientific(fast[key])];
      kRows.push([opCase.op, `${name}, ${key}`, ...errors, key]);
      expect(exact[key], key).toBeLessThanOrEqual(kLimits.f64);
      expect(fast[key], key).toBeLessThanOrEqual(kLimits.f32);
    }
  });
});

describe("dropout in training mode", () => {
  const kRate = 0.4;
  const kSize = 5000;
  const graph = graphText(
    [kSize],
    [],
    [node("op", "dropout", ["input"], {}, { rate: kRate })],
    "op",
  );
  const input = Float64Array.from({ length: 2 * kSize }, (_, i) => 1 + (i % 7));
  const gradOutput = Float64Array.from({ length: 2 * kSize }, (_, i) => 1 + (i % 5));

  async function run(real: "f32" | "f64", seed: number) {
    using network = new EngineNetwork(graph, { real, threads: 2 });
    return network.vjp({ data: input, count: 2 }, gradOutput, { training: true, seed });
  }

  it.each(["f32", "f64"] as const)("keeps 1 − rate of the values, scaled, in %s", async (real) => {
    const { output, gradInput } = await run(real, 3);
    const kept = [...output].filter((value) => value !== 0).length;
    // Five standard deviations of a binomial draw.
    const deviation = Math.sqrt(2 * kSize * kRate * (1 - kRate));
    expect(Math.abs(kept - 2 * kSize * (1 - kRate))).toBeLessThan(5 * deviation);
    const factor = output.map((value, i) => value / (input[i] as number));
    const scaled = factor.map((value) => (value === 0 ? 0 : 1 / (1 - kRate)));
    expect(relativeError(factor, scaled)).toBeLessThan(1e-6);
    const expected = scaled.map((value, i) => value * (gradOutput[i] as number));
    expect(relativeError(gradInput, expected)).toBeLessThan(1e-6);
  });

  it("draws the same values for the same seed, in f32 and f64, and others for another", async () => {
    const [first, wide, again, other] = await Promise.all([
      run("f32", 3),
      run("f64", 3),
      run("f32", 3),
      run("f32", 4),
    ]);
    const mask = (values: Float64Array): number[] =>
      [...values].map((value) => Number(value !== 0));
    expect(again.output).toEqual(first.output);
    const [bits, otherBits] = [mask(first.output), mask(other.output)];
    expect(mask(wide.output)).toEqual(bits);
    const changed = otherBits.filter((bit, i) => bit !== bits[i]).length;
    expect(changed).toBeGreaterThan(kSize / 2);
    // The two samples of a batch do not drop the same values.
    const [one, two] = [bits.slice(0, kSize), bits.slice(kSize)];
    expect(norm(one.map((bit, i) => bit - (two[i] as number)))).toBeGreaterThan(10);
  });
});
