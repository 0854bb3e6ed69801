import { FishermaskError } from "../../native/errors.js";
import type { Scope, Unit } from "../../native/masking.js";
import type { CriterionName } from "../../unlearn/criteria.gen.js";
import type { CriterionOptions } from "../../unlearn/criterion.js";
import { type FisherStore, loadFisher, subtractFishers } from "../../unlearn/fisher-store.js";

export interface MaskingOptions {
  readonly criterion?: CriterionName;
  readonly lambda?: number;
  readonly epsilon?: number;
  readonly unit?: Unit;
  readonly scope?: Scope;
  readonly ratio?: number;
  readonly include?: readonly string[];
  readonly exclude?: readonly string[];
}

export function criterionOptions(options: MaskingOptions): CriterionOptions | undefined {
  const { lambda, epsilon } = options;
  if (lambda === undefined && epsilon === undefined) return undefined;
  return {
    ...(lambda === undefined ? {} : { lambda }),
    ...(epsilon === undefined ? {} : { epsilon }),
  };
}

export interface StoredFisherOptions {
  readonly fisherForget?: string;
  readonly fisherRemain?: string;
  readonly fisherAll?: string;
}

export interface StoredFishers {
  readonly forget: FisherStore | null;
  readonly remain: FisherStore | null;
}

/**
 * Reads the stores that the options name; `--fisher-all` gives the remain set's by subtraction.
 *
 * @throws {@link FishermaskError} `ERR_FM_ARGUMENT` for options that do not go together; as `loadFisher`, `subtractFishers`
 */
export async function storedFishers(options: StoredFisherOptions): Promise<StoredFishers> {
  const { fisherForget, fisherRemain, fisherAll } = options;
  if (fisherAll !== undefined && (fisherForget === undefined || fisherRemain !== undefined)) {
    throw new FishermaskError(
      "ERR_FM_ARGUMENT",
      "Expected --fisher-all together with --fisher-forget, without --fisher-remain",
    );
  }
  const forget = fisherForget === undefined ? null : await loadFisher(fisherForget);
  if (fisherAll !== undefined && forget !== null) {
    return { forget, remain: subtractFishers(await loadFisher(fisherAll), forget) };
  }
  return { forget, remain: fisherRemain === undefined ? null : await loadFisher(fisherRemain) };
}
