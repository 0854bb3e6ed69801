import { definePreset } from "../config.js";

export const preset = definePreset({
  name: "deep",
  summary:
    "Gradients through a linear probe fitted anew each round, so that the features forget; then a new head from a tenth of the remain set.",
  source: "fishermask: docs/method.md says what was measured",
  config: {
    method: "fisher-masking",
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
    unit: "kernel",
    scope: "global",
    include: [],
    exclude: [],
    // The probe stands in its place, and it is fitted anew at the end.
    excludeHead: true,
    selection: {
      kind: "probed",
      ratioPerRound: 0.005,
      maxRatio: 0.08,
      watchSamples: 900,
      occlusion: 0.25,
      lostWeight: 1,
      probeSamples: 200,
      relativeTarget: true,
    },
    target: { accuracy: 0.72, samples: 400 },
    refitHead: 0.1,
    hold: true,
    fineTune: null,
    seed: 0,
  },
});
