import type { LinearHead } from "../../model/linear-head.js";
import type { MethodContext } from "../method.js";
import { fitHead, headOf } from "../refit-head.js";
import { byClass, drawSamples, without } from "../sampling.js";
import type { Weights } from "./masking.js";

/** Enough for the order of the weights; the probe of the evaluation takes 400. */
const kProbeSteps = 150;
/** Rounds count from here, so that the probe and the round's Fishers are draws apart. */
const kProbeDraw = 5_000_011;

/**
 * How many forget samples are judged: the target's number, but no more than half, so that others are left for the probe. A
 * probe judged on what it was fitted on would find by heart what the features no longer show.
 */
export function judgedBesideProbe({ config, forget, reserved }: MethodContext): number {
  const half = Math.max(1, Math.floor(without(forget, reserved).length / 2));
  return Math.min(config.target.samples ?? half, half);
}

/**
 * What the probe of a round is fitted on, ascending: up to `each` samples of each class, none reserved and none judged (but
 * where the forget set has no other). A forgotten class with fewer sets the number for all: a probe that has seen less of it
 * than of the rest would miss it for that alone.
 */
export function probeIndices(
  context: MethodContext,
  judged: Int32Array,
  each: number,
  round: number,
): Int32Array {
  const { config, forget, remain, reserved, train } = context;
  const open = without(forget, reserved);
  const unseen = without(open, new Set(judged));
  const own = unseen.length > 0 ? unseen : open;
  const classes = byClass(train, Int32Array.from([...own, ...without(remain, reserved)]));
  const scarcest = Math.min(
    ...[...byClass(train, own).keys()].map((label) => classes.get(label)?.length ?? 0),
  );
  const count = Math.min(each, scarcest);
  const drawn = [...classes.values()].flatMap((list) => [
    ...drawSamples(list, count, config.seed, kProbeDraw + round),
  ]);
  return Int32Array.from(drawn).sort();
}

/** A linear probe, fitted anew each round, that takes the place of the network's own head. */
export class RoundProbe {
  readonly #context: MethodContext;
  readonly #head: LinearHead;
  readonly #own: Weights;
  readonly #judged: Int32Array;
  readonly #each: number;

  /** @param own the network's weights by name, of which its head is kept; @param each samples a class */
  constructor(
    context: MethodContext,
    head: LinearHead,
    own: Weights,
    judged: Int32Array,
    each: number,
  ) {
    this.#context = context;
    this.#head = head;
    this.#own = new Map(
      [head.weight, head.bias].map((name) => [name, own.get(name) as Float32Array]),
    );
    this.#judged = judged;
    this.#each = each;
  }

  /** Puts the network's own head back, bit for bit. */
  restoreHead(): Promise<void> {
    return this.#context.network.setParameters(this.#own);
  }

  /** Fits the round's probe on the features as they are now and leaves it in the network. @throws as `fitHead` */
  async install(round: number): Promise<void> {
    const indices = probeIndices(this.#context, this.#judged, this.#each, round);
    const options = { stage: "Probe of the round", steps: kProbeSteps };
    const fit = await fitHead(this.#context, this.#head, indices, options);
    await this.#context.network.setParameters(headOf(this.#head, fit));
  }
}
