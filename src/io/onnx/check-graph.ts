import { badFile } from "../file-error.js";
import type { OnnxAttribute, OnnxGraph, OnnxNode } from "./model.js";

// Producers other than nodes.
const kGiven = -1;

function quoted(name: string): string {
  return JSON.stringify(name.slice(0, 200));
}

function nodeLabel(node: OnnxNode, index: number): string {
  const name = node.name === "" ? "" : ` ${quoted(node.name)}`;
  return `graph.node[${index}]${name} (${node.opType.slice(0, 80)})`;
}

function subgraphsOf(attribute: OnnxAttribute): readonly OnnxGraph[] {
  if (attribute.kind === "graph") {
    return [attribute.value];
  }
  return attribute.kind === "graphs" ? attribute.value : [];
}

function* namesMade(graph: OnnxGraph): Generator<string> {
  yield* graph.inputs.map((input) => input.name);
  yield* graph.initializers.keys();
  yield* graph.sparseInitializers;
  for (const node of graph.nodes) {
    yield* node.outputs;
  }
}

/** Adds the names that a node reads: its inputs, and what the graphs in its attributes take from outside them. */
function addReads(node: OnnxNode, into: Set<string>): void {
  for (const name of node.inputs) {
    if (name !== "") {
      into.add(name);
    }
  }
  for (const attribute of node.attributes.values()) {
    for (const graph of subgraphsOf(attribute)) {
      addCaptured(graph, into);
    }
  }
}

/** Adds the names that a subgraph reads and does not make. */
function addCaptured(graph: OnnxGraph, into: Set<string>): void {
  const made = new Set(namesMade(graph));
  const read = new Set(graph.outputs.map((output) => output.name));
  for (const node of graph.nodes) {
    addReads(node, read);
  }
  for (const name of read) {
    if (name !== "" && !made.has(name)) {
      into.add(name);
    }
  }
}

/** Index of the node that makes each value, or {@link kGiven}. Refuses a value made twice. */
function producersOf(source: string, graph: OnnxGraph): Map<string, number> {
  const producers = new Map<string, number>();
  for (const [index, { name }] of graph.inputs.entries()) {
    if (name === "" || producers.has(name)) {
      const received = name === "" ? "none" : `${quoted(name)} twice`;
      throw badFile(source, `graph.input[${index}]`, "a name of its own", received);
    }
    producers.set(name, kGiven);
  }
  for (const name of graph.sparseInitializers) {
    if (name === "" || graph.initializers.has(name)) {
      throw badFile(source, "graph.sparse_initializer", "a name of its own", quoted(name));
    }
    producers.set(name, kGiven);
  }
  for (const name of graph.initializers.keys()) {
    producers.set(name, kGiven);
  }
  for (const [index, node] of graph.nodes.entries()) {
    for (const name of node.outputs) {
      if (name !== "" && producers.has(name)) {
        const received = `${quoted(name)}, which is made elsewhere too`;
        throw badFile(source, nodeLabel(node, index), "outputs of its own", received);
      }
      producers.set(name, index);
    }
  }
  return producers;
}

/** For each node, the indices of the nodes whose values it reads. */
function dependencies(
  source: string,
  nodes: readonly OnnxNode[],
  producers: ReadonlyMap<string, number>,
): number[][] {
  return nodes.map((node, index) => {
    const reads = new Set<string>();
    addReads(node, reads);
    const needs: number[] = [];
    for (const name of reads) {
      const producer = producers.get(name);
      if (producer === undefined) {
        const received = `${quoted(name)}, which nothing makes`;
        throw badFile(source, nodeLabel(node, index), "inputs that the graph makes", received);
      }
      if (producer !== kGiven) {
        needs.push(producer);
      }
    }
    return needs;
  });
}

/** Orders the nodes depth first from the file's order, which so stays wherever it can. */
function sorted(source: string, nodes: readonly OnnxNode[], needs: number[][]): OnnxNode[] {
  const result: OnnxNode[] = [];
  const state = new Uint8Array(nodes.length); // 0 untouched, 1 begun, 2 placed
  for (let root = 0; root < nodes.length; root += 1) {
    const stack = state[root] === 0 ? [{ index: root, next: 0 }] : [];
    state[root] = state[root] === 0 ? 1 : (state[root] as number);
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const need = needs[top.index]?.[top.next];
      top.next += 1;
      if (need === undefined) {
        state[top.index] = 2;
        result.push(nodes[top.index] as OnnxNode);
        stack.pop();
      } else if (state[need] === 1) {
        const where = nodeLabel(nodes[need] as OnnxNode, need);
        throw badFile(source, where, "a graph without cycles", "a node that needs its own output");
      } else if (state[need] === 0) {
        state[need] = 1;
        stack.push({ index: need, next: 0 });
      }
    }
  }
  return result;
}

/**
 * Checks that every value of the main graph is made once and every value read is made, and puts the nodes in an order in
 * which each follows those that it needs (the file's own where that is one, as the standard asks).
 *
 * @param source the file's name
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE` naming the node
 */
export function orderNodes(source: string, graph: OnnxGraph): readonly OnnxNode[] {
  const producers = producersOf(source, graph);
  const needs = dependencies(source, graph.nodes, producers);
  for (const [index, { name }] of graph.outputs.entries()) {
    if (!producers.has(name)) {
      const received = `${quoted(name)}, which nothing makes`;
      throw badFile(source, `graph.output[${index}]`, "a value of the graph", received);
    }
  }
  if (needs.every((list, index) => list.every((need) => need < index))) {
    return graph.nodes;
  }
  return sorted(source, graph.nodes, needs);
}
