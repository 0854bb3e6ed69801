import type { Graph, NodeSpec } from "../graph.js";
import { expected } from "../graph-error.js";

/** The second input of {@link rowHeadGraph}'s graph: i32 (1), the position whose logits are wanted. */
export const POSITION = "position";
const kRow = "features.row";

/** The head alone reads the features; it then reads one row of them. */
function readRow(node: NodeSpec, features: string): NodeSpec {
  const inputs = node.inputs.map((input) => (input === features ? kRow : input));
  return { ...node, inputs };
}

/** Whether what comes later in a sequence has no part in what a position says. */
function isCausal(graph: Graph): boolean {
  const attentions = graph.nodes.filter(({ op }) => op === "attention");
  return (
    attentions.length > 0 && attentions.every(({ attributes }) => attributes["causal"] === true)
  );
}

/**
 * A causal network's graph with logits (1, vocabulary) of one position in place of (T, vocabulary): a large vocabulary's
 * logits of every position would take far more time and memory than the rest of the network.
 *
 * @param features the value (T, D) that the head reads
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for a graph whose positions see later ones, or that gives no logits of each
 */
export function rowHeadGraph(graph: Graph, features: string): Graph {
  const head = graph.nodes.at(-1);
  if (head?.op !== "linear" || head.inputs[0] !== features || !isCausal(graph)) {
    throw expected("ERR_FM_ARGUMENT", "a causal language model", "generation", graph.name);
  }
  const row: NodeSpec = {
    name: kRow,
    op: "gather",
    inputs: [features, POSITION],
    outputs: [kRow],
    parameters: {},
    attributes: { axis: 0 },
  };
  return {
    ...graph,
    inputs: [...graph.inputs, { name: POSITION, shape: [1], dtype: "i32" }],
    nodes: [...graph.nodes.slice(0, -1), row, readRow(head, features)],
    outputs: graph.outputs.slice(0, 1),
  };
}
