import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { fillFileAtomic } from "../io/atomic-write.js";
import { attempt } from "../io/file-error.js";
import { isFolder } from "../io/read.js";
import { SafetensorsFile } from "../io/safetensors.js";
import { getArchitecture } from "../model/architectures.js";
import { type CandidateTensor, candidateTensors } from "../model/candidates.js";
import type { Graph } from "../model/graph.js";
import { writeFolderWith } from "../model/huggingface/folder.js";
import type { HuggingFaceNetwork } from "../model/huggingface/network.js";
import { describeHuggingFaceModel, isLlama2c } from "../model/huggingface/open.js";
import { matchStateDict } from "../model/state-dict.js";
import type { NativeRange, NativeTopKOnDisk } from "../native/addon.js";
import { FishermaskError } from "../native/errors.js";
import { type KeepMask, maskTopKOnDisk, unitCount, type WorkOptions } from "../native/masking.js";
import { criteria } from "./criteria.gen.js";
import { compile, type ScoreNeeds, type ScoreProgram } from "./expression.js";
import {
  type FisherHeader,
  type FisherStore,
  GRADIENT_PREFIX,
  readFisherHeader,
  subtractFishers,
} from "./fisher-store.js";
import { checkComparable, checkRule, type MaskRule, type MaskSet } from "./mask.js";

const kCopyBytes = 4 * 1024 * 1024;
const kStreamed: ReadonlySet<string> = new Set(["F32", "BF16", "F16"]);

export interface MaskOnDiskOptions extends WorkOptions {
  /** A state dict (`.safetensors`), a Hugging Face folder (one file or shards) or a llama2.c model. */
  readonly model: string;
  /** Of a state dict whose metadata do not say it. */
  readonly arch?: string | undefined;
  /** Of a state dict: (H, W, C). */
  readonly inputShape?: readonly number[] | undefined;
  /** Of a state dict. */
  readonly classes?: number | undefined;
  /** Paths of the stored Fishers; what the criterion does not read may be left out. */
  readonly fisherForget?: string | undefined;
  readonly fisherRemain?: string | undefined;
  /** Of all data; the forget set's is subtracted on the way. Not together with `fisherRemain`. */
  readonly fisherAll?: string | undefined;
  /** Where the masked model goes; of a folder a new one. Replaced only once it is complete. */
  readonly destination: string;
  readonly rule: MaskRule;
  /** 0..1, of each ranking's units. */
  readonly ratio: number;
  /** What the Fishers must be of, where it is known. */
  readonly datasetDigest?: string | undefined;
}

export interface MaskOnDiskResult {
  readonly masks: MaskSet;
  /** Units masked, and of all candidates. */
  readonly units: number;
  readonly total: number;
  /** What the Fishers say they were taken of; empty where the criterion reads none. */
  readonly modelDigest: string;
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  /** Of the masking itself, without the copy of what stays. */
  readonly seconds: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Over the inputs, the most of any ranking: 1 where the samples served. */
  readonly passes: number;
}

function mismatch(message: string): FishermaskError {
  return new FishermaskError("ERR_FM_MISMATCH", message);
}

function unsupported(message: string): FishermaskError {
  return new FishermaskError("ERR_FM_UNSUPPORTED", message);
}

/** A network described, and how to write its files anew. */
interface Source {
  readonly graph: Graph;
  readonly stored: HuggingFaceNetwork["stored"];
  /** Calls `write` with the source's files by name and a way to make each anew. */
  readonly rewrite: (
    write: (
      files: ReadonlyMap<string, SafetensorsFile>,
      outputOf: (name: string) => string,
    ) => Promise<void>,
  ) => Promise<void>;
}

function graphOf(options: MaskOnDiskOptions, file: SafetensorsFile): Graph {
  const { model, inputShape, classes } = options;
  const arch = options.arch ?? file.metadata.get("fishermask.arch");
  const missing = (what: string): FishermaskError =>
    new FishermaskError("ERR_FM_ARGUMENT", `Expected ${what} for ${model}, which does not say it`);
  if (arch === undefined) throw missing("an architecture (--arch NAME)");
  if (inputShape === undefined) throw missing("the input's shape");
  if (classes === undefined) throw missing("the number of classes");
  const graph = getArchitecture(arch).build({ inputShape: [...inputShape], classes });
  matchStateDict(graph, file.tensors, model);
  return graph;
}

/** The bytes of a file that are not in any of the ranges, copied to the same places of another. */
async function copyAround(
  source: SafetensorsFile,
  ranges: readonly { readonly begin: number; readonly end: number }[],
  write: (bytes: Uint8Array, position: number) => Promise<void>,
): Promise<void> {
  let position = 0;
  const buffer = new Uint8Array(kCopyBytes);
  const holes = ranges.toSorted((a, b) => a.begin - b.begin);
  for (const { begin, end } of [...holes, { begin: source.size, end: source.size }]) {
    for (; position < begin; position += kCopyBytes) {
      const part = buffer.subarray(0, Math.min(kCopyBytes, begin - position));
      await source.readAt(position, part);
      await write(part, position);
    }
    position = end;
  }
}

async function describe(options: MaskOnDiskOptions): Promise<Source> {
  const { model, destination } = options;
  if (await isFolder(model)) {
    const { graph, stored } = await describeHuggingFaceModel(model);
    const rewrite: Source["rewrite"] = (write) =>
      writeFolderWith(model, destination, ({ shards }, target) =>
        write(shards, (name) => join(target, name)),
      );
    return { graph, stored, rewrite };
  }
  if (/\.onnx$/i.test(model)) {
    throw unsupported(
      `Expected safetensors for a model that is masked on disk but received ${model}`,
    );
  }
  await using file = await SafetensorsFile.open(model);
  const described =
    options.arch === undefined && isLlama2c(file.metadata)
      ? await describeHuggingFaceModel(model)
      : { graph: graphOf(options, file), stored: new Map() };
  const rewrite: Source["rewrite"] = async (write) => {
    await using source = await SafetensorsFile.open(model);
    await write(new Map([["", source]]), () => destination);
  };
  return { graph: described.graph, stored: described.stored, rewrite };
}

/** The stores that were given, open, and what they say. */
class Fishers implements AsyncDisposable {
  private constructor(
    private readonly files: readonly SafetensorsFile[],
    readonly forget: SafetensorsFile | null,
    /** The remain set's, or all data's. */
    readonly remain: SafetensorsFile | null,
    readonly forgetHeader: FisherStore | null,
    readonly remainHeader: FisherStore | null,
    /** `remain` is all data's: the forget set's is subtracted. */
    readonly subtracts: boolean,
  ) {}

  static async open(options: MaskOnDiskOptions): Promise<Fishers> {
    const { fisherForget, fisherRemain, fisherAll } = options;
    if (fisherAll !== undefined && (fisherForget === undefined || fisherRemain !== undefined)) {
      throw new FishermaskError(
        "ERR_FM_ARGUMENT",
        "Expected fisherAll together with fisherForget, without fisherRemain",
      );
    }
    const files: SafetensorsFile[] = [];
    const open = async (path: string | undefined): Promise<SafetensorsFile | null> => {
      if (path === undefined) return null;
      const file = await SafetensorsFile.open(path);
      files.push(file);
      return file;
    };
    try {
      const forget = await open(fisherForget);
      const remain = await open(fisherAll ?? fisherRemain);
      const forgetHeader = forget === null ? null : asStore(readFisherHeader(forget));
      const given = remain === null ? null : asStore(readFisherHeader(remain));
      const remainHeader =
        fisherAll !== undefined && forgetHeader !== null && given !== null
          ? subtractFishers(given, forgetHeader)
          : given;
      const subtracts = fisherAll !== undefined;
      return new Fishers(files, forget, remain, forgetHeader, remainHeader, subtracts);
    } catch (error) {
      await Promise.all(files.map((file) => file.close()));
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.files.map((file) => file.close()));
  }
}

/** So that the checks of stores serve headers too. */
function asStore(header: FisherHeader): FisherStore {
  return { ...header, squares: new Map(), gradients: null, shapes: new Map() };
}

/** Numbers the files that the engine opens. */
class FileList {
  readonly paths: string[] = [];

  range(path: string, offset: number): NativeRange {
    const known = this.paths.indexOf(path);
    const file = known >= 0 ? known : this.paths.push(path) - 1;
    return { file, offset };
  }
}

/** Where the sums of a candidate lie. */
function sumsRange(
  inputs: FileList,
  store: SafetensorsFile,
  tensor: string,
  { name, shape }: CandidateTensor,
): NativeRange {
  const info = store.tensors.get(tensor);
  if (info === undefined) {
    throw mismatch(`Expected tensor "${name}" in the Fisher store ${store.path} but it is missing`);
  }
  if (info.dtype !== "F32") {
    throw new FishermaskError(
      "ERR_FM_BAD_FILE",
      `Expected dtype F32 for tensor "${tensor}" of ${store.path} but received ${info.dtype}`,
    );
  }
  const count = shape.reduce((product, size) => product * size, 1);
  const received = (info.end - info.begin) / 4;
  if (received !== count) {
    throw mismatch(
      `Expected ${count} sums for tensor "${tensor}" in the Fisher store ${store.path} but received ${received}`,
    );
  }
  return inputs.range(store.path, store.dataStart + info.begin);
}

/** A tensor of one of the files. */
interface Place {
  readonly file: SafetensorsFile;
  readonly tensor: string;
}

function rangeOf({ file, tensor }: Place): { begin: number; end: number } {
  const { begin, end } = file.info(tensor);
  return { begin: file.dataStart + begin, end: file.dataStart + end };
}

/** A candidate's one tensor in the files: as the graph has it, of a type that can be streamed. */
function placeOf(
  { name }: CandidateTensor,
  source: Source,
  files: ReadonlyMap<string, SafetensorsFile>,
): Place {
  const stored = source.stored.get(name);
  if (stored !== undefined && (stored.transposed || stored.tensors.length > 1)) {
    const how = stored.transposed ? "stored transposed" : "stored more than once";
    throw unsupported(
      `Expected tensors in the graph's own layout for masking on disk but "${name}" is ${how}: mask it without --stream`,
    );
  }
  const tensor = stored?.tensors[0] ?? name;
  for (const file of files.values()) {
    const info = file.tensors.get(tensor);
    if (info === undefined) continue;
    if (kStreamed.has(info.dtype)) return { file, tensor };
    throw unsupported(
      `Expected F32, BF16 or F16 for tensor "${tensor}" of ${file.path} for masking on disk but received ${info.dtype}`,
    );
  }
  throw mismatch(`Expected tensor "${tensor}" in the network but it is missing`);
}

function checkFishers(
  fishers: Fishers,
  { forgetFisher, forgetGradient, remainFisher }: ScoreNeeds,
  options: MaskOnDiskOptions,
): void {
  const { forgetHeader: forget, remainHeader: remain } = fishers;
  const missing = (what: string): FishermaskError =>
    new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected ${what} for criterion "${options.rule.criterion}" but received none`,
    );
  if ((forgetFisher || forgetGradient) && forget === null) {
    throw missing("the Fisher of the forget set");
  }
  if (remainFisher && remain === null) throw missing("the Fisher of the remain set");
  const gradients = [...(fishers.forget?.tensors.keys() ?? [])].some((name) =>
    name.startsWith(GRADIENT_PREFIX),
  );
  if (forgetGradient && !gradients) throw missing("the summed gradients of the forget set");
  if (forget !== null && remain !== null && remainFisher && (forgetFisher || forgetGradient)) {
    checkComparable(forget, remain);
  }
  if (options.datasetDigest === undefined) return;
  for (const [name, store] of Object.entries({ forget, remain })) {
    if (store === null || store.meta.datasetDigest === options.datasetDigest) continue;
    throw mismatch(`Expected the ${name} Fisher of these data but received one of others`);
  }
}

type Job = Pick<NativeTopKOnDisk, "inputs" | "outputs" | "tensors">;

/** Every candidate with the places of all that is read and written of it. */
function planTensors(
  candidates: readonly CandidateTensor[],
  places: readonly Place[],
  files: readonly SafetensorsFile[],
  fishers: Fishers,
  inputs: FileList,
  { needs }: ScoreProgram,
): Job["tensors"] {
  const { forget, remain, subtracts } = fishers;
  const layers = [...new Set(candidates.map(({ layer }) => layer))];
  return candidates.map((candidate, i) => {
    const { file, tensor } = places[i] as Place;
    const info = file.info(tensor);
    const offset = file.dataStart + info.begin;
    const sums = (
      store: SafetensorsFile | null,
      needed: boolean,
      prefix = "",
    ): NativeRange | null =>
      needed && store !== null
        ? sumsRange(inputs, store, prefix + candidate.name, candidate)
        : null;
    const forgetRange = sums(forget, needs.forgetFisher || (subtracts && needs.remainFisher));
    const remainRange = sums(remain, needs.remainFisher);
    const gradientRange = sums(forget, needs.forgetGradient, GRADIENT_PREFIX);
    return {
      name: candidate.name,
      shape: candidate.shape,
      dtype: info.dtype,
      weight: inputs.range(file.path, offset),
      output: { file: files.indexOf(file), offset },
      group: layers.indexOf(candidate.layer),
      ...(forgetRange === null ? {} : { forget: forgetRange }),
      ...(remainRange === null ? {} : { remain: remainRange }),
      ...(gradientRange === null ? {} : { gradient: gradientRange }),
    };
  });
}

async function runJob(
  job: Job,
  candidates: readonly CandidateTensor[],
  fishers: Fishers,
  { ops, values }: ScoreProgram,
  options: MaskOnDiskOptions,
): Promise<MaskOnDiskResult> {
  const { unit, scope, seed, threads } = options.rule;
  const { forgetHeader: forget, remainHeader: remain } = fishers;
  const start = performance.now();
  const done = await maskTopKOnDisk(
    {
      ...job,
      ...{ ops, values, unit, scope, threads },
      ratio: options.ratio,
      seed: seed ?? 0,
      forgetCount: forget?.terms ?? 1,
      remainCount: remain?.terms ?? 1,
      remainIncludesForget: fishers.subtracts,
    },
    options,
  );
  return {
    masks: new Map(
      candidates.map(({ name, shape }, i): [string, KeepMask] => [
        name,
        { ...unitCount(shape, unit), bits: done.masks[i] as Uint8Array },
      ]),
    ),
    units: done.totalMasked,
    total: done.totalUnits,
    modelDigest: (forget ?? remain)?.meta.modelDigest ?? "",
    shapes: new Map(candidates.map(({ name, shape }) => [name, shape])),
    seconds: (performance.now() - start) / 1000,
    bytesRead: done.bytesRead,
    bytesWritten: done.bytesWritten,
    passes: Math.max(0, ...done.rankings.map(({ passes }) => passes)),
  };
}

async function writeAt(
  handle: FileHandle,
  path: string,
  bytes: Uint8Array,
  position: number,
): Promise<void> {
  for (let offset = 0; offset < bytes.byteLength; ) {
    const length = bytes.byteLength - offset;
    const call = handle.write(bytes, offset, length, position + offset);
    offset += (await attempt("write", path, call)).bytesWritten;
  }
}

/** Fills one new file per shard: all bytes but the candidates' are copied, then `mask` writes theirs. */
async function fillShards(
  shards: readonly { readonly file: SafetensorsFile; readonly path: string }[],
  places: readonly Place[],
  mask: (paths: readonly string[]) => Promise<void>,
  temporaries: readonly string[] = [],
): Promise<void> {
  const [shard, ...others] = shards;
  if (shard === undefined) return mask(temporaries);
  const { file, path } = shard;
  await fillFileAtomic(path, async (handle, temporary) => {
    await attempt("write", path, handle.truncate(file.size));
    const ranges = places.filter((place) => place.file === file).map(rangeOf);
    await copyAround(file, ranges, (bytes, position) => writeAt(handle, path, bytes, position));
    // The last one masks, while all the others' temporary files are open.
    await fillShards(others, places, mask, [...temporaries, temporary]);
  });
}

/**
 * Masks a model that need not fit into memory: weights and stored Fishers stay on disk, are read once and written once, in
 * the form that the model came in; everything but the masked weights keeps its bytes. The masks are those of `scoreNetwork`
 * and `selectMask`. Memory: a few MiB per thread, 1 bit per unit and 8 bytes for each unit that the sample leaves open.
 *
 * The weights' digest is not computed: the Fishers must agree with each other, and with the model in names and shapes.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for a bad rule or a missing Fisher; `ERR_FM_MISMATCH` when stores and model
 * do not go together; `ERR_FM_UNSUPPORTED` for a model that cannot be streamed (ONNX, F64, transposed or doubled tensors);
 * `ERR_FM_NON_FINITE` naming tensors with NaN scores; `ERR_FM_BAD_FILE`, `ERR_FM_IO`; `ERR_FM_ABORTED`. The destination is
 * untouched then.
 *
 * @example
 * await maskOnDisk({
 *   model: "llama", fisherForget: "forget.safetensors", fisherRemain: "remain.safetensors", destination: "llama-masked",
 *   rule: { criterion: "ratio", unit: "weight", scope: "global", threads: 2 }, ratio: 0.001,
 * });
 */
export async function maskOnDisk(options: MaskOnDiskOptions): Promise<MaskOnDiskResult> {
  const { rule } = options;
  checkRule(rule);
  const program = compile(criteria[rule.criterion].score(rule.criterionOptions));
  const source = await describe(options);
  const candidates = candidateTensors(source.graph, rule);
  await using fishers = await Fishers.open(options);
  checkFishers(fishers, program.needs, options);
  let result: MaskOnDiskResult | undefined;
  await source.rewrite(async (files, outputOf) => {
    const places = candidates.map((candidate) => placeOf(candidate, source, files));
    const inputs = new FileList();
    const tensors = planTensors(candidates, places, [...files.values()], fishers, inputs, program);
    const shards = [...files].map(([name, file]) => ({ file, path: outputOf(name) }));
    await fillShards(shards, places, async (outputs) => {
      const job = { inputs: inputs.paths, outputs, tensors };
      result = await runJob(job, candidates, fishers, program, options);
    });
  });
  return result as MaskOnDiskResult;
}
