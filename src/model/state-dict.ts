import { FishermaskError } from "../native/errors.js";
import { servesTrainingAlone } from "./architectures/kept-tensors.js";
import type { Graph } from "./graph.js";
import { shapeText } from "./graph-error.js";

/** What a file's header says of a tensor. */
export interface TensorDescription {
  readonly shape: readonly number[];
  /** As safetensors names it: "F32". */
  readonly dtype: string;
}

export interface StateDictMatch {
  /** The graph's parameters and buffers, all present, in the graph's order. */
  readonly parameters: readonly string[];
  /** Tensors of the file that the graph has no use for but that are kept when it is written back. */
  readonly kept: readonly string[];
}

const kNamedAtMost = 5;
const kRealTypes: ReadonlySet<string> = new Set(["F64", "F32", "F16", "BF16"]);
// PyTorch's batch norm counts its training batches; evaluation never reads the count.
const kCounter = /(?:^|\.)num_batches_tracked$/;

/** One line for each tensor that does not fit, in the graph's order, then the file's. */
function problemsOf(graph: Graph, tensors: ReadonlyMap<string, TensorDescription>): string[] {
  const problems: string[] = [];
  for (const { name, shape } of graph.parameters) {
    const tensor = tensors.get(name);
    if (tensor === undefined) {
      problems.push(`${name} ${shapeText(shape)} is missing`);
    } else if (shapeText(tensor.shape) !== shapeText(shape)) {
      const received = shapeText(tensor.shape);
      problems.push(`${name} is expected to be ${shapeText(shape)} but is ${received}`);
    } else if (!kRealTypes.has(tensor.dtype)) {
      problems.push(`${name} is expected to be of a floating type but is ${tensor.dtype}`);
    }
  }
  const known = new Set(graph.parameters.map((parameter) => parameter.name));
  for (const [name, { shape }] of tensors) {
    const kept = kCounter.test(name) || servesTrainingAlone(graph.name, name);
    if (!known.has(name) && !kept) {
      problems.push(`${name} ${shapeText(shape)} is unexpected`);
    }
  }
  return problems;
}

/**
 * Holds a file's tensors against the graph: same names, same shapes, floating types. `num_batches_tracked` may be
 * there or not.
 *
 * @param source what the message names, e.g. the file's path
 * @throws {@link FishermaskError} `ERR_FM_MISMATCH` naming up to 5 tensors; `details.problems` has them all
 */
export function matchStateDict(
  graph: Graph,
  tensors: ReadonlyMap<string, TensorDescription>,
  source = "the state dict",
): StateDictMatch {
  const problems = problemsOf(graph, tensors);
  if (problems.length > 0) {
    const more =
      problems.length > kNamedAtMost ? `; and ${problems.length - kNamedAtMost} more` : "";
    const named = problems.slice(0, kNamedAtMost).join("; ");
    throw new FishermaskError(
      "ERR_FM_MISMATCH",
      `Expected the tensors of ${graph.name} for ${source} but received others: ${named}${more}`,
      { details: { problems } },
    );
  }
  return {
    parameters: graph.parameters.map((parameter) => parameter.name),
    kept: [...tensors.keys()].filter(
      (name) => kCounter.test(name) || servesTrainingAlone(graph.name, name),
    ),
  };
}
