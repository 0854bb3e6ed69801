import { readdir, readFile } from "node:fs/promises";
import { basename, join, relative, sep } from "node:path";
import { attempt } from "../../io/file-error.js";
import { bf16ToNumber } from "../../io/float-format.js";
import type { OnnxArray, OnnxModel, OnnxValueInfo } from "../../io/onnx/model.js";
import { OnnxFile } from "../../io/onnx/onnx-file.js";
import { parseTensorProto } from "../../io/onnx/tensor-proto.js";
import { FishermaskError, throwIfAborted } from "../../native/errors.js";
import { EngineNetwork } from "../../native/network.js";
import { realValues } from "./engine-graph.js";
import { floatArray, integerArray } from "./fold/array.js";
import { type ImportedOutput, type InputBinding, importOnnx, type OnnxImport } from "./import.js";
import { elementCount, isFloat, sameDims } from "./operand.js";

/** What became of one of ONNX's backend tests. */
export interface ConformanceTest {
  /** The test's folder, relative to the one that was searched. */
  readonly name: string;
  /** `refused`: the importer said no before any work; `wrong`: a value, size or type differs, or something broke. */
  readonly result: "pass" | "refused" | "wrong";
  /** Why, where it did not pass. */
  readonly reason: string | null;
  /** Greatest |a − b| / max(|b|, 1e-4) over the outputs; null where nothing was compared. */
  readonly maxRelativeError: number | null;
}

export interface ConformanceReport {
  readonly total: number;
  readonly pass: number;
  readonly refused: number;
  readonly wrong: number;
  readonly tests: readonly ConformanceTest[];
}

/** A test with what a table by operator needs. */
export interface ConformanceRow extends ConformanceTest {
  /** The model's one operator, or "several". */
  readonly operator: string;
}

export interface ConformanceOptions {
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

// ONNX's own backend tests allow |a − b| ≤ 1e-7 + 1e-3·|b|. Source: onnx/backend/test/runner.
const kAbsolute = 1e-7;
const kRelative = 1e-3;
const kDataSet = /^test_data_set_\d+$/;

/** Outputs that differ from what the test expects. */
class Difference extends Error {}

/** Folders that hold a model.onnx and test_data_set_*, at any depth, in alphabetical order. */
export async function findTests(folder: string): Promise<readonly string[]> {
  const entries = await attempt("read", folder, readdir(folder, { withFileTypes: true }));
  const isModel = entries.some((entry) => entry.name === "model.onnx" && !entry.isDirectory());
  const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  const isTest = isModel && folders.some((name) => kDataSet.test(name));
  const inner: string[] = [];
  for (const name of folders.filter((each) => !kDataSet.test(each)).sort()) {
    inner.push(...(await findTests(join(folder, name))));
  }
  return [...(isTest ? [folder] : []), ...inner];
}

async function readTensors(folder: string, kind: "input" | "output"): Promise<OnnxArray[]> {
  const names = await attempt("read", folder, readdir(folder));
  const pattern = new RegExp(`^${kind}_(\\d+)\\.pb$`);
  const numbered = names.flatMap((name) => {
    const number = pattern.exec(name)?.[1];
    return number === undefined ? [] : [{ name, number: Number(number) }];
  });
  const arrays: OnnxArray[] = [];
  for (const { name } of numbered.sort((a, b) => a.number - b.number)) {
    const path = join(folder, name);
    arrays.push(parseTensorProto(await attempt("read", path, readFile(path)), path));
  }
  return arrays;
}

/** Numbers are computed on; whatever decides about sizes or places is known. */
function bindingOf(array: OnnxArray): InputBinding {
  if (!isFloat(array.dtype)) return { kind: "constant", array };
  return { kind: "value", dims: array.dims, dtype: array.dtype, known: array };
}

function bindings(
  model: OnnxModel,
  arrays: readonly OnnxArray[],
): ReadonlyMap<string, InputBinding> {
  const { inputs, initializers } = model.graph;
  const fed =
    arrays.length === inputs.length ? inputs : inputs.filter(({ name }) => !initializers.has(name));
  if (arrays.length !== fed.length) {
    throw new FishermaskError(
      "ERR_FM_BAD_FILE",
      `Expected ${fed.length} inputs for ${model.graph.name} but received ${arrays.length}`,
    );
  }
  return new Map(
    fed.map((info, i) => [info.name, bindingOf(asDeclared(arrays[i] as OnnxArray, info))]),
  );
}

/** ONNX's test data up to 1.12 hold bfloat16 as the uint16 of its bits. */
function asDeclared(array: OnnxArray, info: OnnxValueInfo): OnnxArray {
  if (info.dtype !== "bfloat16" || array.dtype !== "uint16") return checkType(array, info);
  const data = Float32Array.from(array.data as Uint16Array, bf16ToNumber);
  return { dtype: "bfloat16", dims: array.dims, data };
}

function checkType(array: OnnxArray, { name, dtype }: OnnxValueInfo): OnnxArray {
  if (dtype === null || dtype === array.dtype) return array;
  throw new FishermaskError(
    "ERR_FM_BAD_FILE",
    `Expected test data of type ${dtype} for ${name} but received ${array.dtype}`,
  );
}

/** The outputs' data, each rounded to its type. */
async function compute(
  imported: OnnxImport,
  inputs: ReadonlyMap<string, InputBinding>,
  threads: number | undefined,
): Promise<readonly OnnxArray[]> {
  const { graph, outputs, real } = imported;
  if (graph.outputs.length === 0) return outputs.map((output) => typed(output, undefined));
  using network = new EngineNetwork(JSON.stringify(graph), { real, threads });
  await network.setParameters(imported.weights);
  const data = new Map<string, Float32Array | Float64Array>(
    graph.inputs.map(({ name, shape }) => [name, new Float32Array(elementCount(shape))]),
  );
  for (const [name, values] of imported.inputs.map(({ input, value }) => {
    const binding = inputs.get(input);
    const array = binding?.kind === "value" ? binding.known : undefined;
    if (array === undefined) throw new Error(`the input ${input} has no data`);
    return [value.name, realValues(array)] as const;
  }))
    data.set(name, values);
  const values = await network.run(data, graph.outputs);
  return outputs.map((output) => typed(output, values.get(output.value ?? "")));
}

function typed(output: ImportedOutput, values: Float64Array | undefined): OnnxArray {
  const { dtype, dims, array, name } = output;
  if (array !== undefined) return array;
  if (values === undefined || values.length !== elementCount(dims)) {
    throw new Difference(`${name}: ${values?.length ?? "no"} values for (${dims.join(", ")})`);
  }
  if (isFloat(dtype)) return floatArray(dtype, dims, values);
  const bad = values.findIndex((value) => !Number.isInteger(value));
  if (bad >= 0) throw new Difference(`${name}[${bad}] is ${values[bad]}, not a ${dtype}`);
  return integerArray(dtype, dims, Array.from(values, BigInt));
}

/** @returns the greatest relative error. @throws `Difference` */
function compare(name: string, received: OnnxArray, expected: OnnxArray): number {
  const text = ({ dtype, dims }: OnnxArray): string => `${dtype} (${dims.join(", ")})`;
  if (received.dtype !== expected.dtype || !sameDims(received.dims, expected.dims)) {
    throw new Difference(`${name} is ${text(received)} instead of ${text(expected)}`);
  }
  if (!isFloat(expected.dtype)) {
    const place = expected.data.findIndex((value, i) => value !== received.data[i]);
    if (place === -1) return 0;
    throw differs(name, place, received.data[place], expected.data[place]);
  }
  let worst = 0;
  for (let i = 0; i < expected.data.length; i++) {
    const [a, b] = [Number(received.data[i]), Number(expected.data[i])];
    if (Object.is(a, b) || a === b) continue;
    const error = Math.abs(a - b);
    if (!(error <= kAbsolute + kRelative * Math.abs(b)) || !Number.isFinite(b)) {
      throw differs(name, i, a, b);
    }
    worst = Math.max(worst, error / Math.max(Math.abs(b), kAbsolute / kRelative));
  }
  return worst;
}

function differs(
  name: string,
  place: number,
  received: number | bigint | undefined,
  expected: number | bigint | undefined,
): Difference {
  return new Difference(`${name}[${place}] is ${received} instead of ${expected}`);
}

async function runDataSet(
  file: OnnxFile,
  folder: string,
  threads: number | undefined,
): Promise<number> {
  const arrays = await readTensors(folder, "input");
  const expected = await readTensors(folder, "output");
  const inputs = bindings(file.model, arrays);
  const imported = await importOnnx(file.model, (tensor) => file.readTensor(tensor), {
    name: file.model.graph.name || "graph",
    inputs,
  });
  if (imported.outputs.length !== expected.length) {
    throw new FishermaskError(
      "ERR_FM_BAD_FILE",
      `Expected ${imported.outputs.length} outputs for ${folder} but received ${expected.length}`,
    );
  }
  // Expected bfloat16 data in uint16 were cut off instead of rounded when they were made: such a test is refused.
  const wanted = expected.map((array, i) =>
    checkType(array, file.model.graph.outputs[i] as OnnxValueInfo),
  );
  const received = await compute(imported, inputs, threads);
  return received.reduce(
    (worst, array, i) =>
      Math.max(worst, compare(imported.outputs[i]?.name ?? "", array, wanted[i] as OnnxArray)),
    0,
  );
}

async function runFile(
  file: OnnxFile,
  folder: string,
  options: ConformanceOptions,
): Promise<number> {
  const names = await attempt("read", folder, readdir(folder));
  let worst = 0;
  for (const name of names.filter((each) => kDataSet.test(each)).sort()) {
    throwIfAborted(options.signal);
    worst = Math.max(worst, await runDataSet(file, join(folder, name), options.threads));
  }
  return worst;
}

function operatorOf(model: OnnxModel): string {
  const operators = new Set(
    model.graph.nodes.map(({ opType }) => opType).filter((opType) => opType !== "Constant"),
  );
  return operators.size === 1 ? ([...operators][0] as string) : "several";
}

/** Runs one test's folder. Whatever happens is its result; only the signal's error is thrown. */
export async function runTest(
  folder: string,
  name: string,
  options: ConformanceOptions = {},
): Promise<ConformanceRow> {
  let operator = "several";
  try {
    await using file = await OnnxFile.open(join(folder, "model.onnx"));
    operator = operatorOf(file.model);
    const maxRelativeError = await runFile(file, folder, options);
    return { name, operator, result: "pass", reason: null, maxRelativeError };
  } catch (error) {
    throwIfAborted(options.signal);
    const refused = error instanceof FishermaskError;
    const text = error instanceof Error ? error.message : String(error);
    return {
      name,
      operator,
      result: refused ? "refused" : "wrong",
      reason: refused ? `${error.code}: ${text}` : text,
      maxRelativeError: null,
    };
  }
}

/**
 * Runs every backend test of ONNX's form (model.onnx beside test_data_set_*) below a folder: the whole model is one sample,
 * integer and boolean inputs are known when it is imported, double models run in f64.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO` when the folder cannot be read, `ERR_FM_ABORTED`
 */
export async function runConformance(
  folder: string,
  options: ConformanceOptions = {},
): Promise<readonly ConformanceRow[]> {
  const folders = await findTests(folder);
  const rows: ConformanceRow[] = [];
  for (const each of folders) {
    const name = relative(folder, each).split(sep).join("/") || basename(each);
    rows.push(await runTest(each, name, options));
    options.onProgress?.(rows.length, folders.length);
  }
  return rows;
}

/** The counts and the tests without what only a table needs. */
export function reportOf(rows: readonly ConformanceRow[]): ConformanceReport {
  const count = (result: ConformanceTest["result"]): number =>
    rows.filter((row) => row.result === result).length;
  return {
    total: rows.length,
    pass: count("pass"),
    refused: count("refused"),
    wrong: count("wrong"),
    tests: rows.map(({ name, result, reason, maxRelativeError }) => ({
      name,
      result,
      reason,
      maxRelativeError,
    })),
  };
}
