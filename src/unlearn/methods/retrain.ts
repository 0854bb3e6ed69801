import { initialize } from "../../model/initialize.js";
import { FishermaskError } from "../../native/errors.js";
import { fineTune } from "../fine-tune.js";
import { defineMethod } from "../method.js";

export const method = defineMethod({
  name: "retrain",
  summary:
    "Trains the architecture anew on the remain set: what every other method is held against.",
  source: "The definition of exact unlearning",
  needsFineTune: true,
  run: async (context) => {
    const { fineTune: settings, seed } = context.config;
    if (settings === null) {
      throw new FishermaskError(
        "ERR_FM_CONFIG",
        "Expected fineTune (epochs, learning rate, …) for method retrain but received none",
      );
    }
    await context.network.setParameters(initialize(context.model.graph, seed));
    const fineTuning = await fineTune(context, settings, "Retrain");
    const fishers = { forget: null, remain: null };
    return { masks: null, rounds: [], scores: null, fineTuning, fishers, warnings: [] };
  },
});
