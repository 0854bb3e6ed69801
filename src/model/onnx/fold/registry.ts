import type { OnnxArray } from "../../../io/onnx/model.js";
import { isFoldable } from "./array.js";
import type { FoldAttributes, Folder, Folders } from "./attributes.js";
import { castFolders } from "./cast.js";
import { createFolders } from "./create.js";
import { elementwiseFolders } from "./elementwise.js";
import { moveFolders } from "./move.js";
import { productFolders } from "./product.js";
import { reduceFolders } from "./reduce.js";
import { selectFolders } from "./select.js";

const kFolders: ReadonlyMap<string, Folder> = new Map(
  [
    elementwiseFolders,
    castFolders,
    createFolders,
    moveFolders,
    productFolders,
    reduceFolders,
    selectFolders,
  ].flatMap((folders: Folders) => Object.entries(folders)),
);

/**
 * The outputs of an operator of ONNX's default domain whose inputs are all known; null where it cannot be folded (then it
 * is for the engine, or for nobody). Integers are exact, of 64 bits, too, and wrap as two's complement; floats are computed
 * in double and rounded to their type.
 *
 * @param inputs null: an optional input that is left out
 * @throws {FishermaskError} `ERR_FM_UNSUPPORTED` for operands that the operator does not take; the node is not named
 */
export function fold(
  opType: string,
  inputs: readonly (OnnxArray | null)[],
  attributes: FoldAttributes,
  opset: number,
): readonly OnnxArray[] | null {
  const folder = kFolders.get(opType);
  if (folder === undefined) return null;
  // Casting alone knows what narrower types are.
  const first = inputs[0];
  const rest = opType === "Cast" || opType === "CastLike" ? inputs.slice(1) : inputs;
  if (!first || !rest.every((input) => input === null || isFoldable(input.dtype))) return null;
  return folder(inputs, attributes, opset);
}
