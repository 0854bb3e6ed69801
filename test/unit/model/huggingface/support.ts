import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { StrictJson } from "../../../../src/io/strict-json.js";
import { parseStrictJson } from "../../../../src/io/strict-json.js";
import { ConfigReader } from "../../../../src/model/huggingface/config-reader.js";

export type Config = Readonly<Record<string, unknown>>;

export function reader(config: Config): ConfigReader {
  const entries = parseStrictJson(JSON.stringify(config), 8) as ReadonlyMap<string, StrictJson>;
  return new ConfigReader("config.json", entries);
}

export const kGpt2: Config = {
  model_type: "gpt2",
  vocab_size: 7,
  n_embd: 4,
  n_layer: 1,
  n_head: 2,
  n_positions: 6,
};

export const kLlama: Config = {
  model_type: "llama",
  vocab_size: 7,
  hidden_size: 8,
  intermediate_size: 6,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  max_position_embeddings: 16,
};

export const kBert: Config = {
  model_type: "bert",
  vocab_size: 7,
  hidden_size: 4,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 6,
  max_position_embeddings: 6,
};

export interface PlainTensor {
  readonly shape: readonly number[];
  readonly dtype?: string;
  readonly bytes: Uint8Array;
}

export function f32(values: readonly number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}

/** A safetensors file, put together plainly. */
export function writeTensors(path: string, tensors: Readonly<Record<string, PlainTensor>>): void {
  let end = 0;
  const header = Object.fromEntries(
    Object.entries(tensors).map(([name, { shape, dtype = "F32", bytes }]) => {
      const begin = end;
      end += bytes.length;
      return [name, { dtype, shape, data_offsets: [begin, end] }];
    }),
  );
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const data = Object.values(tensors).map(({ bytes }) => bytes);
  writeFileSync(path, Buffer.concat([length, json, ...data]));
}

/** A folder of JSON files. */
export function writeFolder(folder: string, files: Readonly<Record<string, unknown>>): string {
  mkdirSync(folder, { recursive: true });
  for (const [name, value] of Object.entries(files)) {
    writeFileSync(join(folder, name), JSON.stringify(value));
  }
  return folder;
}
