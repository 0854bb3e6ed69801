import { FishermaskError } from "../../native/errors.js";
import type { Importers, NodeImporter } from "./context.js";

function named(importer: NodeImporter): NodeImporter {
  return (node) => {
    try {
      return importer(node);
    } catch (error) {
      if (error instanceof FishermaskError && error.details["node"] === undefined) {
        return node.refuse(error.message);
      }
      throw error;
    }
  };
}

/** The importers with the node's name in every refusal: what they share with folding does not know it. */
export function namedImporters(importers: Importers): Importers {
  return Object.fromEntries(
    Object.entries(importers).map(([opType, importer]) => [opType, named(importer)]),
  );
}
