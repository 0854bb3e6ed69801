import { arrayRules } from "./shapes/array.js";
import type { Shape, ShapeContext, ShapeRule } from "./shapes/context.js";
import { imageRules } from "./shapes/image.js";
import { layerRules } from "./shapes/layers.js";

export type { Shape, ShapeContext } from "./shapes/context.js";

const kRules: Readonly<Record<string, ShapeRule>> = { ...imageRules, ...layerRules, ...arrayRules };

/**
 * The output's per-sample shape of a node; undefined for an op without a rule here (the engine infers every shape anew
 * and has the last word).
 *
 * @throws {@link FishermaskError} `ERR_FM_SHAPE` naming the node
 */
export function inferShape(node: ShapeContext): Shape | undefined {
  return Object.hasOwn(kRules, node.op) ? kRules[node.op]?.(node) : undefined;
}
