import { createHash } from "node:crypto";
import { SafetensorsFile, type TensorSource, writeSafetensors } from "../io/safetensors.js";
import { PRECISIONS, type Precision } from "../native/device.js";
import { FishermaskError } from "../native/errors.js";
import { formatIds, parseIds } from "./id-ranges.js";

export type FisherLabels = "empirical" | "expected" | "sampled";
export type FisherGradient = "per-sample" | "batch-mean";
export const FISHER_LABELS: readonly FisherLabels[] = ["empirical", "expected", "sampled"];
export const FISHER_GRADIENTS: readonly FisherGradient[] = ["per-sample", "batch-mean"];

export type FisherReduction = "sum" | "per-token";
export const FISHER_REDUCTIONS: readonly FisherReduction[] = ["sum", "per-token"];

/** What a Fisher was taken of and how. Two stores combine when all of it agrees but the ids. */
export interface FisherMeta {
  readonly labels: FisherLabels;
  readonly gradient: FisherGradient;
  readonly temperature: number;
  /** `sum`: a sample's loss is the sum over its counted tokens (an image has one). `per-token`: each token is a term of its own. */
  readonly reduction: FisherReduction;
  /** Of the `sampled` labels. */
  readonly seed: number;
  /** Of the weights that the gradients were taken at; see `weightsDigest`. */
  readonly modelDigest: string;
  readonly datasetDigest: string;
  /** `batch-mean` alone: the batch size; its samples came in file order. */
  readonly batchSize: number | null;
  /** What matrix products read: f32 on the CPU. */
  readonly precision: Precision;
}

/** Sums over samples, in f32; the mean is sum / terms. */
export interface FisherStore {
  readonly meta: FisherMeta;
  /** The samples, ascending indices into the data set. */
  readonly ids: Int32Array;
  /** Samples; batches for `batch-mean`; counted tokens for `per-token`. */
  readonly terms: number;
  /** Σ (∂ℓ/∂θ)² by parameter, in the parameter's shape. */
  readonly squares: ReadonlyMap<string, Float32Array>;
  /** Σ ∂ℓ/∂θ with the data's labels, where it was asked for. */
  readonly gradients: ReadonlyMap<string, Float32Array> | null;
  readonly shapes: ReadonlyMap<string, readonly number[]>;
}

const FORMAT = "fishermask.fisher.1";
/** Of the tensors of gradient sums; sums of squares have the parameter's own name. */
export const GRADIENT_PREFIX = "gradient/";

/** SHA-256 over names and f32 bytes, in the map's order. */
export function weightsDigest(weights: ReadonlyMap<string, Float32Array>): string {
  const hash = createHash("sha256");
  for (const [name, values] of weights) {
    hash.update(`${name} ${values.length}\n`);
    hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  return hash.digest("hex");
}

function mismatch(message: string): FishermaskError {
  return new FishermaskError("ERR_FM_MISMATCH", message);
}

function checkCombinable(a: FisherStore, b: FisherStore): void {
  for (const key of Object.keys(a.meta) as (keyof FisherMeta)[]) {
    if (a.meta[key] !== b.meta[key]) {
      throw mismatch(
        `Expected two Fisher stores with the same ${key} but received ${String(a.meta[key])} and ${String(b.meta[key])}`,
      );
    }
  }
  if (a.meta.gradient === "batch-mean") {
    throw mismatch(
      "Expected per-sample Fisher stores but received batch-mean ones, which are not additive",
    );
  }
  const names = [...a.squares.keys()];
  const odd = names.find((name) => b.squares.get(name)?.length !== a.squares.get(name)?.length);
  if (odd !== undefined || names.length !== b.squares.size) {
    throw mismatch(
      `Expected Fisher stores of the same tensors but they differ at "${odd ?? "their number"}"`,
    );
  }
}

function combine(
  a: ReadonlyMap<string, Float32Array>,
  b: ReadonlyMap<string, Float32Array>,
  rule: (x: number, y: number) => number,
): Map<string, Float32Array> {
  return new Map(
    [...a].map(([name, values]) => {
      const other = b.get(name) as Float32Array;
      return [name, values.map((value, i) => rule(value, other[i] as number))];
    }),
  );
}

function combineGradients(
  a: FisherStore,
  b: FisherStore,
  rule: (x: number, y: number) => number,
): Map<string, Float32Array> | null {
  return a.gradients === null || b.gradients === null
    ? null
    : combine(a.gradients, b.gradients, rule);
}

/**
 * F_{A ∪ B} = F_A + F_B.
 *
 * @throws {@link FishermaskError} `ERR_FM_MISMATCH` when the stores were taken differently, share a sample (named), or are
 * `batch-mean`
 */
export function addFishers(a: FisherStore, b: FisherStore): FisherStore {
  checkCombinable(a, b);
  const inA = new Set(a.ids);
  const shared = b.ids.find((id) => inA.has(id));
  if (shared !== undefined) {
    throw mismatch(
      `Expected disjoint samples for the sum of two Fisher stores but sample ${shared} is in both`,
    );
  }
  const ids = Int32Array.from([...a.ids, ...b.ids]).sort();
  const add = (x: number, y: number): number => x + y;
  return {
    ...a,
    ids,
    terms: a.terms + b.terms,
    squares: combine(a.squares, b.squares, add),
    gradients: combineGradients(a, b, add),
  };
}

/**
 * F_{A \ B} = F_A − F_B, clamped at 0.
 *
 * @throws {@link FishermaskError} `ERR_FM_MISMATCH` when the stores were taken differently, or a sample of B (named) is not
 * in A
 */
export function subtractFishers(a: FisherStore, b: FisherStore): FisherStore {
  checkCombinable(a, b);
  const inA = new Set(a.ids);
  const foreign = b.ids.find((id) => !inA.has(id));
  if (foreign !== undefined) {
    throw mismatch(
      `Expected a subset for the difference of two Fisher stores but sample ${foreign} is not in the first`,
    );
  }
  const inB = new Set(b.ids);
  return {
    ...a,
    ids: a.ids.filter((id) => !inB.has(id)),
    terms: a.terms - b.terms,
    squares: combine(a.squares, b.squares, (x, y) => Math.max(0, x - y)),
    gradients: combineGradients(a, b, (x, y) => x - y),
  };
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** Writes a store as safetensors: one f32 tensor of sums per parameter, all else as metadata. @throws `ERR_FM_IO` */
export async function saveFisher(store: FisherStore, path: string): Promise<void> {
  const tensors: TensorSource[] = [];
  const push = (prefix: string, sums: ReadonlyMap<string, Float32Array>): void => {
    for (const [name, values] of sums) {
      const shape = store.shapes.get(name) ?? [values.length];
      tensors.push({ name: prefix + name, dtype: "F32", shape, data: bytesOf(values) });
    }
  };
  push("", store.squares);
  if (store.gradients !== null) push(GRADIENT_PREFIX, store.gradients);
  await writeSafetensors(path, tensors, {
    format: FORMAT,
    terms: String(store.terms),
    samples: String(store.ids.length),
    ids: formatIds(store.ids),
    ...Object.fromEntries(Object.entries(store.meta).map(([key, value]) => [key, String(value)])),
  });
}

class MetaReader {
  constructor(
    private readonly path: string,
    private readonly metadata: ReadonlyMap<string, string>,
  ) {}

  text(key: string): string {
    const value = this.metadata.get(key);
    if (value === undefined) throw this.bad(key, "a value", "none");
    return value;
  }

  number(key: string): number {
    const text = this.text(key);
    const value = text.trim() === "" ? Number.NaN : Number(text);
    if (!Number.isFinite(value)) throw this.bad(key, "a number", `"${text}"`);
    return value;
  }

  whole(key: string, least: number): number {
    const value = this.number(key);
    if (!(Number.isSafeInteger(value) && value >= least)) {
      throw this.bad(key, `a whole number from ${least}`, this.text(key));
    }
    return value;
  }

  positive(key: string): number {
    const value = this.number(key);
    if (!(value > 0)) throw this.bad(key, "a number above 0", this.text(key));
    return value;
  }

  /** As a store says that was written before there was a choice. */
  precision(): Precision {
    return this.metadata.has("precision") ? this.oneOf("precision", PRECISIONS) : "f32";
  }

  oneOf<T extends string>(key: string, choices: readonly T[]): T {
    const value = choices.find((choice) => choice === this.text(key));
    if (value === undefined) throw this.bad(key, choices.join(" or "), this.text(key));
    return value;
  }

  bad(key: string, expected: string, received: string): FishermaskError {
    return new FishermaskError(
      "ERR_FM_BAD_FILE",
      `Expected ${expected} for metadata "${key}" of the Fisher store ${this.path} but received ${received}`,
    );
  }
}

function badTensor(
  path: string,
  name: string,
  expected: string,
  received: string,
): FishermaskError {
  return new FishermaskError(
    "ERR_FM_BAD_FILE",
    `Expected ${expected} for tensor "${name}" of ${path} but received ${received}`,
  );
}

/** Gradient sums are of the same tensors as the sums of squares, or absent. */
function checkGradients(
  path: string,
  squares: ReadonlyMap<string, Float32Array>,
  gradients: ReadonlyMap<string, Float32Array>,
): void {
  if (gradients.size === 0) return;
  for (const name of new Set([...squares.keys(), ...gradients.keys()])) {
    const counts = [squares, gradients].map((sums) => sums.get(name)?.length ?? 0);
    if (counts[0] === counts[1]) continue;
    const expected = `gradient sums of the ${counts[0]} sums of squares`;
    throw badTensor(path, GRADIENT_PREFIX + name, expected, String(counts[1]));
  }
}

/** How many terms the sums have: samples, for `batch-mean` batches, for `per-token` tokens. */
function readTerms(meta: MetaReader, samples: number, gradient: FisherGradient): number {
  const terms = meta.whole("terms", 0);
  const perToken = meta.text("reduction") === "per-token";
  const fits = gradient === "per-sample" ? perToken || terms === samples : terms <= samples;
  if (!fits) throw meta.bad("terms", `terms of ${samples} samples`, String(terms));
  return terms;
}

/** What a store says of itself, without its sums. */
export type FisherHeader = Pick<FisherStore, "meta" | "ids" | "terms">;

/**
 * Reads what an open store says of itself.
 *
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE` naming the file and the metadata
 */
export function readFisherHeader(file: SafetensorsFile): FisherHeader {
  const { path } = file;
  const meta = new MetaReader(path, file.metadata);
  meta.oneOf("format", [FORMAT]);
  const ids = parseIds(meta.text("ids"), () =>
    meta.bad("ids", "ascending ranges of sample indices", "another text"),
  );
  if (ids.length !== meta.number("samples")) {
    throw meta.bad("samples", `${ids.length}, the number of ids`, meta.text("samples"));
  }
  const batchSize = meta.text("batchSize");
  const gradient = meta.oneOf("gradient", FISHER_GRADIENTS);
  return {
    meta: {
      labels: meta.oneOf("labels", FISHER_LABELS),
      gradient,
      temperature: meta.positive("temperature"),
      reduction: meta.oneOf("reduction", FISHER_REDUCTIONS),
      seed: meta.whole("seed", 0),
      modelDigest: meta.text("modelDigest"),
      datasetDigest: meta.text("datasetDigest"),
      batchSize: batchSize === "null" ? null : meta.whole("batchSize", 1),
      precision: meta.precision(),
    },
    ids,
    terms: readTerms(meta, ids.length, gradient),
  };
}

/**
 * Reads a store.
 *
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE` naming the file and the metadata or tensor; `ERR_FM_IO`
 */
export async function loadFisher(path: string): Promise<FisherStore> {
  await using file = await SafetensorsFile.open(path);
  new MetaReader(path, file.metadata).oneOf("format", [FORMAT]);
  const squares = new Map<string, Float32Array>();
  const gradients = new Map<string, Float32Array>();
  const shapes = new Map<string, readonly number[]>();
  for (const [name, info] of file.tensors) {
    if (info.dtype !== "F32") throw badTensor(path, name, "dtype F32", info.dtype);
    const values = await file.readFloat32(name);
    const isGradient = name.startsWith(GRADIENT_PREFIX);
    const bad = values.findIndex((v) => !Number.isFinite(v) || (!isGradient && v < 0));
    if (bad >= 0) {
      const expected = isGradient ? "finite sums of gradients" : "finite sums of squares";
      throw badTensor(path, name, expected, `${values[bad]} at element ${bad}`);
    }
    if (isGradient) {
      gradients.set(name.slice(GRADIENT_PREFIX.length), values);
    } else {
      squares.set(name, values);
      shapes.set(name, info.shape);
    }
  }
  if (squares.size === 0) throw badTensor(path, "*", "at least one sum of squares", "none");
  checkGradients(path, squares, gradients);
  return {
    ...readFisherHeader(file),
    squares,
    gradients: gradients.size === 0 ? null : gradients,
    shapes,
  };
}
