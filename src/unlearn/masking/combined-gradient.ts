import { FishermaskError } from "../../native/errors.js";
import type { FisherStore } from "../fisher-store.js";

type Sums = FisherStore["squares"];

export interface GradientParts {
  /** Of forget samples that are still recognised; with gradient sums. */
  readonly forget: FisherStore;
  /** How many judged samples are recognised, and how many are judged at all. */
  readonly recognised: number;
  readonly judged: number;
  /** Of the lost remain samples; null where none is lost. */
  readonly lost: FisherStore | null;
  readonly lostCount: number;
  /** What one lost sample counts against one recognised sample. */
  readonly weightOfLost: number;
}

function gradientsOf({ gradients }: FisherStore): Sums {
  if (gradients !== null) return gradients;
  throw new FishermaskError(
    "ERR_FM_ARGUMENT",
    "Expected the summed gradients of the forget set for guarded selection but received none",
  );
}

/** a·x − b·y by tensor, summed in f64. */
function difference(x: Sums, a: number, y: Sums | null, b: number): Map<string, Float32Array> {
  return new Map(
    [...x].map(([name, values]) => {
      const other = y?.get(name);
      const less = (i: number): number => (other === undefined ? 0 : b * (other[i] as number));
      return [name, values.map((value, i) => a * value - less(i))];
    }),
  );
}

/**
 * The gradient that a guarded step follows, as a Fisher store for `scoreNetwork`:
 *
 *     g = ( |still| · ḡ_still − w · Σ_{n lost} ∂ℓ_n/∂θ ) / |judged|
 *
 * the mean over the judged forget samples, in which those forgotten count as 0, less that of the lost remain samples at
 * their weight w. `terms` is |judged|; the squares are those of the recognised samples at the same scale. `ids` and the
 * rest are those of `forget`.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` where `forget` has no gradients
 */
export function combinedStore(parts: GradientParts): FisherStore {
  const { forget, recognised, judged, lost, lostCount, weightOfLost } = parts;
  const perTerm = recognised / forget.terms;
  const perLost = lost === null ? 0 : (weightOfLost * lostCount) / lost.terms;
  const away = lost === null ? null : gradientsOf(lost);
  return {
    ...forget,
    terms: judged,
    squares: difference(forget.squares, perTerm, null, 0),
    gradients: difference(gradientsOf(forget), perTerm, away, perLost),
  };
}
