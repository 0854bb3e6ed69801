/** The plots of the report: each a stand-alone SVG string, or null when there is nothing to draw. */
export { plotClasses } from "./plot-classes.js";
export { plotFineTuning } from "./plot-fine-tuning.js";
export { plotRounds } from "./plot-rounds.js";
export { plotScores } from "./plot-scores.js";
export { plotTensors } from "./plot-tensors.js";
