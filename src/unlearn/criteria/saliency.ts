import { defineCriterion } from "../criterion.js";
import { constant, forgetFisher, remainFisher, weight } from "../expression.js";

export const criterion = defineCriterion({
  name: "saliency",
  summary: "The difference of what zeroing the weight costs to second order on the two sets.",
  source:
    "Optimal Brain Damage (LeCun et al. 1989) with the Fisher as curvature, on both sets; λ is ours",
  formula: "½·θ²·(F_f − λ·F_r)",
  options: { lambda: 1 },
  score: ({ lambda }) =>
    constant(0.5)
      .mul(weight.mul(weight))
      .mul(forgetFisher.sub(remainFisher.mul(lambda))),
});
