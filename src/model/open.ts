import { isFolder } from "../io/read.js";
import { SafetensorsFile } from "../io/safetensors.js";
import { FishermaskError } from "../native/errors.js";
import { isLlama2c, openHuggingFaceModel } from "./huggingface/open.js";
import { type Model, type ModelShape, openModel } from "./model.js";
import { openOnnxModel } from "./onnx/open.js";

/** What a file does not say of its network. */
export interface OpenModelOptions {
  /** The architecture of a state dict; left out, what the file's metadata says. */
  readonly arch?: string | undefined;
  /** Per sample, of a state dict: (H, W, C) of an image. */
  readonly inputShape?: readonly number[] | undefined;
  /** Of a state dict. */
  readonly classes?: number | undefined;
  /** Tokens a sample, of a language model; left out, its whole context. */
  readonly sequenceLength?: number | undefined;
}

async function metadataOf(file: string): Promise<ReadonlyMap<string, string>> {
  await using source = await SafetensorsFile.open(file);
  return source.metadata;
}

function shapeOf(path: string, arch: string | undefined, options: OpenModelOptions): ModelShape {
  const { inputShape, classes } = options;
  const missing = (what: string): FishermaskError =>
    new FishermaskError("ERR_FM_ARGUMENT", `Expected ${what} for ${path}, which does not say it`);
  if (arch === undefined) throw missing("an architecture (--arch NAME)");
  if (inputShape === undefined) throw missing("the input's shape");
  if (classes === undefined) throw missing("the number of classes");
  return { arch, inputShape, classes };
}

/**
 * Reads a network of any supported form: `.onnx`, a Hugging Face folder (`config.json` beside its weights), a llama2.c model or
 * a state dict in safetensors form.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO`, `ERR_FM_BAD_FILE`, `ERR_FM_MISMATCH`, `ERR_FM_NON_FINITE`; `ERR_FM_UNSUPPORTED`
 * naming what the engine cannot do; `ERR_FM_ARGUMENT` naming what the file does not say
 */
export async function openAnyModel(path: string, options: OpenModelOptions = {}): Promise<Model> {
  const { sequenceLength } = options;
  if (await isFolder(path)) return openHuggingFaceModel(path, { sequenceLength });
  if (/\.onnx$/i.test(path))
    return openOnnxModel(path, { sequenceLength, inputShape: options.inputShape });
  const metadata = await metadataOf(path);
  if (options.arch === undefined && isLlama2c(metadata)) {
    return openHuggingFaceModel(path, { sequenceLength });
  }
  const arch = options.arch ?? metadata.get("fishermask.arch");
  return openModel(path, shapeOf(path, arch, options));
}
