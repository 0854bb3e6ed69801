import { defineCriterion } from "../criterion.js";
import { forgetFisher } from "../expression.js";

export const criterion = defineCriterion({
  name: "forget-only",
  summary: "Masks what matters most to the forget set, whatever the rest needs.",
  source: "ablation of Liu et al. 2023, arXiv:2310.05331",
  formula: "F_f",
  options: {},
  score: () => forgetFisher,
});
