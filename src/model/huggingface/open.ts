import { stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { sha256File } from "../../io/digest.js";
import { attempt } from "../../io/file-error.js";
import { rewriteSafetensors, SafetensorsFile, ShardedSafetensors } from "../../io/safetensors.js";
import type { Model } from "../model.js";
import { buildBert } from "./bert.js";
import { ConfigReader } from "./config-reader.js";
import { CONFIG_FILE, folderDigest, openFolder, writeFolder } from "./folder.js";
import { buildGpt2 } from "./gpt2.js";
import { buildLlama } from "./llama.js";
import { buildLlama2c } from "./llama2c.js";
import type { HuggingFaceBuildOptions, HuggingFaceNetwork } from "./network.js";
import { checkTensors, readStoredWeights, toStoredTensors } from "./stored-weights.js";

export { isLlama2c } from "./llama2c.js";

export interface HuggingFaceOptions {
  /** Tokens a sample, from 1 to the model's context; left out, the whole context. */
  readonly sequenceLength?: number | undefined;
}

interface Family {
  readonly build: (reader: ConfigReader, options: HuggingFaceBuildOptions) => HuggingFaceNetwork;
  /** The classes whose graph `build` makes. */
  readonly architectures: readonly string[];
}

const kFamilies: Readonly<Record<string, Family>> = {
  gpt2: { build: buildGpt2, architectures: ["GPT2LMHeadModel", "GPT2Model"] },
  llama: { build: buildLlama, architectures: ["LlamaForCausalLM", "LlamaModel"] },
  mistral: { build: buildLlama, architectures: ["MistralForCausalLM", "MistralModel"] },
  bert: { build: buildBert, architectures: ["BertForSequenceClassification"] },
};

function familyOf(config: ConfigReader): Family {
  // Read through `text` first: a file without it is broken, one of another type merely not supported.
  config.text("model_type");
  const family = config.choice("model_type", kFamilies, "");
  const value = config.value("architectures");
  const names = Array.isArray(value) ? value : [];
  if (value !== undefined && !names.every((name) => typeof name === "string")) {
    throw config.bad("architectures", "a list of names", JSON.stringify(value));
  }
  const other = names.find((name) => !family.architectures.includes(name as string));
  if (other === undefined) return family;
  throw config.unsupported("architectures", family.architectures.join(" or "), `${other}`);
}

function modelOf(
  network: HuggingFaceNetwork,
  rest: Pick<Model, "weights" | "file" | "sha256"> & { writeBack: NonNullable<Model["writeBack"]> },
): Model {
  const { arch, graph, features } = network;
  return { arch, graph, features, ...rest };
}

async function openFromFolder(folder: string, options: HuggingFaceOptions): Promise<Model> {
  const config = await ConfigReader.open(join(folder, CONFIG_FILE));
  const family = familyOf(config);
  const opened = await openFolder(folder);
  await using weights = opened.weights;
  const files = weights.tensors;
  const { sequenceLength } = options;
  const network = family.build(config, { sequenceLength, tensors: new Set(files.keys()) });
  checkTensors(network, files, folder);
  return modelOf(network, {
    weights: await readStoredWeights(network, files),
    file: folder,
    sha256: await folderDigest(folder, opened.files),
    writeBack: (changed, destination) =>
      writeFolder(folder, destination, toStoredTensors(network, changed)),
  });
}

async function openLlama2c(path: string, options: HuggingFaceOptions): Promise<Model> {
  await using weights = await ShardedSafetensors.openSingle(dirname(path), basename(path));
  const files = weights.tensors;
  const [file] = weights.shards.values();
  const { sequenceLength } = options;
  const build = { sequenceLength, tensors: new Set(files.keys()) };
  const network = buildLlama2c(path, file?.metadata ?? new Map(), build);
  checkTensors(network, files, path);
  return modelOf(network, {
    weights: await readStoredWeights(network, files),
    file: path,
    sha256: await sha256File(path),
    writeBack: async (changed, destination) => {
      await using source = await SafetensorsFile.open(path);
      await rewriteSafetensors(source, destination, toStoredTensors(network, changed));
    },
  });
}

/**
 * Reads a Hugging Face folder (`config.json` beside `model.safetensors` or shards with an index; GPT-2, Llama, Mistral, BERT
 * as a sequence classifier), or a llama2.c model in one safetensors file with its configuration in `__metadata__`.
 *
 * The graph takes i32 ids (T), −1 is padding (at the end, for the causal ones), and gives logits (T, vocabulary), or
 * (classes) of BERT. Whatever in the configuration changes the computation is honoured or refused. Weights of f16 and bf16
 * are widened; written back, those that did not change keep their bytes and the others are rounded to nearest even.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO`; `ERR_FM_BAD_FILE` naming file and key or tensor; `ERR_FM_UNSUPPORTED` naming
 * the key; `ERR_FM_MISMATCH` naming the tensors; `ERR_FM_NON_FINITE`; `ERR_FM_ARGUMENT` for the sequence length
 */
export async function openHuggingFaceModel(
  path: string,
  options: HuggingFaceOptions = {},
): Promise<Model> {
  const folder = (await attempt("open", path, stat(path))).isDirectory();
  return folder ? openFromFolder(path, options) : openLlama2c(path, options);
}
