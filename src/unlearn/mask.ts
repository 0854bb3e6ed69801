import type { ScoreHistogram } from "../evaluate/run-metrics.js";
import {
  type CandidateOptions,
  type CandidateTensor,
  candidateTensors,
} from "../model/candidates.js";
import type { Graph } from "../model/graph.js";
import type { NativeScoring, NativeSelection } from "../native/addon.js";
import { checkChoice } from "../native/choice.js";
import { FishermaskError } from "../native/errors.js";
import {
  applyKeepMask,
  countMasked,
  expandKeepMask,
  intersectKeepMasks,
  type KeepMask,
  maskTopK,
  SCOPES,
  type Scope,
  scoreUnits,
  selectUnits,
  UNITS,
  type Unit,
  unitCount,
  type WorkOptions,
} from "../native/masking.js";
import { type CriterionName, criteria } from "./criteria.gen.js";
import type { CriterionOptions } from "./criterion.js";
import { compile } from "./expression.js";
import type { FisherStore } from "./fisher-store.js";

/** What may be masked, and how it is ranked. */
export interface MaskRule extends CandidateOptions {
  readonly criterion: CriterionName;
  readonly criterionOptions?: CriterionOptions | undefined;
  readonly unit: Unit;
  readonly scope: Scope;
  /** Of the `random` criterion. */
  readonly seed?: number | undefined;
  readonly threads: number;
}

/** Scores of every unit of the candidates, larger = masked first. */
export interface UnitScores {
  readonly candidates: readonly CandidateTensor[];
  readonly unit: Unit;
  readonly scope: Scope;
  readonly threads: number;
  /** One array per candidate; −Infinity: not eligible, since it is zero already. */
  readonly scores: readonly Float32Array[];
  /** Units of all candidates. */
  readonly total: number;
}

/** Keep-masks by tensor, for candidates alone. */
export type MaskSet = ReadonlyMap<string, KeepMask>;

export interface MaskSelection {
  readonly masks: MaskSet;
  /** Units masked by this selection. */
  readonly units: number;
  readonly total: number;
  readonly histogram: ScoreHistogram | null;
}

/** @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for a name that is none */
export function checkRule(rule: Pick<MaskRule, "criterion" | "unit" | "scope">): void {
  checkChoice("criterion", rule.criterion, Object.keys(criteria));
  checkChoice("unit", rule.unit, UNITS);
  checkChoice("scope", rule.scope, SCOPES);
}

function needed<T>(value: T | null | undefined, what: string, criterion: string): T {
  if (value === null || value === undefined) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      `Expected ${what} for criterion "${criterion}" but received none`,
    );
  }
  return value;
}

function mismatch(message: string): FishermaskError {
  return new FishermaskError("ERR_FM_MISMATCH", message);
}

function tensorOf(
  values: ReadonlyMap<string, Float32Array>,
  name: string,
  where: string,
): Float32Array {
  const found = values.get(name);
  if (found === undefined) {
    throw mismatch(`Expected tensor "${name}" in ${where} but it is missing`);
  }
  return found;
}

function sumsOf(
  sums: ReadonlyMap<string, Float32Array>,
  name: string,
  weights: number,
): Float32Array {
  const values = tensorOf(sums, name, "the Fisher store");
  if (values.length !== weights) {
    throw mismatch(
      `Expected ${weights} sums for tensor "${name}" in the Fisher store but received ${values.length}`,
    );
  }
  return values;
}

/** What must agree for two Fishers to be held against each other. */
const COMPARED = [
  "labels",
  "gradient",
  "temperature",
  "modelDigest",
  "datasetDigest",
  "precision",
] as const;

/**
 * Scores compare the two: they must be of one network and one loss, and of sets that share no sample.
 *
 * @throws {@link FishermaskError} `ERR_FM_MISMATCH` naming what differs or the sample
 */
export function checkComparable(forget: FisherStore, remain: FisherStore): void {
  for (const key of COMPARED) {
    const [a, b] = [forget.meta[key], remain.meta[key]];
    if (a === b) continue;
    throw mismatch(
      `Expected Fishers of the forget and the remain set with the same ${key} but received ${a} and ${b}`,
    );
  }
  const forgotten = new Set(forget.ids);
  const shared = remain.ids.find((id) => forgotten.has(id));
  if (shared === undefined) return;
  throw mismatch(
    `Expected Fishers of disjoint sets but sample ${shared} is in the forget and the remain Fisher`,
  );
}

/** The candidates, and all that their scores are made of. @throws as `scoreNetwork` */
function scoringOf(
  graph: Graph,
  weights: ReadonlyMap<string, Float32Array>,
  forget: FisherStore | null,
  remain: FisherStore | null,
  rule: MaskRule,
): { candidates: readonly CandidateTensor[]; scoring: NativeScoring } {
  checkRule(rule);
  const criterion = criteria[rule.criterion];
  const program = compile(criterion.score(rule.criterionOptions));
  const { needs } = program;
  const squares = needs.forgetFisher
    ? needed(forget, "the Fisher of the forget set", criterion.name).squares
    : null;
  const gradients = needs.forgetGradient
    ? needed(forget?.gradients, "the summed gradients of the forget set", criterion.name)
    : null;
  const kept = needs.remainFisher
    ? needed(remain, "the Fisher of the remain set", criterion.name).squares
    : null;
  if (forget !== null && remain !== null && kept !== null && (squares ?? gradients) !== null) {
    checkComparable(forget, remain);
  }
  const candidates = candidateTensors(graph, rule);
  const tensors: NativeScoring["tensors"] = candidates.map(({ name, shape }) => {
    const weight = tensorOf(weights, name, "the network");
    const of = (sums: ReadonlyMap<string, Float32Array>): Float32Array =>
      sumsOf(sums, name, weight.length);
    return {
      name,
      shape,
      weight,
      ...(squares === null ? {} : { forget: of(squares) }),
      ...(kept === null ? {} : { remain: of(kept) }),
      ...(gradients === null ? {} : { gradient: of(gradients) }),
    };
  });
  const scoring: NativeScoring = {
    ops: program.ops,
    values: program.values,
    unit: rule.unit,
    forgetCount: forget?.terms ?? 1,
    remainCount: remain?.terms ?? 1,
    seed: rule.seed ?? 0,
    threads: rule.threads,
    tensors,
  };
  return { candidates, scoring };
}

/**
 * Scores every unit of the candidates under a criterion.
 *
 * @param weights the network's present weights by name
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for a bad rule or a missing Fisher; `ERR_FM_MISMATCH` when the stores are
 * not of these tensors or not comparable; `ERR_FM_NON_FINITE` naming the tensors with NaN scores
 */
export async function scoreNetwork(
  graph: Graph,
  weights: ReadonlyMap<string, Float32Array>,
  forget: FisherStore | null,
  remain: FisherStore | null,
  rule: MaskRule,
): Promise<UnitScores> {
  const { candidates, scoring } = scoringOf(graph, weights, forget, remain, rule);
  const scores = await scoreUnits(scoring);
  const total = scores.reduce((sum, tensor) => sum + tensor.length, 0);
  return { candidates, unit: rule.unit, scope: rule.scope, threads: rule.threads, scores, total };
}

/**
 * What `scoreNetwork`, `selectMask` and `maskWeights` give together, in one pass over the data and without an array of
 * scores; for callers that need no histogram of them.
 *
 * @param amount a share of each ranking's units, or exactly k (scope `global`)
 * @returns the masks, and new weights; tensors that are no candidates are shared with the input
 * @throws {@link FishermaskError} as the three; `ERR_FM_ABORTED`
 */
export async function maskNetwork(
  graph: Graph,
  weights: ReadonlyMap<string, Float32Array>,
  forget: FisherStore | null,
  remain: FisherStore | null,
  rule: MaskRule,
  amount: { readonly ratio: number } | { readonly k: number },
  options: WorkOptions = {},
): Promise<Omit<MaskSelection, "histogram"> & { weights: Map<string, Float32Array> }> {
  const { candidates, scoring } = scoringOf(graph, weights, forget, remain, rule);
  const layers = [...new Set(candidates.map(({ layer }) => layer))];
  const tensors = scoring.tensors.map((tensor, i) => ({
    ...tensor,
    weight: tensor.weight.slice(),
    group: layers.indexOf((candidates[i] as CandidateTensor).layer),
  }));
  const done = await maskTopK({ ...scoring, tensors, scope: rule.scope, ...amount }, options);
  const masked = new Map(weights);
  const masks = new Map<string, KeepMask>();
  for (const [i, { name, shape, weight }] of tensors.entries()) {
    masked.set(name, weight);
    masks.set(name, { ...unitCount(shape, rule.unit), bits: done.masks[i] as Uint8Array });
  }
  return { masks, units: done.totalMasked, total: done.totalUnits, weights: masked };
}

/** Units whose removal brings something: those whose score is above 0. */
export function countPositive({ scores }: UnitScores): number {
  let count = 0;
  for (const tensor of scores) for (const value of tensor) if (value > 0) count++;
  return count;
}

function histogramOf(selection: NativeSelection): ScoreHistogram | null {
  if (selection.edges.length === 0) return null;
  return {
    edges: [...selection.edges],
    counts: [...selection.counts],
    maskedCounts: [...selection.maskedCounts],
    threshold: selection.rankings.length === 1 ? (selection.rankings[0]?.threshold ?? null) : null,
  };
}

const HISTOGRAM_BINS = 60;

/**
 * The units of largest score: a share of each ranking's units, or exactly k (scope `global`). Equal scores go by flat index.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for a ratio outside 0..1
 */
export async function selectMask(
  scores: UnitScores,
  amount: { readonly ratio: number } | { readonly k: number },
): Promise<MaskSelection> {
  const layers = [...new Set(scores.candidates.map(({ layer }) => layer))];
  const selection = await selectUnits({
    scope: scores.scope,
    ...amount,
    bins: HISTOGRAM_BINS,
    threads: scores.threads,
    tensors: scores.candidates.map(({ name, layer }, i) => ({
      name,
      scores: scores.scores[i] as Float32Array,
      group: layers.indexOf(layer),
    })),
  });
  const masks = new Map<string, KeepMask>();
  for (const [i, { name, shape }] of scores.candidates.entries()) {
    masks.set(name, { ...unitCount(shape, scores.unit), bits: selection.masks[i] as Uint8Array });
  }
  return {
    masks,
    units: selection.totalMasked,
    total: selection.totalUnits,
    histogram: histogramOf(selection),
  };
}

/** Masks that keep every unit of the candidates. */
export function keepAll(graph: Graph, rule: CandidateOptions & Pick<MaskRule, "unit">): MaskSet {
  return new Map(
    candidateTensors(graph, rule).map(({ name, shape }) => {
      const counts = unitCount(shape, rule.unit);
      const bits = new Uint8Array(Math.ceil(counts.units / 8)).fill(0xff);
      // Padding is zero.
      if (counts.units % 8 !== 0) bits[bits.length - 1] = (1 << (counts.units % 8)) - 1;
      return [name, { ...counts, bits }];
    }),
  );
}

/** What either masks is masked. The first may be empty: then it is the second. */
export function unionOfMasked(a: MaskSet, b: MaskSet): MaskSet {
  return new Map(
    [...b].map(([name, mask]) => {
      const other = a.get(name);
      return [name, other === undefined ? mask : intersectKeepMasks(other, mask)];
    }),
  );
}

/** New weights, masked units zero; tensors without a masked unit are shared with the input. */
export function maskWeights(
  weights: ReadonlyMap<string, Float32Array>,
  masks: MaskSet,
): Map<string, Float32Array> {
  const out = new Map(weights);
  for (const [name, mask] of masks) {
    if (countMasked(mask) === 0) continue;
    const copy = tensorOf(weights, name, "the network").slice();
    applyKeepMask(copy, mask);
    out.set(name, copy);
  }
  return out;
}

/** One bit per weight, for holding masked weights at 0 in training; tensors without a masked unit are left out. */
export function weightMasks(masks: MaskSet): Map<string, Uint8Array> {
  const masked = [...masks].filter(([, mask]) => countMasked(mask) > 0);
  return new Map(masked.map(([name, mask]) => [name, expandKeepMask(mask)]));
}

/** Masked and candidate units by tensor, in network order. */
export function countByTensor(masks: MaskSet): {
  units: number;
  total: number;
  perTensor: Record<string, number>;
  perTensorTotal: Record<string, number>;
} {
  const perTensor: Record<string, number> = {};
  const perTensorTotal: Record<string, number> = {};
  let units = 0;
  let total = 0;
  for (const [name, mask] of masks) {
    perTensor[name] = countMasked(mask);
    perTensorTotal[name] = mask.units;
    units += countMasked(mask);
    total += mask.units;
  }
  return { units, total, perTensor, perTensorTotal };
}
