import type { Scope, Unit } from "../../native/masking.js";
import type { CriterionName } from "../../unlearn/criteria.gen.js";
import type { CriterionOptions } from "../../unlearn/criterion.js";

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
