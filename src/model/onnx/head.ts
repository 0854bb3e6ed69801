import type { NodeSpec } from "../graph.js";
import type { EngineGraph, EngineValue } from "./engine-graph.js";
import { elementCount } from "./operand.js";

/** Where a classifier's logits and features are. */
export interface Head {
  /** (classes) or (T, V). */
  readonly logits: EngineValue;
  /** What the last layer with a weight reads. */
  readonly features: string;
  /** The op that was left out behind the logits: the loss has its own softmax. */
  readonly removed: "softmax" | "log_softmax" | undefined;
}

/** Whether the softmax runs over all numbers of a vector, or over the last size of a sequence. */
function isOverClasses(node: NodeSpec, value: EngineValue, classes: number): boolean {
  const { axis = -1 } = node.attributes;
  if (typeof axis !== "number") return false;
  return (
    value.shape.at(axis) === classes &&
    (axis === -1 || axis === value.shape.length - 1 || elementCount(value.shape) === classes)
  );
}

/** Back through what moves no number, and through one softmax over the classes. */
export function findLogits(
  graph: EngineGraph,
  output: EngineValue,
  classes: number,
): { readonly value: EngineValue; readonly removed: Head["removed"] } {
  let value = output;
  let removed: Head["removed"];
  for (;;) {
    const node = graph.maker(value);
    const input = node?.inputs.length === 1 ? graph.value(node.inputs[0] as string) : undefined;
    if (node === undefined || input === undefined) return { value, removed };
    const softmax = node.op === "softmax" || node.op === "log_softmax";
    if (softmax && removed === undefined && isOverClasses(node, value, classes)) {
      removed = node.op as "softmax" | "log_softmax";
    } else if (node.op !== "reshape") {
      return { value, removed };
    }
    value = input;
  }
}

/** The input of the last layer with a weight from which the logits are made. */
export function findFeatures(graph: EngineGraph, logits: EngineValue): string | undefined {
  const needed = new Set([logits.name]);
  for (const node of graph.nodes.toReversed()) {
    if (!node.outputs.some((name) => needed.has(name))) continue;
    if (kLayers.has(node.op) && node.inputs[0] !== undefined) return node.inputs[0];
    for (const name of node.inputs) needed.add(name);
  }
  return undefined;
}

const kLayers: ReadonlySet<string> = new Set(["linear", "conv2d", "conv_transpose2d"]);

/** The parameter as a layer's bias: as many numbers as the layer has outputs, one for each of the last size. */
function asBias(graph: EngineGraph, name: string, outputs: number): boolean {
  const users = graph.nodes.filter(({ parameters }) => Object.values(parameters).includes(name));
  const parameter = [...graph.parameters.values()].find((each) => each.name === name);
  if (parameter === undefined || users.length !== 1) return false;
  if (parameter.shape.at(-1) !== outputs || elementCount(parameter.shape) !== outputs) return false;
  parameter.shape = [outputs];
  return true;
}

/**
 * A layer without a bias whose only reader adds one number to each of its outputs gets them as its bias: exporters write
 * the two apart.
 */
export function fuseBiases(graph: EngineGraph): void {
  const readers = new Map<string, NodeSpec[]>();
  for (const node of graph.nodes) {
    for (const name of node.inputs) readers.set(name, [...(readers.get(name) ?? []), node]);
  }
  const fused = new Map<NodeSpec, NodeSpec>();
  const dropped = new Set<NodeSpec>();
  for (const node of graph.nodes) {
    const [output = ""] = node.outputs;
    const [next, more] = readers.get(output) ?? [];
    const isLayer = kLayers.has(node.op) && node.parameters["bias"] === undefined;
    const adds = next?.op === "binary_add" && next.inputs.length === 1 && more === undefined;
    const other = next?.parameters["other"];
    if (!isLayer || !adds || next === undefined || other === undefined) continue;
    if (!asBias(graph, other, graph.value(output).shape.at(-1) as number)) continue;
    dropped.add(node);
    const parameters = { ...node.parameters, bias: other };
    fused.set(next, { ...node, outputs: next.outputs, parameters });
  }
  graph.nodes = graph.nodes.flatMap((node) => (dropped.has(node) ? [] : [fused.get(node) ?? node]));
}
