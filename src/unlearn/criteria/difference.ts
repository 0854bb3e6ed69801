import { defineCriterion } from "../criterion.js";
import { forgetFisher, remainFisher } from "../expression.js";

export const criterion = defineCriterion({
  name: "difference",
  summary: "Masks what matters more to the forget set than to the remain set, by difference.",
  source: "Liu et al. 2023, arXiv:2310.05331 (λ = 1); λ is ours",
  formula: "F_f − λ·F_r",
  options: { lambda: 1 },
  score: ({ lambda }) => forgetFisher.sub(remainFisher.mul(lambda)),
});
