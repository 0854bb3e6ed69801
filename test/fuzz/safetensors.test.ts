import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseShardIndex, rewriteSafetensors, SafetensorsFile } from "../../src/io/safetensors.js";
import { HEADER_LENGTH_BYTES, parseHeader } from "../../src/io/safetensors-header.js";
import { FishermaskError } from "../../src/native/errors.js";
import { FUZZ_MS, type FuzzTarget, fuzz } from "./engine.js";
import { BLIND, mutateHeader } from "./mutate.js";
import { safetensorsSeeds, shardIndexSeeds } from "./seeds.js";

// Files take ten times as long as bytes in memory, and rewriting, which syncs to the disk, longer still.
const kFileEvery = 8;
const kRewriteEvery = 64;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "fishermask-fuzz-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function readAll(file: SafetensorsFile): Promise<void> {
  for (const { name } of file.tensors.values()) {
    await file.readBytes(name);
    try {
      await file.readFloat32(name);
    } catch (error) {
      // One tensor that cannot be read as floats says nothing of the next.
      if (!(error instanceof FishermaskError)) {
        throw error;
      }
    }
  }
}

async function rewriteFirst(file: SafetensorsFile): Promise<void> {
  for (const { name, dtype } of file.tensors.values()) {
    if (["F32", "F16", "BF16", "F64"].includes(dtype)) {
      const values = (await file.readFloat32(name)).fill(0.5);
      await rewriteSafetensors(file, join(folder, "out"), new Map([[name, values]]));
      return;
    }
  }
}

/** Parses the header as far as its length field, or the file, reaches. */
function readHeader(data: Uint8Array): void {
  const rest = data.subarray(HEADER_LENGTH_BYTES);
  const said =
    data.length < HEADER_LENGTH_BYTES
      ? 0
      : new DataView(data.buffer, data.byteOffset).getUint32(0, true);
  const length = Math.min(said, rest.length);
  parseHeader("m.safetensors", rest.slice(0, length), rest.length - length);
}

function safetensorsTarget(): FuzzTarget {
  const path = join(folder, "m.safetensors");
  return {
    name: "safetensors",
    seeds: safetensorsSeeds(),
    mutators: [...BLIND, mutateHeader, mutateHeader, mutateHeader, mutateHeader],
    async execute(data, index) {
      if (index % kFileEvery !== 0) {
        readHeader(data);
        return;
      }
      writeFileSync(path, data);
      await using file = await SafetensorsFile.open(path);
      await readAll(file);
      if (index % kRewriteEvery === 0) {
        await rewriteFirst(file);
      }
    },
  };
}

describe("mutated safetensors files", () => {
  it(
    "are read or refused",
    async () => {
      const { executions, failures } = await fuzz(safetensorsTarget());
      expect(failures).toEqual([]);
      expect(executions).toBeGreaterThan(0);
    },
    3 * FUZZ_MS,
  );

  it(
    "are read or refused, the index of shards",
    async () => {
      const decoder = new TextDecoder();
      const execute = (data: Uint8Array) => void parseShardIndex("i.json", decoder.decode(data));
      const seeds = shardIndexSeeds();
      const { executions, failures } = await fuzz({
        name: "safetensors-index",
        seeds,
        mutators: BLIND,
        execute,
      });
      expect(failures).toEqual([]);
      expect(executions).toBeGreaterThan(0);
    },
    3 * FUZZ_MS,
  );

  it("are refused when cut at any byte", async () => {
    const { execute, seeds } = safetensorsTarget();
    for (const seed of seeds) {
      for (let size = 0; size < seed.length; size += 1) {
        const call = (async () => execute(seed.slice(0, size), 8))();
        await expect(call).rejects.toBeInstanceOf(FishermaskError);
      }
    }
  });
});
