import { type Command, Option } from "commander";
import { openTokenizer, type Tokenizer } from "../../data/text/tokenizer.js";
import { generate } from "../../model/huggingface/generate.js";
import { FishermaskError } from "../../native/errors.js";
import { addCommon, type CommonOptions, positive, realNumber, wholeNumber } from "../options.js";
import { Session } from "../session.js";

interface Options extends CommonOptions {
  readonly model: string;
  readonly tokenizer?: string;
  readonly prompt: string;
  readonly tokens: number;
  readonly greedy?: boolean;
  readonly temperature?: number;
}

/** The prompt's ids, after the beginning of a sequence where the tokenizer has one. */
function promptIds(tokenizer: Tokenizer, text: string): number[] {
  const begin = tokenizer.bosId === null ? [] : [tokenizer.bosId];
  const ids = [...begin, ...tokenizer.encode(text)];
  if (ids.length > 0) return ids;
  throw new FishermaskError(
    "ERR_FM_ARGUMENT",
    'Expected some text for --prompt, as the tokenizer has no beginning of sequence, but received ""',
  );
}

async function run(options: Options): Promise<void> {
  const session = new Session(options);
  const tokenizer = await openTokenizer(options.tokenizer ?? options.model);
  const prompt = promptIds(tokenizer, options.prompt);
  const pieces: Uint8Array[] = [];
  const ids: number[] = [];
  let previous = prompt[0];
  session.stage("Generate", options.tokens);
  const stream = generate(options.model, {
    prompt,
    tokens: options.tokens,
    stop: [tokenizer.bosId, tokenizer.eosId].filter((id) => id !== null),
    temperature: options.temperature ?? 0,
    seed: options.seed,
    threads: options.threads,
    signal: session.signal,
  });
  for await (const id of stream) {
    const piece = tokenizer.decode(id, previous);
    previous = id;
    ids.push(id);
    pieces.push(piece);
    session.report(ids.length);
    if (!options.json) process.stdout.write(piece);
  }
  session.endStage();
  session.progress.close();
  if (!options.json) return;
  const text = Buffer.concat(pieces).toString("utf8");
  process.stdout.write(`${JSON.stringify({ schemaVersion: 1, prompt, ids, text })}\n`);
}

export function register(program: Command): void {
  const command = program
    .command("generate")
    .description("continue a text with a language model")
    .requiredOption("--model <PATH>", "a Hugging Face folder, or a llama2.c model (.safetensors)")
    .option(
      "--tokenizer <FILE>",
      "tokenizer.json or llama2.c's tokenizer.bin; default: the model's own tokenizer.json",
    )
    .option("--prompt <TEXT>", "what the text begins with", "")
    .option("--tokens <N>", "tokens in all, the prompt's included", wholeNumber(1), 200);
  addCommon(command)
    .addOption(
      new Option("--greedy", "always the most probable token; the default").conflicts(
        "temperature",
      ),
    )
    .option(
      "--temperature <T>",
      "draw from the probabilities of the logits divided by T, with --seed",
      realNumber("--temperature", positive, "a number above 0"),
    )
    .action(run);
}
