import { definePreset } from "../config.js";

export const preset = definePreset({
  name: "prototype",
  summary:
    "Softened logits, directional scores, the head left alone, a little each round until forgotten; what it costs the rest is not looked at.",
  source: "fishermask: docs/method.md says what was measured",
  config: {
    method: "fisher-masking",
    // At T = 1 a trained network's loss is saturated and its Fisher sees only the hard samples.
    fisher: {
      labels: "empirical",
      gradient: "per-sample",
      temperature: 4,
      batchSize: 128,
      forgetSamples: 200,
      remainSamples: 500,
    },
    criterion: "directional",
    criterionOptions: {},
    unit: "weight",
    scope: "global",
    include: [],
    exclude: [],
    // Masking the head hides a class without removing it.
    excludeHead: true,
    selection: { kind: "iterated", ratioPerRound: 0.002, maxRatio: 0.06 },
    target: { accuracy: 0.01, samples: 500 },
    hold: true,
    fineTune: null,
    seed: 0,
  },
});
