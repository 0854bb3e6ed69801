import { defineCriterion } from "../criterion.js";
import { uniform } from "../expression.js";

export const criterion = defineCriterion({
  name: "random",
  summary: "Baseline: masks units drawn uniformly with the seed.",
  source: "fishermask; the least that any criterion must beat",
  formula: "U[0, 1), one draw per unit",
  options: {},
  score: () => uniform,
});
