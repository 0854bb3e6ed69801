import type { Importers, NodeContext } from "../context.js";
import type { Operand } from "../operand.js";

/** The operand as it is. */
function identity(node: NodeContext): Operand {
  return node.input(0);
}

export const importers: Importers = { Identity: identity };
