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
      // Sizes that do not fit together: no more than that is wrong with a file's node.
      if (error instanceof RangeError || isPlain(error)) {
        return node.refuse(`operands that do not fit: ${error.message}`);
      }
      throw error;
    }
  };
}

function isPlain(error: unknown): error is Error {
  return error instanceof Error && error.constructor === Error;
}

/** The importers with the node's name in every refusal: what they share with folding does not know it. */
export function namedImporters(importers: Importers): Importers {
  return Object.fromEntries(
    Object.entries(importers).map(([opType, importer]) => [opType, named(importer)]),
  );
}
