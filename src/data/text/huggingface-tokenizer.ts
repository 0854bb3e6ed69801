import { dirname, join } from "node:path";
import { Tokenizer as Encoder } from "@huggingface/tokenizers";
import { badFile } from "../../io/file-error.js";
import { readTextFile } from "../../io/read.js";
import { FishermaskError } from "../../native/errors.js";
import type { Tokenizer } from "./tokenizer.js";

// The largest published ones have some 30 MB.
const kMaxBytes = 256 * 1024 * 1024;
const kByteToken = /^<0x([0-9A-Fa-f]{2})>$/;
// The library takes any other vocabulary for an old form of its own.
const kModels: ReadonlySet<unknown> = new Set(["BPE", "WordPiece", "Unigram"]);
const kBosNames = ["bos_token", "cls_token"];
const kEosNames = ["eos_token", "sep_token"];

type JsonObject = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

async function readJson(path: string): Promise<JsonObject> {
  const text = await readTextFile(path, kMaxBytes);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw badFile(path, "the text", "JSON", (cause as Error).message, cause);
  }
  if (!isObject(value)) throw badFile(path, "the text", "an object", typeof value);
  return value;
}

/** A special token's text: a string, or an object with it. */
function contentOf(value: unknown): string | null {
  if (typeof value === "string") return value;
  const content = isObject(value) ? value["content"] : undefined;
  return typeof content === "string" ? content : null;
}

/** The characters that stand for bytes in byte-level vocabularies: printable ones for themselves, the others from 256 on. */
function byteLevelAlphabet(): ReadonlyMap<string, number> {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
  const alphabet = new Map<string, number>();
  let other = 256;
  for (let byte = 0; byte < 256; byte++) {
    alphabet.set(String.fromCodePoint(printable(byte) ? byte : other++), byte);
  }
  return alphabet;
}

function usesByteLevel(decoder: unknown): boolean {
  if (!isObject(decoder)) return false;
  if (decoder["type"] === "ByteLevel") return true;
  const parts = decoder["decoders"];
  return Array.isArray(parts) && parts.some(usesByteLevel);
}

class HuggingFaceTokenizer implements Tokenizer {
  readonly bosId: number | null;
  readonly eosId: number | null;
  readonly vocabularySize: number;
  readonly #encoder: Encoder;
  readonly #alphabet: ReadonlyMap<string, number> | null;
  readonly #added: ReadonlySet<number>;

  constructor(encoder: Encoder, json: JsonObject, config: JsonObject) {
    this.#encoder = encoder;
    this.#alphabet = usesByteLevel(json["decoder"]) ? byteLevelAlphabet() : null;
    this.#added = new Set(encoder.get_added_tokens_decoder().keys());
    const idOf = (names: readonly string[]): number | null => {
      for (const name of names) {
        const text = contentOf(config[name]);
        const id = text === null ? undefined : encoder.token_to_id(text);
        if (id !== undefined) return id;
      }
      return null;
    };
    this.bosId = idOf(kBosNames);
    this.eosId = idOf(kEosNames);
    // Ids may have gaps: the largest one counts.
    let largest = -1;
    for (const id of encoder.get_vocab(true).values()) largest = Math.max(largest, id);
    this.vocabularySize = largest + 1;
  }

  encode(text: string): Int32Array {
    return Int32Array.from(this.#encoder.encode(text, { add_special_tokens: false }).ids);
  }

  decode(id: number, previous?: number): Uint8Array {
    const token = this.#encoder.id_to_token(id);
    if (token === undefined) return new Uint8Array(0);
    if (this.#added.has(id)) return new TextEncoder().encode(token);
    const byte = kByteToken.exec(token)?.[1];
    if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
    if (this.#alphabet !== null) return this.#bytesOf(token, this.#alphabet);
    const text = token.replaceAll("\u2581", " ");
    return new TextEncoder().encode(
      previous !== undefined && previous === this.bosId ? text.replace(/^ /, "") : text,
    );
  }

  #bytesOf(token: string, alphabet: ReadonlyMap<string, number>): Uint8Array {
    const bytes = Array.from(token, (character) => alphabet.get(character));
    return bytes.some((byte) => byte === undefined)
      ? new TextEncoder().encode(token)
      : Uint8Array.from(bytes as number[]);
  }
}

async function configBeside(path: string): Promise<JsonObject> {
  try {
    return await readJson(join(dirname(path), "tokenizer_config.json"));
  } catch (error) {
    // Without it there are no special tokens by name; the tokens themselves are all in tokenizer.json.
    if (error instanceof FishermaskError && error.code === "ERR_FM_IO") return {};
    throw error;
  }
}

/**
 * Opens a Hugging Face `tokenizer.json`; `tokenizer_config.json` beside it names the special tokens.
 *
 * @throws {@link FishermaskError} `ERR_FM_IO`, `ERR_FM_BAD_FILE`
 */
export async function openHuggingFaceTokenizer(path: string): Promise<Tokenizer> {
  const json = await readJson(path);
  const type = isObject(json["model"]) ? json["model"]["type"] : undefined;
  if (!kModels.has(type)) {
    throw badFile(path, "model.type", "BPE, WordPiece or Unigram", JSON.stringify(type) ?? "none");
  }
  const config = await configBeside(path);
  try {
    return new HuggingFaceTokenizer(new Encoder(json, config), json, config);
  } catch (cause) {
    const received = cause instanceof Error ? cause.message : String(cause);
    throw badFile(path, "the tokenizer", "components that are known", received, cause);
  }
}
