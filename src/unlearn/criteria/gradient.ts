import { defineCriterion } from "../criterion.js";
import { forgetGradient } from "../expression.js";

export const criterion = defineCriterion({
  name: "gradient",
  summary: "Baseline: masks where the mean gradient of the forget loss is largest.",
  source: "the saliency map of SalUn, Fan et al. 2023, arXiv:2310.12508; here its units are masked",
  formula: "|g_f|",
  options: {},
  score: () => forgetGradient.abs(),
});
