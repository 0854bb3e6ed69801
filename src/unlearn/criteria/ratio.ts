import { defineCriterion } from "../criterion.js";
import { forgetFisher, remainFisher } from "../expression.js";

export const criterion = defineCriterion({
  name: "ratio",
  summary: "Masks what matters to the forget set relative to how much it matters to the rest.",
  source:
    "Foster et al. 2023 (Selective Synaptic Dampening), arXiv:2308.07707: the ratio that it thresholds; ε is ours",
  formula: "F_f / (F_r + ε)",
  options: { epsilon: 1e-12 },
  score: ({ epsilon }) => forgetFisher.div(remainFisher.add(epsilon)),
});
