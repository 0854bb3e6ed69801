/** Bytes `begin` (inclusive) to `end` (exclusive) of a file. */
export interface ByteRange {
  readonly begin: number;
  readonly end: number;
}

/** The repeated fields of TensorProto that hold elements one by one. */
export type TypedField =
  | "float_data"
  | "int32_data"
  | "string_data"
  | "int64_data"
  | "double_data"
  | "uint64_data";

/**
 * A stretch of a typed field: a packed list (`range` holds elements back to back), or a run of single elements, each
 * behind its own tag (`range` holds tags and elements).
 */
export interface TypedPiece {
  readonly packed: boolean;
  readonly range: ByteRange;
}

/** Where a tensor's bytes stand. Nothing of it has been read when a file is opened. */
export type OnnxStorage =
  | { readonly kind: "none" }
  | { readonly kind: "raw"; readonly range: ByteRange }
  | { readonly kind: "typed"; readonly field: TypedField; readonly pieces: readonly TypedPiece[] }
  | {
      readonly kind: "external";
      /** Relative to the model's folder, with forward slashes; checked to stay inside it as a text. */
      readonly location: string;
      readonly offset: number;
      /** Bytes: as many as the elements take. */
      readonly length: number;
    };
