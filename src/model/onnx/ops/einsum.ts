import type { Importers, NodeContext } from "../context.js";
import type { EngineValue } from "../engine-graph.js";
import { elementCount, isFloat, type Operand } from "../operand.js";

/** A value whose axes have names. */
interface Labelled {
  readonly labels: readonly string[];
  readonly value: EngineValue;
}

const kEllipsis = "...";

/** "i...j" → ["i", ".0", ".1", "j"]: the axes of an ellipsis count from the end, as broadcasting does. */
function termLabels(node: NodeContext, term: string, rank: number): readonly string[] {
  const [head = "", tail, more] = term.split(kEllipsis);
  if (more !== undefined || /[^A-Za-z]/.test(head + (tail ?? ""))) {
    node.refuse(`the term "${term}"`);
  }
  const hidden = rank - head.length - (tail?.length ?? 0);
  if (hidden < 0 || (tail === undefined && hidden > 0)) {
    node.refuse(`the term "${term}" for rank ${rank}`);
  }
  const dots = Array.from({ length: hidden }, (_, i) => `.${hidden - 1 - i}`);
  return [...head, ...dots, ...(tail ?? "")];
}

/** Without "->": the ellipsis, then in alphabetical order what occurs once. */
function implicitOutput(terms: readonly (readonly string[])[]): readonly string[] {
  const all = terms.flat();
  const dots = [...new Set(all.filter((label) => label.startsWith(".")))].sort().reverse();
  const once = all.filter(
    (label) => !label.startsWith(".") && all.indexOf(label) === all.lastIndexOf(label),
  );
  return [...dots, ...once.sort()];
}

/** A label twice in one term is the diagonal of its axes. */
function diagonal(node: NodeContext, { labels, value }: Labelled): Labelled {
  const unique = [...new Set(labels)];
  if (unique.length === labels.length) return { labels, value };
  const shape = unique.map((label) => value.shape[labels.indexOf(label)] as number);
  labels.forEach((label, axis) => {
    if (value.shape[axis] !== shape[unique.indexOf(label)]) node.refuse(`sizes of ${label}`);
  });
  const strides = value.shape.map((_, axis) => elementCount(value.shape.slice(axis + 1)));
  const steps = unique.map((label) =>
    labels.reduce((sum, each, axis) => sum + (each === label ? (strides[axis] as number) : 0), 0),
  );
  let index = [0];
  shape.forEach((size, axis) => {
    const offsets = Array.from({ length: size }, (_, i) => i * (steps[axis] as number));
    index = index.flatMap((start) => offsets.map((offset) => start + offset));
  });
  return { labels: unique, value: node.graph.take(node.label, value, index, shape) };
}

/** Sums over the labels that nobody needs any more. */
function sumOut(node: NodeContext, term: Labelled, needed: ReadonlySet<string>): Labelled {
  const axes = term.labels.flatMap((label, axis) => (needed.has(label) ? [] : [axis]));
  if (axes.length === 0) return term;
  const value = node.graph.reduce(node.label, "reduce_sum", term.value, axes, false);
  return { labels: term.labels.filter((label) => needed.has(label)), value };
}

function arranged(node: NodeContext, term: Labelled, labels: readonly string[]): EngineValue {
  const perm = labels.map((label) => term.labels.indexOf(label));
  return node.graph.transpose(node.label, term.value, perm);
}

function sizes(term: Labelled, labels: readonly string[]): readonly number[] {
  return labels.map((label) => term.value.shape[term.labels.indexOf(label)] as number);
}

/** One product: (batch, left, contracted) · (batch, contracted, right). */
function product(
  node: NodeContext,
  a: Labelled,
  b: Labelled,
  needed: ReadonlySet<string>,
): Labelled {
  const { graph, label } = node;
  const left = sumOut(node, a, new Set([...needed, ...b.labels]));
  const right = sumOut(node, b, new Set([...needed, ...a.labels]));
  const shared = left.labels.filter((each) => right.labels.includes(each));
  if (sizes(left, shared).join() !== sizes(right, shared).join()) {
    node.refuse("sizes that differ between the operands");
  }
  const batch = shared.filter((each) => needed.has(each));
  const inner = shared.filter((each) => !needed.has(each));
  const own = (term: Labelled): readonly string[] =>
    term.labels.filter((each) => !shared.includes(each));
  const [rows, columns] = [own(left), own(right)];
  const count = elementCount(sizes(left, batch));
  const depth = elementCount(sizes(left, inner));
  const height = elementCount(sizes(left, rows));
  const width = elementCount(sizes(right, columns));
  const x = graph.reshape(label, arranged(node, left, [...batch, ...rows, ...inner]), [
    count,
    height,
    depth,
  ]);
  const y = graph.reshape(label, arranged(node, right, [...batch, ...inner, ...columns]), [
    count,
    depth,
    width,
  ]);
  const made = node.emit("matmul", [x, y], [count, height, width], {
    attributes: { transpose_a: false, transpose_b: false },
  });
  const shape = [...sizes(left, batch), ...sizes(left, rows), ...sizes(right, columns)];
  return {
    labels: [...batch, ...rows, ...columns],
    value: graph.reshape(label, made, shape),
  };
}

function einsum(node: NodeContext): Operand {
  const operands = node.inputs.map((_, i) => node.input(i));
  const equation = node.string("equation").replaceAll(" ", "");
  const [inputs = "", output, more] = equation.split("->");
  const terms = inputs.split(",");
  if (more !== undefined || terms.length !== operands.length || operands.length === 0) {
    node.refuse(`the equation "${equation}" for ${operands.length} operands`);
  }
  const labels = terms.map((term, i) => termLabels(node, term, operands[i]?.dims.length ?? 0));
  const dots = Math.max(0, ...labels.map((each) => each.filter((l) => l.startsWith(".")).length));
  const named = output?.replace(kEllipsis, "").length ?? 0;
  const wanted =
    output === undefined
      ? implicitOutput(labels)
      : termLabels(node, output, named + (output.includes(kEllipsis) ? dots : 0));
  if (new Set(wanted).size !== wanted.length || wanted.some((l) => !labels.flat().includes(l))) {
    node.refuse(`the equation "${equation}"`);
  }
  const values = operands.map((operand, i) => {
    if (!isFloat(operand.dtype)) node.refuse(`an operand of type ${operand.dtype}`);
    const value = node.plain(operand, "weight");
    return diagonal(node, { labels: labels[i] as readonly string[], value });
  });
  const result = values.slice(1).reduce((all, next, i) => {
    const later = values.slice(i + 2).flatMap((term) => term.labels);
    return product(node, all, next, new Set([...wanted, ...later]));
  }, values[0] as Labelled);
  const summed = sumOut(node, result, new Set(wanted));
  const value = arranged(node, summed, wanted);
  return node.result(value, value.shape, operands[0]?.dtype ?? "float");
}

export const importers: Importers = { Einsum: einsum };
