import { join } from "node:path";
import { badFile } from "./file-error.js";
import { readTextFile } from "./read.js";
import { SafetensorsFile } from "./safetensors-file.js";
import { parseStrictJson, type StrictJson, StrictJsonError } from "./strict-json.js";

// The index of a model of 100,000 tensors takes some 10 MB.
const kMaxIndexBytes = 100_000_000;
const kMaxNesting = 4;
// The largest published models have some hundreds; each is an open file.
const kMaxShards = 4096;
// A plain name: no folder, no way out of one, nothing hidden.
const kShardName = /^[^./\\:\0][^/\\:\0]*\.safetensors$/u;

/** What an index says: which tensor lies in which shard. */
export interface ShardIndex {
  /** Tensor → file name, in the index's order. */
  readonly shardOf: ReadonlyMap<string, string>;
  /** Bytes of all tensors together; undefined where the index does not say. */
  readonly totalSize: number | undefined;
}

function show(value: StrictJson | undefined): string {
  if (value === undefined) return "nothing";
  const text = value instanceof Map ? "an object" : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

function asMap(
  path: string,
  key: string,
  value: StrictJson | undefined,
): ReadonlyMap<string, StrictJson> {
  if (value instanceof Map) return value;
  throw badFile(path, key, "an object", show(value));
}

function parseRoot(path: string, text: string): ReadonlyMap<string, StrictJson> {
  try {
    return asMap(path, "the index", parseStrictJson(text, kMaxNesting));
  } catch (cause) {
    if (!(cause instanceof StrictJsonError)) throw cause;
    throw badFile(path, "the index", "JSON", cause.message, cause);
  }
}

function totalSizeOf(path: string, root: ReadonlyMap<string, StrictJson>): number | undefined {
  const metadata = root.get("metadata");
  if (metadata === undefined || metadata === null) return undefined;
  const total = asMap(path, "metadata", metadata).get("total_size");
  if (total === undefined) return undefined;
  if (typeof total === "number" && Number.isSafeInteger(total) && total >= 0) return total;
  throw badFile(path, "metadata.total_size", "a whole number of bytes", show(total));
}

/**
 * Parses the text of a `model.safetensors.index.json`. A shard's name may only be that of a file beside the index.
 *
 * @param path named in errors only
 * @throws {@link FishermaskError} `ERR_FM_BAD_FILE` naming the file and the key or tensor
 */
export function parseShardIndex(path: string, text: string): ShardIndex {
  const root = parseRoot(path, text);
  const shardOf = new Map<string, string>();
  for (const [tensor, shard] of asMap(path, "weight_map", root.get("weight_map"))) {
    if (typeof shard !== "string" || !kShardName.test(shard)) {
      const what = "the name of a .safetensors file beside it";
      throw badFile(path, `weight_map of tensor ${show(tensor)}`, what, show(shard));
    }
    shardOf.set(tensor, shard);
  }
  if (shardOf.size === 0) throw badFile(path, "weight_map", "at least one tensor", "none");
  const shards = new Set(shardOf.values()).size;
  if (shards > kMaxShards) {
    throw badFile(path, "weight_map", `at most ${kMaxShards} shards`, `${shards}`);
  }
  return { shardOf, totalSize: totalSizeOf(path, root) };
}

function checkShards(
  path: string,
  { shardOf, totalSize }: ShardIndex,
  shards: ReadonlyMap<string, SafetensorsFile>,
): void {
  let bytes = 0;
  for (const [shard, file] of shards) {
    for (const { name, begin, end } of file.tensors.values()) {
      // A tensor that the index gives to another shard would be there twice, and one of the two ignored.
      if (shardOf.get(name) !== shard) {
        const received = shardOf.has(name) ? show(shardOf.get(name) as string) : "nothing";
        throw badFile(path, `weight_map of tensor ${show(name)}`, `"${shard}"`, received);
      }
      bytes += end - begin;
    }
  }
  for (const [tensor, shard] of shardOf) {
    if (shards.get(shard)?.tensors.has(tensor) !== true) {
      throw badFile(path, `tensor ${show(tensor)}`, `the tensor in ${shard}`, "none");
    }
  }
  if (totalSize !== undefined && totalSize !== bytes) {
    throw badFile(path, "metadata.total_size", `${bytes}, what the shards hold,`, `${totalSize}`);
  }
}

async function closeAll(files: Iterable<SafetensorsFile>): Promise<void> {
  await Promise.all(Array.from(files, (file) => file.close()));
}

/**
 * Tensors that lie in one safetensors file or in several with an index, open for reading. Every header is checked before
 * any tensor is read. Close it, or use `await using`.
 *
 * Source: the index of huggingface/transformers' `save_pretrained`.
 */
export class ShardedSafetensors {
  private constructor(
    /** The files by name, in the index's order. */
    readonly shards: ReadonlyMap<string, SafetensorsFile>,
  ) {}

  /**
   * A folder's one file, by name.
   *
   * @throws {@link FishermaskError} `ERR_FM_IO`, `ERR_FM_BAD_FILE`
   */
  static async openSingle(folder: string, name: string): Promise<ShardedSafetensors> {
    return new ShardedSafetensors(
      new Map([[name, await SafetensorsFile.open(join(folder, name))]]),
    );
  }

  /**
   * The shards that an index in the folder names: all there, each tensor in exactly the shard that the index says, in all
   * as many bytes as it says.
   *
   * @throws {@link FishermaskError} `ERR_FM_IO`, `ERR_FM_BAD_FILE` naming the file and the tensor or key
   */
  static async openIndex(folder: string, indexName: string): Promise<ShardedSafetensors> {
    const path = join(folder, indexName);
    const index = parseShardIndex(path, await readTextFile(path, kMaxIndexBytes));
    const shards = new Map<string, SafetensorsFile>();
    try {
      for (const name of new Set(index.shardOf.values())) {
        shards.set(name, await SafetensorsFile.open(join(folder, name)));
      }
      checkShards(path, index, shards);
    } catch (error) {
      await closeAll(shards.values());
      throw error;
    }
    return new ShardedSafetensors(shards);
  }

  /** Tensor → the file that holds it. */
  get tensors(): ReadonlyMap<string, SafetensorsFile> {
    const all = new Map<string, SafetensorsFile>();
    for (const file of this.shards.values()) {
      for (const name of file.tensors.keys()) all.set(name, file);
    }
    return all;
  }

  /** Closes every file. */
  async close(): Promise<void> {
    await closeAll(this.shards.values());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
