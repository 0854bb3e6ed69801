import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { AttributeValue, NodeSpec, ParameterSpec } from "../../src/model/graph.js";
import { EngineNetwork } from "../../src/native/network.js";
import {
  type FixtureTensor,
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
  readonly inputs: readonly (readonly number[])[];
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

function fixtureOf(op: string): Fixture {
  const known = kFixtures.get(op) ?? readFixture(join(kParity, `ops/${op}.safetensors`));
  kFixtures.set(op, known);
  return known;
}

function valuesOf({ op, name }: OpCase, key: string): Float64Array {
  return need(fixtureOf(op), `${name}/${key}`).values;
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

function buildOne(opCase: OpCase): Built {
  const parameters = Object.entries(opCase.parameters).map(([slot, shape]) =>
    parameter(slot, shape, role(slot)),
  );
  const slots = Object.keys(opCase.parameters);
  return {
    graph: graphText(opCase.inputs[0] as number[], parameters, [opNode(opCase, ["input"])], "op"),
    weights: new Map(slots.map((slot) => [slot, valuesOf(opCase, `param/${slot}`)])),
    input: valuesOf(opCase, "input0"),
    gradInput: valuesOf(opCase, "grad_input0"),
  };
}

/** (N, outer, part, inner) arrays side by side along their third axis. */
function joinParts(
  parts: readonly Float64Array[],
  sizes: readonly number[],
  outer: number,
): Float64Array {
  const out = new Float64Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (let block = 0; block < outer; block += 1) {
    for (const [k, part] of parts.entries()) {
      const length = sizes[k] as number;
      out.set(part.subarray(block * length, (block + 1) * length), at);
      at += length;
    }
  }
  return out;
}

/**
 * The engine's border takes one input. Several are joined into one, and a convolution or linear layer of ones and zeros
 * cuts each out again: exact, in both directions.
 */
function buildSeveral(opCase: OpCase): Built {
  const { inputs, attributes } = opCase;
  const rank = (inputs[0] as number[]).length;
  const byRows = rank === 3 && attributes["axis"] === 0;
  const axis = byRows ? 0 : rank - 1;
  const sizes = inputs.map((shape) => shape[axis] as number);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const inputShape = (inputs[0] as number[]).map((size, i) => (i === axis ? total : size));
  const channels = inputShape[rank - 1] as number;
  const parameters: ParameterSpec[] = [];
  const nodes: NodeSpec[] = [];
  const weights = new Map<string, Float64Array>();
  let first = 0;
  for (const [k, size] of sizes.entries()) {
    const name = `cut${k}`;
    if (byRows) {
      const rows = total - size + 1;
      const weight = new Float64Array(channels * channels * rows);
      for (let c = 0; c < channels; c += 1) weight[(c * channels + c) * rows + first] = 1;
      parameters.push(parameter(name, [channels, channels, rows, 1]));
      weights.set(name, weight);
      nodes.push(node(name, "conv2d", ["input"], { weight: name }));
    } else {
      const weight = new Float64Array(size * total);
      for (let c = 0; c < size; c += 1) weight[c * total + first + c] = 1;
      parameters.push(parameter(name, [size, total]));
      weights.set(name, weight);
      nodes.push(node(name, "linear", ["input"], { weight: name }));
    }
    first += size;
  }
  nodes.push(
    opNode(
      opCase,
      sizes.map((_, k) => `cut${k}`),
    ),
  );
  const outer = inputShape.slice(0, axis).reduce((product, size) => product * size, kCases.batch);
  const inner = inputShape.slice(axis + 1).reduce((product, size) => product * size, 1);
  const lengths = sizes.map((size) => size * inner);
  const joined = (key: string): Float64Array =>
    joinParts(
      sizes.map((_, k) => valuesOf(opCase, `${key}${k}`)),
      lengths,
      outer,
    );
  return {
    graph: graphText(inputShape, parameters, nodes, "op"),
    weights,
    input: joined("input"),
    gradInput: joined("grad_input"),
  };
}

/** The worst error over the output, the input's gradient, the parameters' and the running statistics. */
async function errorsOf(opCase: OpCase, real: "f32" | "f64") {
  const built = opCase.inputs.length === 1 ? buildOne(opCase) : buildSeveral(opCase);
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
  const worst = Object.entries(errors).reduce((a, b) => (b[1] > a[1] ? b : a));
  return { error: worst[1], where: worst[0] };
}

afterAll(() => {
  console.log(table(["op", "case", "f64 error", "f32 error", "worst f32 of"], kRows));
});

describe("every op against PyTorch in f64", () => {
  it("has cases for each op of the table", () => {
    expect(kNodeCases.length).toBe(52);
    expect(kLossCases.length).toBe(5);
  });

  it.each(kNodeCases.map((opCase) => [opCase.name, opCase] as const))("%s", async (_, opCase) => {
    const exact = await errorsOf(opCase, "f64");
    const fast = await errorsOf(opCase, "f32");
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
