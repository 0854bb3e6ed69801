import { compileGlob } from "./glob.js";
import type { Graph, NodeSpec, ParameterSpec } from "./graph.js";
import { expected } from "./graph-error.js";

/** One tensor that may be masked. */
export interface CandidateTensor {
  readonly name: string;
  /** PyTorch's layout: (C_out, C_in/groups, K_h, K_w) of a convolution, (out, in) of a linear layer. */
  readonly shape: readonly number[];
  readonly kind: "conv" | "linear";
  /** The module that owns it, by PyTorch's name: "layer1.0.conv1". What `scope: "layer"` ranks together. */
  readonly layer: string;
}

export interface CandidateOptions {
  /** Globs over the names; left out, every weight. */
  readonly include?: readonly string[] | undefined;
  /** Globs over the names; wins over `include`. */
  readonly exclude?: readonly string[] | undefined;
  /** Leaves out the classifier head, see `headParameters`. Default false. */
  readonly excludeHead?: boolean | undefined;
}

/** Ops through which logits stay linear in their weights. All others (relu, max_pool2d, …) end the head. */
export const LINEAR_OPS: ReadonlySet<string> = new Set([
  "linear",
  "conv2d",
  "conv_transpose2d",
  "batch_norm",
  "embedding",
  "parameter",
  "flatten",
  "avg_pool2d",
  "global_avg_pool",
  "reduce_mean",
  "reduce_sum",
  "cumsum",
  "dropout",
  "add",
  "binary_add",
  "sub",
  "neg",
  "affine",
  "concat",
  "pad",
  "pad2d",
  "reshape",
  "transpose",
  "slice",
  "expand",
  "resample",
  "take",
]);

/** A product with a parameter is linear too; one of two computed values is not. */
function isLinear({ op, inputs }: NodeSpec): boolean {
  return LINEAR_OPS.has(op) || (op === "matmul" && inputs.length === 1);
}

/** Adds what reaches the open values with no nonlinearity after it; returns what the nonlinearities before it read. */
function followLinear(
  maker: ReadonlyMap<string, NodeSpec>,
  open: string[],
  head: Set<NodeSpec>,
): string[] {
  const behind = new Set<string>();
  for (let value = open.pop(); value !== undefined; value = open.pop()) {
    const node = maker.get(value);
    if (node === undefined || head.has(node)) continue;
    if (isLinear(node)) {
      head.add(node);
      open.push(...node.inputs);
    } else {
      for (const input of node.inputs) behind.add(input);
    }
  }
  return [...behind];
}

/**
 * The nodes from which the logits are reached with no nonlinearity after them; where none of them is trained (SqueezeNet
 * ends in relu and a mean), those before that nonlinearity.
 */
function headNodes(graph: Graph): Set<NodeSpec> {
  const maker = new Map(graph.nodes.flatMap((node) => node.outputs.map((value) => [value, node])));
  const buffers = new Set(
    graph.parameters.filter(({ role }) => role === "buffer").map(({ name }) => name),
  );
  const isTrained = ({ parameters }: NodeSpec): boolean =>
    Object.values(parameters).some((name) => !buffers.has(name));
  const head = new Set<NodeSpec>();
  let open = graph.outputs.slice(0, 1);
  while (open.length > 0 && ![...head].some(isTrained)) open = followLinear(maker, open, head);
  return head;
}

/**
 * The names of the classifier head's parameters, in network order: those of the ops that reach the logits (the graph's
 * first output) with no nonlinearity after them, or with as few as possible where there are none. A tied head takes its embedding along. Buffers are left out.
 */
export function headParameters(graph: Graph): string[] {
  const nodes = headNodes(graph);
  const used = new Set([...nodes].flatMap((node) => Object.values(node.parameters)));
  return graph.parameters
    .filter((parameter) => parameter.role !== "buffer" && used.has(parameter.name))
    .map((parameter) => parameter.name);
}

function describe({ name, shape }: ParameterSpec): CandidateTensor {
  const end = name.lastIndexOf(".");
  const layer = end < 0 ? name : name.slice(0, end);
  return { name, shape, kind: shape.length > 2 ? "conv" : "linear", layer };
}

/** Weights in the order in which the network first uses them. */
function weightsInOrder(graph: Graph): CandidateTensor[] {
  const byName = new Map(graph.parameters.map((parameter) => [parameter.name, parameter]));
  const used = new Set(graph.nodes.flatMap((node) => Object.values(node.parameters)));
  return [...used]
    .map((name) => byName.get(name))
    .filter((parameter) => parameter?.role === "weight")
    .map((parameter) => describe(parameter as ParameterSpec));
}

/** The names that any of the patterns matches; each pattern must match one. */
function matched(
  names: readonly string[],
  patterns: readonly string[],
  option: string,
): Set<string> {
  return new Set(
    patterns.flatMap((pattern) => {
      const hits = names.filter(compileGlob(pattern));
      if (hits.length > 0) return hits;
      const what = `a pattern that matches one of the ${names.length} weights`;
      throw expected("ERR_FM_ARGUMENT", what, option, `"${pattern}"`);
    }),
  );
}

/**
 * The tensors whose weights may be masked: those of role `weight` (convolutions and linear layers; no biases, norms,
 * embeddings), in the order in which the network first uses them.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for a pattern that matches no weight, or when none is left
 */
export function candidateTensors(graph: Graph, options: CandidateOptions = {}): CandidateTensor[] {
  const weights = weightsInOrder(graph);
  const names = weights.map((weight) => weight.name);
  const included = matched(names, options.include ?? ["*"], "include");
  const excluded = matched(names, options.exclude ?? [], "exclude");
  const head = new Set(options.excludeHead === true ? headParameters(graph) : []);
  const left = weights.filter(
    ({ name }) => included.has(name) && !excluded.has(name) && !head.has(name),
  );
  if (left.length > 0) return left;
  throw expected("ERR_FM_ARGUMENT", "at least one tensor", "the candidates", "none");
}
