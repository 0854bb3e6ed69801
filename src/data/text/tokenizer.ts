import { isFolder } from "../../io/read.js";
import { openHuggingFaceTokenizer } from "./huggingface-tokenizer.js";
import { openLlama2cTokenizer } from "./llama2c-tokenizer.js";

/** Text to token ids and back. */
export interface Tokenizer {
  /** The ids of a text; neither a beginning nor an end of sequence is added. */
  encode(text: string): Int32Array;
  /**
   * The bytes that one id stands for. Not every token is whole UTF-8: join bytes before decoding them.
   *
   * @param previous the id before it: after the beginning of a sequence some tokenizers drop a leading space
   */
  decode(id: number, previous?: number): Uint8Array;
  /** Beginning of sequence, where there is one. */
  readonly bosId: number | null;
  /** End of sequence, where there is one. */
  readonly eosId: number | null;
  readonly vocabularySize: number;
}

/**
 * Opens a tokenizer: `tokenizer.json` or a folder with one (Hugging Face; `tokenizer_config.json` beside it is read too), or
 * llama2.c's binary form.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO`, `ERR_FM_BAD_FILE` naming the file and the token or key
 */
export async function openTokenizer(path: string): Promise<Tokenizer> {
  if (await isFolder(path)) {
    return openHuggingFaceTokenizer(`${path}/tokenizer.json`);
  }
  return /\.json$/i.test(path) ? openHuggingFaceTokenizer(path) : openLlama2cTokenizer(path);
}
