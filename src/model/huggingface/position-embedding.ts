import type { GraphBuilder } from "../builder.js";

/**
 * x (T, D) plus the first T rows of the parameter (P, D).
 *
 * @param name of the module that owns the parameter
 */
export function addFirstRows(b: GraphBuilder, name: string, x: string, parameter: string): string {
  const [length = 0, width = 0] = b.shapeOf(x);
  const rows = b.parameterValue(`${name}.rows`, parameter);
  const first = b.slice(`${name}.first`, rows, { starts: [0, 0], sizes: [length, width] });
  return b.binaryAdd(name, x, first);
}
