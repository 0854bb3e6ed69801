import type { Importers, NodeImporter } from "./context.js";
import { operatorFiles } from "./ops.gen.js";

function collect(): ReadonlyMap<string, NodeImporter> {
  const all = new Map<string, NodeImporter>();
  for (const [file, importers] of Object.entries(operatorFiles)) {
    for (const [opType, importer] of Object.entries(importers as Importers)) {
      if (all.has(opType)) throw new Error(`${opType} is imported by ${file} and another file`);
      all.set(opType, importer);
    }
  }
  return all;
}

/** ONNX's operators (of the default domain) → how they are imported. */
export const nodeImporters: ReadonlyMap<string, NodeImporter> = collect();
