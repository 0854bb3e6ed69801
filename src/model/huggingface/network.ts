import type { Graph, Initializer } from "../graph.js";

/** How a parameter of the graph lies in the model's files. */
export interface StoredParameter {
  /** Its tensors by name: the first is read, all are written. More than one where a tied weight is stored twice. */
  readonly tensors: readonly string[];
  /** Stored as (in, out): transposed on the way in and out. */
  readonly transposed: boolean;
}

/** A configuration turned into a graph for sequences of one length. */
export interface HuggingFaceNetwork {
  /** The configuration's `model_type`, or "llama2c". */
  readonly arch: string;
  /** One input, `ids`: i32 (T), −1 is padding. */
  readonly graph: Graph;
  /** The value that the head reads. */
  readonly features: string;
  /** Parameters that lie in the files otherwise than as one tensor of their own name and shape. */
  readonly stored: ReadonlyMap<string, StoredParameter>;
  /** Tensors that older files hold and that nothing reads. */
  readonly buffers: RegExp;
}

/** What a network's builder is told beside its configuration. */
export interface HuggingFaceBuildOptions {
  /** Tokens a sample; undefined: the whole context. */
  readonly sequenceLength: number | undefined;
  /** Names of the tensors in the files. */
  readonly tensors: ReadonlySet<string>;
}

export const IDS = "ids";
/** Of every parameter: networks of this folder are read, never begun afresh. */
export const READ: Initializer = { kind: "zeros" };
/** More layers than any published model has; a hostile configuration must not build a graph without end. */
export const MAX_LAYERS = 4096;
