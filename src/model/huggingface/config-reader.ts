import { badFile } from "../../io/file-error.js";
import { readTextFile } from "../../io/read.js";
import { parseStrictJson, type StrictJson, StrictJsonError } from "../../io/strict-json.js";
import { FishermaskError } from "../../native/errors.js";

const kMaxBytes = 16 * 1024 * 1024;
const kMaxNesting = 16;

/**
 * Keys of PretrainedConfig and its families that change nothing of what the network computes when it is evaluated:
 * dropout (off), generation, bookkeeping.
 */
const kInert: ReadonlySet<string> = new Set(
  `architectures attention_dropout attention_probs_dropout_prob attn_pdrop bad_words_ids begin_suppress_tokens bos_token_id
  chunk_size_feed_forward classifier_dropout cls_token_id decoder_start_token_id directionality diversity_penalty do_sample
  dtype early_stopping embd_pdrop encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty
  finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing hidden_dropout_prob id2label
  initializer_range is_llama_config keys_to_ignore_at_inference label2id length_penalty mask_token_id max_length
  max_new_tokens min_length model_type n_ctx no_repeat_ngram_size num_beam_groups num_beams num_labels
  num_return_sequences output_attentions output_hidden_states output_past output_scores pad_token_id pooler_fc_size
  pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type prefix pretraining_tp
  remove_invalid_values reorder_and_upcast_attn repetition_penalty resid_pdrop return_dict return_dict_in_generate
  sep_token_id summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj
  suppress_tokens task_specific_params temperature tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p
  torch_dtype torchscript transformers.js_config transformers_version typical_p unk_token_id unsloth_fixed unsloth_version
  use_bfloat16 use_cache`.split(/\s+/),
);

function show(value: StrictJson): string {
  if (value instanceof Map) return "an object";
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

function parse(path: string, text: string): ReadonlyMap<string, StrictJson> {
  let root: StrictJson;
  try {
    root = parseStrictJson(text, kMaxNesting);
  } catch (cause) {
    if (!(cause instanceof StrictJsonError)) throw cause;
    throw badFile(path, "the configuration", "JSON", cause.message, cause);
  }
  if (root instanceof Map) return root;
  throw badFile(path, "the configuration", "an object", show(root));
}

/**
 * The keys of a configuration, read one by one. A key that is null counts as left out. Whatever is not asked for and not
 * known to be without effect is refused by {@link finish}: it might change what the network computes.
 */
export class ConfigReader {
  private readonly read = new Set<string>();

  constructor(
    readonly path: string,
    private readonly entries: ReadonlyMap<string, StrictJson>,
    /** Of nested objects: "rope_scaling." */
    private readonly prefix = "",
  ) {}

  /** @throws {@link FishermaskError} `ERR_FM_IO`; `ERR_FM_BAD_FILE` for what is no JSON object */
  static async open(path: string): Promise<ConfigReader> {
    return new ConfigReader(path, parse(path, await readTextFile(path, kMaxBytes)));
  }

  /** An `ERR_FM_BAD_FILE` naming the key. */
  bad(key: string, expected: string, received: string): FishermaskError {
    return badFile(this.path, `${this.prefix}${key}`, expected, received);
  }

  /** An `ERR_FM_UNSUPPORTED` naming the key. */
  unsupported(key: string, expected: string, received: string): FishermaskError {
    return new FishermaskError(
      "ERR_FM_UNSUPPORTED",
      `Expected ${expected} for ${this.prefix}${key} of ${this.path} but received ${received}`,
      { details: { path: this.path, key: `${this.prefix}${key}` } },
    );
  }

  /** The value as it is; undefined where it is left out or null. */
  value(key: string): StrictJson | undefined {
    this.read.add(key);
    return this.entries.get(key) ?? undefined;
  }

  has(key: string): boolean {
    return (this.entries.get(key) ?? null) !== null;
  }

  /** Whether the key stands there as null. */
  isNull(key: string): boolean {
    return this.entries.get(key) === null;
  }

  /** A whole number from 1 to `most`. Without a fallback the key must be there. */
  count(key: string, fallback?: number, most = 2 ** 31 - 1): number {
    const value = this.value(key) ?? fallback;
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= 1 && value <= most) {
      return value;
    }
    throw this.bad(key, `a whole number from 1 to ${most}`, this.received(value));
  }

  /** A finite number above 0. Without a fallback the key must be there. */
  positive(key: string, fallback?: number): number {
    const value = this.value(key) ?? fallback;
    if (typeof value === "number" && Number.isFinite(value) && value > 0) return value;
    throw this.bad(key, "a number above 0", this.received(value));
  }

  flag(key: string, fallback: boolean): boolean {
    const value = this.value(key) ?? fallback;
    if (typeof value === "boolean") return value;
    throw this.bad(key, "true or false", this.received(value));
  }

  text(key: string, fallback?: string): string {
    const value = this.value(key) ?? fallback;
    if (typeof value === "string") return value;
    throw this.bad(key, "a string", this.received(value));
  }

  /** A nested object's reader; undefined where it is left out or null. */
  nested(key: string): ConfigReader | undefined {
    const value = this.value(key);
    if (value === undefined) return undefined;
    if (value instanceof Map) return new ConfigReader(this.path, value, `${this.prefix}${key}.`);
    throw this.bad(key, "an object", this.received(value));
  }

  /** What a name stands for. @throws {@link FishermaskError} `ERR_FM_UNSUPPORTED` for another name */
  choice<T>(key: string, choices: Readonly<Record<string, T>>, fallback: string): T {
    const name = this.text(key, fallback);
    if (Object.hasOwn(choices, name)) return choices[name] as T;
    throw this.unsupported(key, `one of ${Object.keys(choices).join(", ")}`, `"${name}"`);
  }

  /** Refuses a key unless it is left out, null or this value. */
  only(key: string, value: boolean | number | string): void {
    const given = this.value(key);
    if (given !== undefined && given !== value) {
      throw this.unsupported(key, `${value}`, this.received(given));
    }
  }

  /**
   * Refuses every key that nobody read.
   *
   * @throws {@link FishermaskError} `ERR_FM_UNSUPPORTED` naming the key
   */
  finish(): void {
    for (const [key, value] of this.entries) {
      const known = this.read.has(key) || kInert.has(key) || key.startsWith("_");
      if (known || value === null) continue;
      throw this.unsupported(key, "only keys whose effect is known", show(value));
    }
  }

  private received(value: StrictJson | undefined): string {
    return value === undefined ? "nothing" : show(value);
  }
}
