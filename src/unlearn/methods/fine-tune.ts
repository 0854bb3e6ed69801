import { FishermaskError } from "../../native/errors.js";
import { fineTune } from "../fine-tune.js";
import { defineMethod } from "../method.js";

export const method = defineMethod({
  name: "fine-tune",
  summary:
    "Goes on training on the remain set alone and hopes that the rest fades: the simplest baseline.",
  source:
    "Golatkar, Achille, Soatto: Eternal Sunshine of the Spotless Net, CVPR 2020 (baseline “fine-tune”)",
  needsFineTune: true,
  run: async (context) => {
    const { fineTune: settings } = context.config;
    if (settings === null) {
      throw new FishermaskError(
        "ERR_FM_CONFIG",
        "Expected fineTune (epochs, learning rate, …) for method fine-tune but received none",
      );
    }
    const fineTuning = await fineTune(context, settings, "Fine-tune");
    const fishers = { forget: null, remain: null };
    return { masks: null, rounds: [], scores: null, fineTuning, fishers, warnings: [] };
  },
});
