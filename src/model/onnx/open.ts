import { sha256File } from "../../io/digest.js";
import { findTensor } from "../../io/onnx/find-tensor.js";
import type { OnnxModel, OnnxValueInfo } from "../../io/onnx/model.js";
import { OnnxFile } from "../../io/onnx/onnx-file.js";
import { rewriteOnnx } from "../../io/onnx/rewrite.js";
import { FishermaskError } from "../../native/errors.js";
import type { Model } from "../model.js";
import { liveBody } from "./bodies.js";
import { derivedBinding, derivedKind, dimsText, refuse } from "./derived-inputs.js";
import { type EngineValue, realValues, transposeMatrix } from "./engine-graph.js";
import { findFeatures, findLogits, fuseBiases } from "./head.js";
import {
  finishImport,
  type ImportedOperands,
  type InputBinding,
  importOperands,
  type OnnxImport,
} from "./import.js";
import { isFloat, type Layout, sameDims, type ValueOperand } from "./operand.js";
import { markUntrained } from "./untrained.js";

/** What an ONNX file may leave open. */
export interface OpenOnnxOptions {
  /** Tokens a sample, where the file does not say it. */
  readonly sequenceLength?: number | undefined;
  /** Per sample, (H, W, C): fills sizes of an image that the file leaves open. */
  readonly inputShape?: readonly number[] | undefined;
}

/** A model from an ONNX file, with what a user should know of how it was read. */
export interface OnnxClassifier extends Model {
  readonly notes: readonly string[];
}

/** The inputs that an output needs and the caller is to feed. */
function fedInputs(model: OnnxModel): readonly OnnxValueInfo[] {
  const { graph } = model;
  const outputs = graph.outputs.slice(0, 1).map(({ name }) => name);
  const { read } = liveBody(graph.nodes, outputs);
  return graph.inputs.filter(({ name }) => !graph.initializers.has(name) && read.has(name));
}

const isImageDepth = (size: unknown): boolean => size === 1 || size === 3;

/** Where the channels of (N, ?, ?, ?) are; ONNX's own convention where the sizes do not tell. */
function imageLayout(dims: readonly (number | string | null)[]): Layout {
  return !isImageDepth(dims[1]) && isImageDepth(dims[3]) ? "unbatched" : "channelsLast";
}

function imageSizes(layout: Layout, shape: readonly number[]): readonly number[] {
  const [height = 0, width = 0, channels = 0] = shape;
  return layout === "unbatched" ? [height, width, channels] : [channels, height, width];
}

function bindingOf(
  input: OnnxValueInfo,
  options: OpenOnnxOptions,
  path: string,
): InputBinding & { readonly kind: "value" } {
  const { dims, dtype } = input;
  const rank = dims?.length ?? 0;
  const ids = dtype === "int64" || dtype === "int32";
  const fits = dtype !== null && ((isFloat(dtype) && rank >= 2) || (ids && rank === 2));
  if (dims === null || dtype === null || !fits) {
    throw refuse(path, "an input of floats with a batch, or of ids (N, T)", dimsText(input));
  }
  const layout = rank === 4 ? imageLayout(dims) : "unbatched";
  const given = ids
    ? [options.sequenceLength]
    : rank === 4 && options.inputShape?.length === 3
      ? imageSizes(layout, options.inputShape)
      : [];
  const sizes = dims.slice(1).map((size, i) => {
    const known = typeof size === "number" && size > 0 ? size : given[i];
    if (known !== undefined && known > 0) return known;
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected a known size ${i + 1} for the input of ${path} but received ${dimsText(input)}`,
    );
  });
  return { kind: "value", dims: [1, ...sizes], dtype, layout };
}

/** What every graph input is fed with: the samples through one, what follows from token ids through others. */
function bindingsOf(
  model: OnnxModel,
  options: OpenOnnxOptions,
  path: string,
): ReadonlyMap<string, InputBinding> {
  const fed = fedInputs(model);
  const [input, more] = fed.filter((each) => derivedKind(each) === undefined);
  if (input === undefined || more !== undefined) {
    throw refuse(path, "one graph input", fed.map(dimsText).join("; ") || "none");
  }
  const binding = bindingOf(input, options, path);
  const derived = fed.filter((each) => each !== input);
  const [unknown] = isFloat(binding.dtype) ? derived : [];
  if (unknown !== undefined) {
    throw refuse(path, "one graph input beside images or vectors", dimsText(unknown));
  }
  const length = binding.dims[1] as number;
  return new Map<string, InputBinding>([
    [input.name, binding],
    ...derived.map((each) => [each.name, derivedBinding(each, input.name, length, path)] as const),
  ]);
}

/** Sizes of the logits without the batch and what is only 1: (classes) or (T, V). */
function logitsShape(operand: ValueOperand, path: string): readonly number[] {
  const { dims } = operand;
  const large = dims.slice(1).filter((size) => size !== 1);
  const isVector = dims[0] === 1 && dims.length >= 2 && large.length === 1;
  if (isVector) return large;
  if (dims[0] === 1 && dims.length === 3) return dims.slice(1);
  throw refuse(path, "logits (1, classes) or (1, T, V)", `(${dims.join(", ")})`);
}

/** The output with its numbers in the logits' order, in the form in which its node made it where that is one. */
function inOrder(
  graph: ImportedOperands["graph"],
  operand: ValueOperand,
  shape: readonly number[],
): EngineValue {
  const { forms } = operand;
  const [first] = forms.values();
  const ordered = shape.length === 1 ? first : (forms.get("unbatched") ?? forms.get("plain"));
  if (ordered !== undefined) return ordered;
  const last = forms.get("channelsLast");
  if (last === undefined) throw new Error("an output without a value");
  return graph.transpose("logits", last, [1, 0]);
}

interface Classifier {
  readonly imported: OnnxImport;
  readonly features: string;
  readonly notes: readonly string[];
}

/** Sees to it that the graph's output is the logits, made by the last layer itself where that is possible. */
function classifier(operands: ImportedOperands, name: string, path: string): Classifier {
  const { graph } = operands;
  const [output] = operands.outputs;
  const operand = output?.operand;
  if (operand?.kind !== "value") throw refuse(path, "a computed output", "a constant");
  const shape = logitsShape(operand, path);
  const last = inOrder(graph, operand, shape);
  const { value, removed } = findLogits(graph, last, shape.at(-1) as number);
  const logits = graph.reshape(output?.name ?? "logits", value, shape);
  fuseBiases(graph);
  markUntrained(graph);
  const features = findFeatures(graph, logits);
  if (features === undefined) throw refuse(path, "a layer with a weight", "none");
  const { dims, dtype } = operand;
  const made = { name: output?.name ?? "", dims, dtype, value: logits.name, array: undefined };
  const notes = [
    ...operands.notes,
    ...(removed === undefined ? [] : [`the last ${removed} is left out: the loss has its own`]),
    ...(operands.real === "f64" ? ["the file's doubles are computed in f32"] : []),
  ];
  return { imported: finishImport(operands, name, [made]), features, notes };
}

function weightsOf(imported: OnnxImport, path: string): Map<string, Float32Array> {
  const weights = new Map<string, Float32Array>();
  for (const [name, values] of imported.weights) {
    const floats = values instanceof Float32Array ? values : Float32Array.from(values);
    const bad = floats.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) {
      throw new FishermaskError(
        "ERR_FM_NON_FINITE",
        `Expected finite values for tensor "${name}" of ${path} but received ${floats[bad]} at element ${bad}`,
      );
    }
    weights.set(name, floats);
  }
  return weights;
}

/** Exporters store a tied head beside its embedding: here the two are tensors of their own. */
function tiedNotes(imported: OnnxImport, weights: ReadonlyMap<string, Float32Array>): string[] {
  const of = (role: string) =>
    imported.graph.parameters.filter((each) => each.role === role && each.shape.length === 2);
  return of("embedding").flatMap((table) =>
    of("weight")
      .filter(({ name, shape }) => {
        const values = weights.get(name) as Float32Array;
        return sameDims(shape, table.shape) && !differs(values, weights.get(table.name) ?? values);
      })
      .map(
        ({ name }) => `${table.name} and ${name} hold the same numbers, stored and changed apart`,
      ),
  );
}

/** The engine's values in the file's order. */
function inFileOrder(
  values: Float32Array,
  shape: readonly number[],
  transposed: boolean,
): Float32Array {
  const [out = 1, inner = 1] = shape;
  return transposed ? transposeMatrix(values, out, inner) : values;
}

function differs(a: Float32Array, b: Float32Array | Float64Array): boolean {
  return a.length !== b.length || a.some((value, i) => value !== Math.fround(b[i] as number));
}

/** A tensor that the file computes from others has no place to be written to. */
function checkUnchanged(
  name: string,
  values: Float32Array,
  before: Float32Array | undefined,
  path: string,
): void {
  if (before === undefined || !differs(values, before)) return;
  throw refuse(path, `an unchanged tensor "${name}", which the file computes,`, "a changed one");
}

/** Copies of what the file computes from others: the caller may change the weights in place. */
function computedWeights(
  imported: OnnxImport,
  weights: ReadonlyMap<string, Float32Array>,
): ReadonlyMap<string, Float32Array> {
  const names = [...weights.keys()].filter((name) => !imported.parameters.has(name));
  return new Map(names.map((name) => [name, (weights.get(name) as Float32Array).slice()]));
}

/** What is to be written over the file's tensors: those that changed. */
async function changesOf(
  file: OnnxFile,
  imported: OnnxImport,
  weights: ReadonlyMap<string, Float32Array>,
  computed: ReadonlyMap<string, Float32Array>,
): Promise<Map<string, Float32Array>> {
  const changes = new Map<string, Float32Array>();
  for (const { name, shape } of imported.graph.parameters) {
    const origin = imported.parameters.get(name);
    const values = weights.get(name);
    if (values === undefined) continue;
    if (origin === undefined) {
      checkUnchanged(name, values, computed.get(name), file.path);
      continue;
    }
    const tensor = findTensor(file.model, origin.initializer);
    if (tensor === undefined) throw refuse(file.path, `the tensor "${origin.initializer}"`, "none");
    const changed = inFileOrder(values, shape, origin.transposed);
    if (!differs(changed, realValues(await file.readTensor(tensor)))) continue;
    const before = changes.get(origin.initializer);
    if (before !== undefined && differs(changed, before)) {
      throw new FishermaskError(
        "ERR_FM_MISMATCH",
        `Expected one value for tensor "${origin.initializer}", which ${file.path} stores once, but received two`,
      );
    }
    changes.set(origin.initializer, changed);
  }
  return changes;
}

/**
 * Reads a classifier or language model from an ONNX file: one input (images, vectors or ids (N, T)), whose first size is
 * the batch, and the first output, (N, classes) or (N, T, V), as logits. A last softmax is left out, since the loss has its
 * own. Images enter as (H, W, C). Beside ids there may be inputs that follow from them: an attention mask (0 where the id is
 * −1, padding), token types (all 0) and positions (0 … T − 1).
 *
 * @throws {@link FishermaskError} `ERR_FM_IO`, `ERR_FM_BAD_FILE`; `ERR_FM_UNSUPPORTED` naming the node, its operator and the
 * reason; `ERR_FM_NON_FINITE` naming the tensor; `ERR_FM_ARGUMENT` for a size that the file leaves open
 *
 * @example
 * const model = await openOnnxModel("resnet18.onnx");
 * console.log(model.graph.outputs, model.notes);
 */
export async function openOnnxModel(
  path: string,
  options: OpenOnnxOptions = {},
): Promise<OnnxClassifier> {
  await using file = await OnnxFile.open(path);
  const inputs = bindingsOf(file.model, options, path);
  const [output] = file.model.graph.outputs;
  if (output === undefined) throw refuse(path, "an output", "none");
  const model = { ...file.model, graph: { ...file.model.graph, outputs: [output] } };
  const name = file.model.graph.name || "onnx";
  const operands = await importOperands(model, (tensor) => file.readTensor(tensor), {
    name,
    inputs,
  });
  const { imported, features, notes } = classifier(operands, name, path);
  const weights = weightsOf(imported, path);
  const computed = computedWeights(imported, weights);
  return {
    arch: "onnx",
    graph: imported.graph,
    features,
    weights,
    file: path,
    sha256: await sha256File(path),
    notes: [...notes, ...tiedNotes(imported, weights)],
    writeBack: async (changed, destination) => {
      await using source = await OnnxFile.open(path);
      await rewriteOnnx(source, destination, await changesOf(source, imported, changed, computed));
    },
  };
}
