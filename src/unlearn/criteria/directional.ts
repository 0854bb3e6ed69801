import { defineCriterion } from "../criterion.js";
import { constant, forgetGradient, remainFisher, weight } from "../expression.js";

export const criterion = defineCriterion({
  name: "directional",
  summary: "What zeroing the weight adds to the forget loss, per unit of damage to the rest.",
  source:
    "fishermask; first-order change of the forget loss over the root of the second-order damage",
  formula: "max(0, −θ·g_f) / (|θ|·√F_r + ε)",
  options: { epsilon: 1e-6 },
  score: ({ epsilon }) => {
    const gain = constant(0).max(weight.neg().mul(forgetGradient));
    const damage = weight.abs().mul(remainFisher.sqrt());
    return gain.div(damage.add(epsilon));
  },
});
