import type { OnnxModel, OnnxTensor } from "./model.js";

/**
 * The constant tensor behind a value of the main graph: the initializer of this name, or the tensor in the attribute of
 * the Constant node whose output has this name.
 */
export function findTensor(model: OnnxModel, name: string): OnnxTensor | undefined {
  const initializer = model.graph.initializers.get(name);
  if (initializer !== undefined || name === "") {
    return initializer;
  }
  const node = model.graph.nodes.find(
    ({ opType, domain, outputs }) => opType === "Constant" && domain === "" && outputs[0] === name,
  );
  const value = node?.attributes.get("value");
  return value?.kind === "tensor" ? value.value : undefined;
}
