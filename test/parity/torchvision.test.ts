import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { ArchitectureOptions } from "../../src/model/architecture.js";
import { buildVit } from "../../src/model/architectures/vit.js";
import { getArchitecture } from "../../src/model/architectures.js";
import type { Graph } from "../../src/model/graph.js";
import { EngineNetwork } from "../../src/native/network.js";
import { countedEntries, countedImages, countedValue } from "./counted.js";
import { kParity, norm, readJson, relativeError, scientific, table } from "./support.js";

interface Summary {
  readonly name: string;
  readonly shape: readonly number[];
  readonly sum: number;
  readonly norm: number;
  /** f32, little-endian, base64. */
  readonly values: string;
}
interface Fixture {
  /** (N, H, W, C). */
  readonly input: readonly [number, ...number[]];
  /** Which of the counted inputs. */
  readonly draw: number;
  readonly gain: number;
  readonly labels: readonly number[];
  readonly logits: readonly number[];
  readonly tensors: readonly Summary[];
}

const kClasses = 10;
const kEntries = 32;
// Against PyTorch in f64; a Fisher tensor by tensor.
const kLimits = { logits: 1e-4, fisher: 1e-4 } as const;
const kTimeoutMs = 300_000;
const kRows: string[][] = [];

/** torchvision's naming at a size of which the repository can hold the oracle's answer. */
function smallVit(options: ArchitectureOptions): Graph {
  const size = { patch: 8, layers: 2, heads: 3, width: 48 };
  return buildVit("vit_small_form", "torchvision", size, options);
}

function graphOf(name: string, inputShape: readonly number[]): Graph {
  const options = { inputShape, classes: kClasses };
  return name === "vit_small_form" ? smallVit(options) : getArchitecture(name).build(options);
}

interface Answer {
  readonly logits: Float64Array;
  readonly squares: Readonly<Record<string, Float64Array>>;
}

async function run(name: string, fixture: Fixture): Promise<Answer> {
  const [count, ...inputShape] = fixture.input;
  const graph = graphOf(name, inputShape);
  using network = new EngineNetwork(JSON.stringify(graph), { threads: 2 });
  const weights = graph.parameters.map((p): [string, Float32Array] => [
    p.name,
    countedValue(p.name, p.shape, fixture.gain),
  ]);
  await network.setParameters(new Map(weights));
  const data = countedImages(`${name}/input${fixture.draw}`, fixture.input);
  const values = await network.run(new Map([["input", data]]), ["logits"], count);
  const pass = network.fisherPass({});
  await pass.step({ data, count }, Int32Array.from(fixture.labels), 0);
  const { squares } = await pass.finish();
  return { logits: values.get("logits") as Float64Array, squares };
}

function decode(base64: string): number[] {
  const bytes = Buffer.from(base64, "base64");
  return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
}

/** Of the entries, in parts of what as many entries of the tensor weigh on average: most can be all but 0. */
function entriesError(actual: Float64Array, expected: Summary): number {
  const wanted = decode(expected.values);
  const places = countedEntries(expected.name, actual.length, kEntries);
  const differences = places.map((at, i) => (actual[at] as number) - (wanted[i] as number));
  const typical = expected.norm * Math.sqrt(kEntries / actual.length);
  return norm(differences) / Math.max(norm(wanted), typical);
}

function worstOf(squares: Answer["squares"], tensors: readonly Summary[]) {
  let worst = { error: 0, name: "" };
  for (const expected of tensors) {
    const actual = squares[expected.name] as Float64Array;
    const sum = actual.reduce((total, value) => total + value, 0);
    const error = Math.max(
      relativeError([sum], [expected.sum]),
      relativeError([norm(actual)], [expected.norm]),
      entriesError(actual, expected),
    );
    // Not "greater than": NaN must not pass for a small error.
    if (!(error <= worst.error)) worst = { error, name: expected.name };
  }
  return worst;
}

afterAll(() => {
  if (kRows.length > 0) console.log(table(["network", "logits", "Fisher", "worst tensor"], kRows));
});

describe("torchvision's and timm's networks", () => {
  it.each([
    "resnet18",
    "resnet50",
    "resnet18_cifar",
    "vgg11",
    "vgg16_bn",
    "densenet121",
    "densenet_cifar",
    "googlenet",
    "googlenet_cifar",
    "vit_small_form",
    "vit_tiny_patch4_32",
  ])(
    "%s has PyTorch's logits and f64 Fisher",
    async (name) => {
      const fixture = readJson<Fixture>(join(kParity, `torchvision/${name}.json`));
      const { logits, squares } = await run(name, fixture);
      const names = fixture.tensors.map((tensor) => tensor.name);
      expect(Object.keys(squares).sort()).toEqual(names.sort());
      for (const { name: tensor, shape } of fixture.tensors) {
        expect(squares[tensor]?.length, tensor).toBe(shape.reduce((a, b) => a * b, 1));
      }
      const off = relativeError(logits, fixture.logits);
      const worst = worstOf(squares, fixture.tensors);
      kRows.push([name, scientific(off), scientific(worst.error), worst.name]);
      expect(off).toBeLessThanOrEqual(kLimits.logits);
      expect(worst.error, worst.name).toBeLessThanOrEqual(kLimits.fisher);
    },
    kTimeoutMs,
  );
});
