import { FishermaskError } from "../native/errors.js";
import type { Graph } from "./graph.js";

/** The last layer of a classifier: logits = weight · input + bias. */
export interface LinearHead {
  /** Name of the (classes, width) weight. */
  readonly weight: string;
  /** Name of the (classes,) bias. */
  readonly bias: string;
  /** The value that it reads: (width,) features a sample. */
  readonly input: string;
  readonly classes: number;
  readonly width: number;
}

/**
 * The linear layer with a bias that makes the logits (the graph's first output).
 *
 * @throws {@link FishermaskError} `ERR_FM_CONFIG` where the logits come from another op or its parameters are used elsewhere too
 */
export function linearHead(graph: Graph): LinearHead {
  const logits = graph.outputs[0];
  const node = graph.nodes.find(({ outputs }) => outputs.includes(logits ?? ""));
  const { weight, bias } = node?.parameters ?? {};
  const input = node?.inputs[0];
  const spec = graph.parameters.find(({ name }) => name === weight);
  const uses = graph.nodes.filter(({ parameters }) =>
    Object.values(parameters).some((name) => name === weight || name === bias),
  );
  const isLinear = node?.op === "linear" && uses.length === 1;
  const what =
    node?.op === "linear" ? "one without or with shared parameters" : (node?.op ?? "none");
  if (!isLinear || weight === undefined || bias === undefined || input === undefined || !spec) {
    throw new FishermaskError(
      "ERR_FM_CONFIG",
      `Expected a linear layer with a bias, both its own, for the head of ${graph.name} but received ${what}`,
    );
  }
  const [classes = 0, width = 0] = spec.shape;
  return { weight, bias, input, classes, width };
}
