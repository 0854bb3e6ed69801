import { argumentError } from "./check.js";
import { findClass } from "./class-names.js";
import { type Dataset, isTokens } from "./dataset.js";
import { readIds, readMislabelled } from "./index-files.js";
import { randomStream } from "./random-stream.js";
import { shuffled } from "./shuffle.js";

/** A data set cut in two: every sample is in exactly one of the sets. */
export interface ForgetSplit {
  /** Indices of the samples to forget, ascending, at least one. */
  readonly forget: Int32Array;
  /** Indices of the samples to keep, ascending. */
  readonly remain: Int32Array;
  /** In words, for reports. */
  readonly description: string;
  /** For `mislabelled`: the label that each sample of `forget` should have. */
  readonly trueLabels?: Int32Array;
}

export interface SplitOptions {
  /** For `random`. Safe integer from 0; 0 where it is not given. */
  readonly seed?: number | undefined;
  /** Forgetting everything is an error unless this is set. */
  readonly allowEmptyRemain?: boolean | undefined;
}

type Chosen = Omit<ForgetSplit, "remain">;
type Chooser = (value: string, dataset: Dataset, seed: number) => Promise<Chosen>;

function allIndices(size: number): Int32Array {
  return Int32Array.from({ length: size }, (_, index) => index);
}

async function chooseClasses(value: string, dataset: Dataset): Promise<Chosen> {
  const labels = new Set<number>();
  for (const name of value.split(",")) {
    const label = findClass(dataset.classes, name.trim(), "the class to forget");
    if (labels.has(label)) {
      throw argumentError("each class once", "the classes to forget", value);
    }
    labels.add(label);
  }
  const forget = allIndices(dataset.size).filter((i) => labels.has(dataset.labels[i] as number));
  const names = [...labels].map((label) => `${label} (${dataset.classes[label]})`);
  return { forget, description: `class ${names.join(", ")}` };
}

async function chooseIds(path: string, dataset: Dataset): Promise<Chosen> {
  return { forget: await readIds(path, dataset.size), description: `ids of ${path}` };
}

async function chooseRandom(value: string, dataset: Dataset, seed: number): Promise<Chosen> {
  const fraction = value.trim() === "" ? Number.NaN : Number(value);
  if (!(fraction > 0 && fraction <= 1)) {
    throw argumentError("a fraction above 0 and at most 1", "random", value);
  }
  // Rounded down; the addend forgives 0.29 · 100 = 28.999….
  const count = Math.floor(fraction * dataset.size + 1e-9);
  const order = shuffled(allIndices(dataset.size), randomStream("forget", seed, 0));
  return { forget: order.slice(0, count).sort(), description: `random ${value}, seed ${seed}` };
}

async function chooseMislabelled(path: string, dataset: Dataset): Promise<Chosen> {
  const { indices, trueLabels } = await readMislabelled(path, dataset);
  return { forget: indices, trueLabels, description: `mislabelled samples of ${path}` };
}

async function chooseMatching(value: string, dataset: Dataset): Promise<Chosen> {
  const texts = isTokens(dataset) ? dataset.texts : undefined;
  if (texts === undefined) throw argumentError("text data", "match", dataset.name);
  const forget = allIndices(dataset.size).filter((i) => texts[i]?.includes(value));
  return { forget, description: `texts with "${value}"` };
}

const kChoosers: ReadonlyMap<string, Chooser> = new Map<string, Chooser>([
  ["class", chooseClasses],
  ["ids", chooseIds],
  ["random", chooseRandom],
  ["mislabelled", chooseMislabelled],
  ["match", chooseMatching],
]);

function complement(size: number, taken: Int32Array): Int32Array {
  const isTaken = new Uint8Array(size);
  for (const index of taken) {
    isTaken[index] = 1;
  }
  return allIndices(size).filter((index) => isTaken[index] === 0);
}

/**
 * Cuts a data set as `--forget` says:
 * `class:3`, `class:cat`, `class:3,cat` (names or indices) · `ids:FILE` (one index a line, `#` comments) ·
 * `random:0.1` (a fraction, rounded down, drawn under the seed) · `mislabelled:FILE` (lines `index,trueLabel`) ·
 * `match:TEXT` (of text data: the sequences that hold it).
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for another text, an unknown class, an empty forget set or an empty
 * remain set that is not allowed; `ERR_FM_BAD_FILE` naming file and line; `ERR_FM_IO`
 */
export async function splitForget(
  text: string,
  dataset: Dataset,
  options: SplitOptions = {},
): Promise<ForgetSplit> {
  const colon = text.indexOf(":");
  const choose = kChoosers.get(text.slice(0, Math.max(0, colon)));
  const value = text.slice(colon + 1);
  if (choose === undefined || value === "") {
    const forms = "class:NAME, ids:FILE, random:FRACTION, mislabelled:FILE or match:TEXT";
    throw argumentError(forms, "forget", text);
  }
  const chosen = await choose(value, dataset, options.seed ?? 0);
  const remain = complement(dataset.size, chosen.forget);
  if (chosen.forget.length === 0) {
    throw argumentError("at least one sample to forget", "forget", `${text}, which chooses none`);
  }
  if (remain.length === 0 && options.allowEmptyRemain !== true) {
    throw argumentError("at least one sample to keep", "forget", `${text}, which chooses all`);
  }
  return { ...chosen, remain };
}

/**
 * Checks that two sets of indices share none.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` naming the first index of `b` that is in `a`
 */
export function checkDisjoint(a: Int32Array, b: Int32Array): void {
  const inA = new Set(a);
  const shared = b.find((index) => inA.has(index));
  if (shared !== undefined) {
    throw argumentError("disjoint sets", "the indices", `${shared} in both`);
  }
}
