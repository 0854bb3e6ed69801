import { createHash } from "node:crypto";
import { type PhiloxKey, philox } from "../data/philox.js";
import type { Graph, Initializer, ParameterSpec } from "./graph.js";
import { checkSeed } from "./graph-error.js";

const kTwo32 = 2 ** 32;
const kTwo52 = 2 ** 52;

/**
 * The random stream of a name: 52 bits of its SHA-256, in the half of the streams (2^52 and above) that nothing else
 * uses. A parameter's values so depend on its own name alone, not on what else the network holds or in which order.
 */
export function streamOfName(name: string): number {
  const digest = createHash("sha256").update(name, "utf8").digest();
  return kTwo52 + Number(BigInt.asUintN(52, digest.readBigUInt64LE()));
}

/** Calls `write` with the words of each block in turn, enough for `count` words. */
function eachBlock(
  key: PhiloxKey,
  count: number,
  write: (words: readonly number[], at: number) => void,
): void {
  for (let block = 0; block * 4 < count; block += 1) write(philox(key, block), block * 4);
}

/** Uniform in ±bound with 24 bits, word i for element i. */
function fillUniform(values: Float32Array, key: PhiloxKey, bound: number): void {
  eachBlock(key, values.length, (words, at) => {
    // Beyond the end, a typed array drops what is written.
    words.forEach((word, i) => {
      values[at + i] = ((word >>> 8) * 2 ** -23 - 1) * bound;
    });
  });
}

/** Normal with mean 0, by Box and Muller: words 2i and 2i + 1 make elements 2i and 2i + 1. */
function fillNormal(values: Float32Array, key: PhiloxKey, deviation: number): void {
  eachBlock(key, values.length, (words, at) => {
    for (let i = 0; i < 4; i += 2) {
      // (0, 1], so that the logarithm is finite.
      const radius = deviation * Math.sqrt(-2 * Math.log(((words[i] as number) + 1) / kTwo32));
      const angle = (2 * Math.PI * (words[i + 1] as number)) / kTwo32;
      values[at + i] = radius * Math.cos(angle);
      values[at + i + 1] = radius * Math.sin(angle);
    }
  });
}

/** How many inputs (`fan-in`) or outputs (`fan-out`) meet in one weight, as PyTorch counts them. */
export function fanOf(shape: readonly number[], mode: "fan-in" | "fan-out"): number {
  const product = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1);
  return mode === "fan-in" ? product(shape.slice(1)) : (shape[0] ?? 1) * product(shape.slice(2));
}

function fill(values: Float32Array, spec: ParameterSpec, key: PhiloxKey): void {
  const init: Initializer = spec.init;
  switch (init.kind) {
    case "zeros":
      break;
    case "ones":
      values.fill(1);
      break;
    case "uniform":
      fillUniform(values, key, init.bound);
      break;
    case "normal":
      fillNormal(values, key, init.std);
      break;
    case "kaiming-uniform":
      fillUniform(values, key, init.gain * Math.sqrt(3 / fanOf(spec.shape, "fan-in")));
      break;
    case "kaiming-normal":
      fillNormal(values, key, init.gain / Math.sqrt(fanOf(spec.shape, init.mode)));
      break;
  }
}

/**
 * Fresh values of every parameter, buffers included, in the parameter's layout, by name.
 *
 * A tensor's values depend on the seed, its name, its shape and its initialiser alone. Unlike PyTorch's, they do not
 * depend on the order of the layers; the distributions are PyTorch's.
 *
 * @param seed safe integer from 0
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT`
 *
 * Source: He, Zhang, Ren, Sun, "Delving deep into rectifiers", arXiv:1502.01852, and torch.nn.init.
 *
 * @example
 * const values = initialize(getArchitecture("lenet").build({ inputShape: [28, 28, 1], classes: 10 }), 1);
 * values.get("conv1.weight")?.length; // 150
 */
export function initialize(graph: Graph, seed: number): Map<string, Float32Array> {
  checkSeed(seed);
  return new Map(
    graph.parameters.map((spec) => {
      const values = new Float32Array(spec.shape.reduce((a, b) => a * b, 1));
      fill(values, spec, { seed, stream: streamOfName(spec.name) });
      return [spec.name, values];
    }),
  );
}
