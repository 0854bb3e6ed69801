/**
 * What a criterion is: how two Fishers, the weights and the gradient become one score per element. A
 * unit's score is the mean over its elements; the largest scores are masked first.
 */
import { FishermaskError } from "../native/errors.js";
import { compile, type Expression, type ScoreNeeds } from "./expression.js";

/** Options that a criterion may take. */
export interface CriterionOptions {
  /** Weight of the remain Fisher against the forget Fisher; finite. */
  readonly lambda?: number;
  /** Added to a denominator to keep it from 0; finite, in units of the denominator. */
  readonly epsilon?: number;
}

export type CriterionOptionName = keyof CriterionOptions;

/** The options with their defaults filled in; a key that a criterion does not take is absent. */
export type ResolvedOptions<Name extends CriterionOptionName> = Readonly<Record<Name, number>>;

export interface CriterionDefinition<Name extends CriterionOptionName> {
  readonly name: string;
  /** One sentence for the command line's help. */
  readonly summary: string;
  /** Paper or author, and where we differ. */
  readonly source: string;
  /** The score as text, in the words of the documentation. */
  readonly formula: string;
  /** The options it takes, with their defaults. */
  readonly options: ResolvedOptions<Name>;
  readonly score: (options: ResolvedOptions<Name>) => Expression;
}

export interface Criterion {
  readonly name: string;
  readonly summary: string;
  readonly source: string;
  readonly formula: string;
  /** The options it takes, with their defaults. */
  readonly options: CriterionOptions;
  /** Which inputs the score reads; derived from the expression. */
  readonly needs: ScoreNeeds;
  /**
   * The score for these options; defaults fill in what is left out.
   *
   * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` naming an unknown or non-finite option.
   */
  readonly score: (options?: CriterionOptions) => Expression;
}

function invalid(expected: string, key: string, criterion: string, received: unknown): never {
  throw new FishermaskError(
    "ERR_FM_ARGUMENT",
    `Expected ${expected} for ${key} of criterion "${criterion}" but received ${String(received)}`,
  );
}

function resolveOptions<Name extends CriterionOptionName>(
  criterion: string,
  defaults: ResolvedOptions<Name>,
  given: CriterionOptions,
): ResolvedOptions<Name> {
  const resolved: Record<string, number> = { ...defaults };
  for (const [key, value] of Object.entries(given) as [string, unknown][]) {
    if (!Object.hasOwn(defaults, key)) {
      const known = Object.keys(defaults).join(", ") || "none";
      invalid(`no such option (it takes: ${known})`, key, criterion, value);
    }
    if (value === undefined) continue;
    if (typeof value !== "number" || !Number.isFinite(Math.fround(value))) {
      invalid("a finite number", key, criterion, value);
    }
    resolved[key] = value;
  }
  return resolved as ResolvedOptions<Name>;
}

/** Makes a criterion of its definition; a file in `criteria/` exports the result as `criterion`. */
export function defineCriterion<Name extends CriterionOptionName = never>(
  definition: CriterionDefinition<Name>,
): Criterion {
  const { name, summary, source, formula, options } = definition;
  const score = (given: CriterionOptions = {}): Expression =>
    definition.score(resolveOptions(name, options, given));
  return { name, summary, source, formula, options, needs: compile(score()).needs, score };
}
