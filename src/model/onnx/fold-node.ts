import type { OnnxArray } from "../../io/onnx/model.js";
import { FishermaskError } from "../../native/errors.js";
import type { NodeContext } from "./context.js";
import { fold } from "./fold/registry.js";

/** The node's outputs where all that it reads is known and folding knows the operator; null otherwise. */
export function foldNode(node: NodeContext): readonly OnnxArray[] | null {
  const inputs: (OnnxArray | null)[] = [];
  for (const operand of node.inputs) {
    if (operand !== null && operand.kind !== "constant") return null;
    inputs.push(operand === null ? null : operand.array);
  }
  // What makes something of nothing (Constant, random numbers) is not folding's.
  if (inputs.length === 0) return null;
  try {
    return fold(node.node.opType, inputs, node, node.opset);
  } catch (error) {
    if (error instanceof FishermaskError && error.details["node"] === undefined) {
      return node.refuse(error.message);
    }
    throw error;
  }
}
