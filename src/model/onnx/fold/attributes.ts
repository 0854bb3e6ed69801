import type { OnnxArray } from "../../../io/onnx/model.js";

/** The attributes of a node as folding reads them. `NodeContext` is one. */
export interface FoldAttributes {
  /** How many outputs the node has, left out ones among them. */
  readonly outputCount: number;
  has(name: string): boolean;
  int(name: string, fallback?: number): number;
  float(name: string, fallback?: number): number;
  string(name: string, fallback?: string): string;
  ints(name: string): readonly number[] | undefined;
  floats(name: string): readonly number[] | undefined;
  tensor(name: string): OnnxArray | undefined;
}

/** What one operator makes of known inputs (null: left out); null where it cannot be folded. */
export type Folder = (
  inputs: readonly (OnnxArray | null)[],
  attributes: FoldAttributes,
  opset: number,
) => readonly OnnxArray[] | null;

/** One file's operators. */
export type Folders = Readonly<Record<string, Folder>>;
