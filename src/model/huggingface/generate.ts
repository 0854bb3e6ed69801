import { type PhiloxKey, philox } from "../../data/philox.js";
import { FishermaskError, throwIfAborted } from "../../native/errors.js";
import { EngineNetwork, type NetworkOptions } from "../../native/network.js";
import { LOGITS } from "../architecture.js";
import { streamOfName } from "../initialize.js";
import type { Model } from "../model.js";
import { IDS } from "./network.js";
import { describeHuggingFaceModel, openHuggingFaceModel } from "./open.js";
import { POSITION, rowHeadGraph } from "./row-head.js";

// Short texts run on short graphs; each is twice as long as the one before.
const kFirstLength = 32;
const kPadding = -1;

export interface GenerateOptions extends NetworkOptions {
  /** Ids to begin with, at least one. They come first among what is yielded. */
  readonly prompt: ArrayLike<number>;
  /** Tokens in all after the first, the rest of the prompt included. At least 1. */
  readonly tokens: number;
  /** Ids that end the text; they are not yielded. */
  readonly stop: readonly number[];
  /** Logits are divided by it before one is drawn; 0 takes the most probable id, of equal ones the smallest. */
  readonly temperature: number;
  /** Of the draws; safe integer from 0. */
  readonly seed: number;
  readonly signal?: AbortSignal | undefined;
}

/** The first index of the largest value. */
function largest(values: Float64Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) {
    if ((values[i] as number) > (values[best] as number)) best = i;
  }
  return best;
}

/** Uniform in [0, 1) with 52 bits, one for each draw. */
function uniform(key: PhiloxKey, draw: number): number {
  const [high = 0, low = 0] = philox(key, draw);
  return ((high >>> 6) * 2 ** 26 + (low >>> 6)) / 2 ** 52;
}

/** An index drawn from softmax(values / temperature). */
function drawn(values: Float64Array, temperature: number, point: number): number {
  const top = values[largest(values)] as number;
  const odds = values.map((value) => Math.exp((value - top) / temperature));
  let left = point * odds.reduce((sum, value) => sum + value, 0);
  for (let i = 0; i < odds.length; i++) {
    left -= odds[i] as number;
    if (left < 0) return i;
  }
  // Rounding may leave a rest beyond the last id; then it is the last one that has a share.
  return odds.findLastIndex((value) => value > 0);
}

function check(options: GenerateOptions, vocabulary: number, context: number): void {
  const fail = (what: string, name: string, received: string | number): FishermaskError =>
    new FishermaskError("ERR_FM_ARGUMENT", `Expected ${what} for ${name} but received ${received}`);
  const { prompt, tokens, temperature, seed } = options;
  if (prompt.length === 0) throw fail("at least one id", "prompt", "none");
  const most = `a whole number from 1 to ${context}, the model's context,`;
  if (!Number.isSafeInteger(tokens) || tokens < 1 || tokens > context) {
    throw fail(most, "tokens", tokens);
  }
  for (const id of Array.from(prompt)) {
    const known = Number.isInteger(id) && id >= 0 && id < vocabulary;
    if (!known) throw fail(`an id from 0 to ${vocabulary - 1}`, "prompt", id);
  }
  if (!(temperature >= 0 && Number.isFinite(temperature))) {
    throw fail("a number from 0", "temperature", temperature);
  }
  if (!Number.isSafeInteger(seed) || seed < 0) throw fail("a whole number from 0", "seed", seed);
}

/** A network for sequences of up to some length, made anew when they outgrow it. */
class GrowingNetwork {
  private network: EngineNetwork | undefined;
  private length = 0;

  constructor(
    private readonly path: string,
    private readonly weights: Model["weights"],
    private readonly most: number,
    private readonly options: NetworkOptions,
  ) {}

  /** The logits (vocabulary) that follow the first `count` ids. */
  async logitsAfter(ids: readonly number[], count: number): Promise<Float64Array> {
    const network = await this.ofLength(count);
    const padded = new Int32Array(this.length).fill(kPadding);
    padded.set(ids.slice(0, count));
    const inputs = new Map([
      [IDS, padded],
      [POSITION, Int32Array.of(count - 1)],
    ]);
    return (await network.run(inputs, [LOGITS])).get(LOGITS) as Float64Array;
  }

  dispose(): void {
    this.network?.dispose();
    this.network = undefined;
  }

  private async ofLength(count: number): Promise<EngineNetwork> {
    if (this.network !== undefined && count <= this.length) return this.network;
    this.dispose();
    let length = kFirstLength;
    while (length < count) length *= 2;
    this.length = Math.min(length, this.most);
    const { graph, features } = await describeHuggingFaceModel(this.path, {
      sequenceLength: this.length,
    });
    const network = new EngineNetwork(JSON.stringify(rowHeadGraph(graph, features)), this.options);
    this.network = network;
    await network.setParameters(this.weights);
    return network;
  }
}

/**
 * Continues a prompt with a causal language model, one id at a time: the prompt's ids after the first, then what the model
 * says, until `tokens` ids have come or one of `stop`. Every id is found with a whole forward pass over what there is.
 *
 * The end rule is that of llama2.c's `run.c`: the prompt counts among the tokens, and a stop id within the prompt ends the
 * text too.
 *
 * @param path as `openHuggingFaceModel` takes it
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` naming the option, or for a model that is no causal language model;
 * `ERR_FM_ABORTED` before the next id once the signal has fired; as `openHuggingFaceModel`
 */
export async function* generate(path: string, options: GenerateOptions): AsyncGenerator<number> {
  const model = await openHuggingFaceModel(path);
  const context = model.graph.inputs[0]?.shape[0] as number;
  // Refuses what is no language model, and has the head's size.
  const head = rowHeadGraph(model.graph, model.features).nodes.at(-1);
  const table = model.graph.parameters.find(({ name }) => name === head?.parameters["weight"]);
  check(options, table?.shape[0] as number, context);
  const { prompt, tokens, stop, temperature, signal } = options;
  const key = { seed: options.seed, stream: streamOfName("generate") };
  const ids = [prompt[0] as number];
  const network = new GrowingNetwork(path, model.weights, context, options);
  try {
    for (let position = 0; position < tokens; position++) {
      throwIfAborted(signal);
      let next = prompt[position + 1];
      if (next === undefined) {
        const logits = await network.logitsAfter(ids, position + 1);
        const greedy = temperature === 0;
        next = greedy ? largest(logits) : drawn(logits, temperature, uniform(key, position));
      }
      if (stop.includes(next)) return;
      ids.push(next);
      yield next;
    }
  } finally {
    network.dispose();
  }
}
