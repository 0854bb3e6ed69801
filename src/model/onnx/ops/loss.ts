import type { Importers, NodeContext } from "../context.js";
import type { EngineValue } from "../engine-graph.js";
import { forEachIndex, wrapIndex } from "../fold/places.js";
import { Maths } from "../maths.js";
import { namedImporters } from "../naming.js";
import { elementCount, isFloat, type Operand, sameDims } from "../operand.js";

/** Known labels of (N, C, d…) inputs. */
interface Labels {
  /** (N, d…) */
  readonly dims: readonly number[];
  /** The flat place of each label's entry in the input; −1 where it is ignored. */
  readonly places: Int32Array;
  /** Each label; −1 where it is ignored. */
  readonly classes: Int32Array;
  readonly ignored: number;
}

function labelsOf(node: NodeContext, x: Operand, target: Operand): Labels {
  const [count = 0, classes = 0, ...rest] = x.dims;
  const dims = [count, ...rest];
  if (!sameDims(target.dims, dims)) node.refuse(`labels of sizes (${target.dims.join(", ")})`);
  const ids = node.integers(target, "labels");
  const ignore = node.has("ignore_index") ? node.int("ignore_index") : null;
  const inner = elementCount(rest);
  const labels = { places: new Int32Array(ids.length), classes: new Int32Array(ids.length) };
  let ignored = 0;
  forEachIndex(dims, (index, flat) => {
    const id = ids[flat] as number;
    const skip = id === ignore;
    if (skip) ignored += 1;
    if (!skip && id < 0) node.refuse(`a label of ${id}`);
    const label = skip ? -1 : wrapIndex(id, classes);
    labels.classes[flat] = label;
    labels.places[flat] = skip
      ? -1
      : ((index[0] as number) * classes + label) * inner + (flat % inner);
  });
  return { dims, ignored, ...labels };
}

/** The negative log-likelihood of (N, C, d…) log-probabilities, weighted per class, reduced as the node says. */
function likelihood(
  node: NodeContext,
  x: Operand,
  logs: EngineValue,
  target: Operand,
  weight: Operand | undefined,
): Operand {
  const maths = new Maths(node, x.dtype);
  const labels = labelsOf(node, x, target);
  const { dims } = labels;
  const picked = maths.affine(maths.take(logs, dims, labels.places), -1);
  const weights = weight && maths.take(node.plain(weight), dims, labels.classes);
  const losses = weights ? maths.mul(picked, weights) : picked;
  const reduction = node.string("reduction", "mean");
  if (reduction === "none") return node.result(losses, dims, x.dtype);
  const axes = dims.map((_, i) => i);
  const total = maths.sum(losses, axes, false);
  if (reduction === "sum") return node.result(total, [], x.dtype);
  if (reduction !== "mean") return node.refuse(`reduction ${reduction}`);
  if (weights) {
    return node.result(maths.binary("div", total, maths.sum(weights, axes, false)), [], x.dtype);
  }
  const counted = elementCount(dims) - labels.ignored;
  if (counted === 0) node.refuse("a mean over no label");
  return node.result(maths.affine(total, 1 / counted), [], x.dtype);
}

function operands(node: NodeContext): readonly [Operand, Operand, Operand | undefined] {
  const [x, target, weight] = [node.input(0), node.input(1), node.optional(2)];
  if (!isFloat(x.dtype) || x.dims.length < 2) node.refuse(`an input of type ${x.dtype}`);
  return [x, target, weight];
}

function negativeLogLikelihood(node: NodeContext): Operand {
  const [x, target, weight] = operands(node);
  return likelihood(node, x, node.plain(x), target, weight);
}

function softmaxCrossEntropy(node: NodeContext): readonly Operand[] {
  const [x, target, weight] = operands(node);
  const logs = node.graph.unary(node.label, "log_softmax", node.plain(x), { axis: 1 });
  const loss = likelihood(node, x, logs, target, weight);
  return [loss, node.result(logs, x.dims, x.dtype)];
}

/** Losses with labels that are known at import. */
export const importers: Importers = namedImporters({
  NegativeLogLikelihoodLoss: negativeLogLikelihood,
  SoftmaxCrossEntropyLoss: softmaxCrossEntropy,
});
