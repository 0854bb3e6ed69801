import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { Graph, InputSpec, NodeSpec, ParameterSpec } from "../../src/model/graph.js";
import { FishermaskError, type FishermaskErrorCode } from "../../src/native/errors.js";

export const kParity = "test/fixtures/parity";

/** One tensor of a fixture, widened to f64 (labels too). */
export interface FixtureTensor {
  readonly shape: readonly number[];
  readonly values: Float64Array;
}

/** Every tensor of a fixture file. The file is ours, so it is read plainly. */
export function readFixture(path: string): Map<string, FixtureTensor> {
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.toString("utf8", 8, start)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, FixtureTensor>();
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    // Copied, so that every view starts at a multiple of its element's size.
    const raw = Uint8Array.from(
      bytes.subarray(start + data_offsets[0], start + data_offsets[1]),
    ).buffer;
    if (dtype !== "F64" && dtype !== "I32") {
      throw new Error(`Expected F64 or I32 for "${name}" of ${path} but received ${dtype}`);
    }
    const values = dtype === "F64" ? new Float64Array(raw) : Float64Array.from(new Int32Array(raw));
    tensors.set(name, { shape, values });
  }
  return tensors;
}

export function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, "utf8")) as T;
}

/** @throws Error naming the key that is absent */
export function need<T>(map: ReadonlyMap<string, T>, key: string): T {
  const value = map.get(key);
  if (value === undefined) throw new Error(`Expected "${key}" but the map has no such key`);
  return value;
}

type Reals = ArrayLike<number>;

export function norm(values: Reals): number {
  let sum = 0;
  for (let i = 0; i < values.length; i += 1) sum += (values[i] as number) ** 2;
  return Math.sqrt(sum);
}

/** ‖a − b‖ / ‖b‖; the norm of a itself where b is all zero. */
export function relativeError(a: Reals, b: Reals): number {
  expect(a.length).toBe(b.length);
  const difference = new Float64Array(b.length);
  for (let i = 0; i < b.length; i += 1) difference[i] = (a[i] as number) - (b[i] as number);
  const scale = norm(b);
  const error = norm(difference) / (scale > 0 ? scale : 1);
  // NaN compares false to everything: it must not pass for a small error.
  return Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
}

/** The worst error over the tensors that `expected` names, and which it is. */
export function worstError(
  actual: Readonly<Record<string, Reals>>,
  expected: Readonly<Record<string, Reals>>,
): { error: number; name: string } {
  expect(Object.keys(actual).sort()).toEqual(Object.keys(expected).sort());
  let worst = { error: -1, name: "" };
  for (const [name, values] of Object.entries(expected)) {
    const error = relativeError(actual[name] as Reals, values);
    if (error > worst.error) worst = { error, name };
  }
  return worst;
}

export function node(
  name: string,
  op: string,
  inputs: readonly string[],
  parameters: Readonly<Record<string, string>> = {},
  attributes: NodeSpec["attributes"] = {},
): NodeSpec {
  return { name, op, inputs, outputs: [name], parameters, attributes };
}

export function parameter(
  name: string,
  shape: readonly number[],
  role: ParameterSpec["role"] = "weight",
): ParameterSpec {
  return { name, shape, role, init: { kind: "zeros" } };
}

export function graphText(
  inputShape: readonly number[],
  parameters: readonly ParameterSpec[],
  nodes: readonly NodeSpec[],
  output: string,
): string {
  const input = { name: "input", shape: inputShape, dtype: "f32" } as const;
  return graphOfInputs([input], parameters, nodes, output);
}

export function graphOfInputs(
  inputs: readonly InputSpec[],
  parameters: readonly ParameterSpec[],
  nodes: readonly NodeSpec[],
  output: string,
): string {
  const graph: Graph = {
    version: 1,
    name: "parity",
    inputs,
    parameters,
    nodes,
    outputs: [output],
  };
  return JSON.stringify(graph);
}

export async function expectCode(
  run: () => unknown,
  code: FishermaskErrorCode,
  message: RegExp,
): Promise<void> {
  let thrown: unknown;
  try {
    await run();
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(FishermaskError);
  expect((thrown as FishermaskError).code).toBe(code);
  expect((thrown as FishermaskError).message).toMatch(message);
}

/** Rows under a heading, as text in columns. */
export function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [heading, ...rows];
  const widths = heading.map((_, c) => Math.max(...all.map((row) => (row[c] ?? "").length)));
  return all
    .map((row) =>
      row
        .map((cell, c) => cell.padEnd(widths[c] as number))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

export function scientific(value: number): string {
  return value.toExponential(1);
}

/** Where a file or folder of the shared data lies, and why a test skips when it is not there. */
export function dataPath(name: string): { path: string; absent: string | undefined } {
  const { FISHERMASK_DATA: folder = "../shared/data" } = process.env;
  const path = join(folder, name);
  const absent = existsSync(path) ? undefined : `SKIPPED: no ${path}; set FISHERMASK_DATA`;
  return { path, absent };
}
