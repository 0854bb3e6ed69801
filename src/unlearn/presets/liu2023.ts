import { definePreset } from "../config.js";

export const preset = definePreset({
  name: "liu2023",
  summary: "What the code published with the paper does, with its peculiarities.",
  source:
    "Liu, Sun, Wu, Zhou: Unlearning with Fisher Masking, arXiv:2310.05331, and the authors' published code",
  config: {
    method: "fisher-masking",
    // The batch-mean gradient of each class, squared, weighted by the batch's mean probability of that class.
    fisher: {
      labels: "expected",
      gradient: "batch-mean",
      temperature: 1,
      batchSize: 128,
      forgetSamples: null,
      remainSamples: null,
    },
    criterion: "difference",
    criterionOptions: { lambda: 1 },
    unit: "kernel",
    scope: "global",
    include: [],
    exclude: [],
    excludeHead: false,
    selection: { kind: "fixed", ratio: 0.02 },
    target: { samples: null },
    // Their fine-tuning moves all weights: masked ones may grow back.
    hold: false,
    fineTune: null,
    seed: 0,
  },
});
