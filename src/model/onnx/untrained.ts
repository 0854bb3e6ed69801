import type { NodeSpec } from "../graph.js";
import type { EngineGraph, EngineParameter } from "./engine-graph.js";
import { sameDims } from "./operand.js";

// What only positions and masks are made with. Nothing that is learnt stands in front of these where no sample does.
const kUntrained: ReadonlySet<string> = new Set([
  ...["sin", "cos", "scatter", "not", "isnan", "floor", "ceil", "round", "sign"],
  ...["equal", "less", "less_equal", "greater", "greater_equal"],
  ...["logical_and", "logical_or", "logical_xor"],
]);

/** The nodes whose values are the same for every sample, with the parameters from which each is made. */
function fixedNodes(graph: EngineGraph): ReadonlyMap<NodeSpec, ReadonlySet<string>> {
  const sources = new Map<string, ReadonlySet<string>>();
  const fixed = new Map<NodeSpec, ReadonlySet<string>>();
  for (const node of graph.nodes) {
    const inputs = node.inputs.map((name) => sources.get(name));
    if (inputs.includes(undefined)) continue;
    const own = new Set([
      ...inputs.flatMap((each) => [...(each ?? [])]),
      ...Object.values(node.parameters),
    ]);
    fixed.set(node, own);
    for (const output of node.outputs) sources.set(output, own);
  }
  return fixed;
}

/** Whether the two hold a cosine and a sine at each place, up to one factor: rotary positions, computed by the exporter. */
function isRotation(a: EngineParameter, b: EngineParameter): boolean {
  if (!sameDims(a.shape, b.shape) || a.values.length < 4) return false;
  const square = (i: number): number => (a.values[i] as number) ** 2 + (b.values[i] as number) ** 2;
  const first = square(0);
  return first > 0 && a.values.every((_, i) => Math.abs(square(i) - first) <= 1e-4 * first);
}

/** Two tensors of one number each would pass for a rotation: a zero-filled bias beside ones. */
function varies({ values }: EngineParameter): boolean {
  return values.some((value) => value !== values[0]);
}

/**
 * Makes buffers of initializers that were never learnt: exporters store positions' frequencies, rotary tables and parts of
 * masks beside the weights.
 */
export function markUntrained(graph: EngineGraph): void {
  const found = new Set<string>();
  for (const [{ op }, parameters] of fixedNodes(graph)) {
    if (kUntrained.has(op)) for (const name of parameters) found.add(name);
  }
  const factors = [...graph.parameters.values()].filter(
    (parameter) => parameter.role === "bias" && parameter.shape.length >= 2 && varies(parameter),
  );
  factors.forEach((a, i) => {
    for (const b of factors.slice(i + 1)) {
      if (isRotation(a, b)) {
        found.add(a.name);
        found.add(b.name);
      }
    }
  });
  for (const parameter of graph.parameters.values()) {
    if (found.has(parameter.name)) parameter.role = "buffer";
  }
}
