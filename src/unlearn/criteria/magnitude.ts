import { defineCriterion } from "../criterion.js";
import { weight } from "../expression.js";

/** The largest score is masked first, so the sign makes it the smallest |θ|, as in magnitude pruning. */
export const criterion = defineCriterion({
  name: "magnitude",
  summary: "Baseline that ignores the data: masks the smallest weights first, as pruning does.",
  source: "magnitude pruning, Han et al. 2015, arXiv:1506.02626",
  formula: "−|θ|",
  options: {},
  score: () => weight.abs().neg(),
});
