import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface HeaderEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** The header of a safetensors file that the tests trust; the library has its own, wary reader. */
export function readHeader(path: string): Map<string, HeaderEntry> {
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + length)) as Record<string, HeaderEntry>;
  return new Map(Object.entries(header).filter(([name]) => name !== "__metadata__"));
}

/** Where the real model of this name lies, and why a test skips when it is not there. */
export function modelFile(name: string): { path: string; absent: string | undefined } {
  const { FISHERMASK_DATA: folder = "../shared/data" } = process.env;
  const path = join(folder, "models", name);
  return {
    path,
    absent: existsSync(path) ? undefined : `SKIPPED: no ${path}; set FISHERMASK_DATA`,
  };
}
