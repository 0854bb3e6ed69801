import { basename, dirname, join } from "node:path";
import { sha256File } from "../../io/digest.js";
import { isFolder } from "../../io/read.js";
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

/** A model's files, open, and the network that its configuration describes. */
interface Opened {
  readonly network: HuggingFaceNetwork;
  readonly weights: ShardedSafetensors;
  readonly digest: () => Promise<string>;
  readonly writeBack: NonNullable<Model["writeBack"]>;
}

async function openFolderModel(folder: string, options: HuggingFaceOptions): Promise<Opened> {
  const config = await ConfigReader.open(join(folder, CONFIG_FILE));
  const family = familyOf(config);
  const { weights, files } = await openFolder(folder);
  return closingOnFailure(weights, () => {
    const { sequenceLength } = options;
    const tensors = new Set(weights.tensors.keys());
    const network = family.build(config, { sequenceLength, tensors });
    return {
      network,
      weights,
      digest: () => folderDigest(folder, files),
      writeBack: (changed, destination) =>
        writeFolder(folder, destination, toStoredTensors(network, changed)),
    };
  });
}

async function openLlama2c(path: string, options: HuggingFaceOptions): Promise<Opened> {
  const weights = await ShardedSafetensors.openSingle(dirname(path), basename(path));
  return closingOnFailure(weights, () => {
    const [file] = weights.shards.values();
    const network = buildLlama2c(path, file?.metadata ?? new Map(), options.sequenceLength);
    return {
      network,
      weights,
      digest: () => sha256File(path),
      writeBack: async (changed, destination) => {
        await using source = await SafetensorsFile.open(path);
        await rewriteSafetensors(source, destination, toStoredTensors(network, changed));
      },
    };
  });
}

async function closingOnFailure<T>(weights: ShardedSafetensors, make: () => T): Promise<T> {
  try {
    return make();
  } catch (error) {
    await weights.close();
    throw error;
  }
}

async function openFiles(path: string, options: HuggingFaceOptions): Promise<Opened> {
  const folder = await isFolder(path);
  const opened = await (folder ? openFolderModel(path, options) : openLlama2c(path, options));
  return closingOnFailure(opened.weights, () => {
    checkTensors(opened.network, opened.weights.tensors, path);
    return opened;
  });
}

/**
 * The network that a model's configuration describes, its tensors checked but not read. Errors as
 * {@link openHuggingFaceModel}.
 */
export async function describeHuggingFaceModel(
  path: string,
  options: HuggingFaceOptions = {},
): Promise<HuggingFaceNetwork> {
  const { network, weights } = await openFiles(path, options);
  await weights.close();
  return network;
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
  const { network, weights: files, digest, writeBack } = await openFiles(path, options);
  await using weights = files;
  const { arch, graph, features } = network;
  return {
    arch,
    graph,
    features,
    weights: await readStoredWeights(network, weights.tensors),
    file: path,
    sha256: await digest(),
    writeBack,
  };
}
