import { definePreset } from "../config.js";

export const preset = definePreset({
  name: "default",
  summary:
    "Softened logits, directional scores, the head left alone, a little each round, kept only where it pays.",
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
    selection: {
      kind: "guarded",
      ratioPerRound: 0.001,
      maxRatio: 0.03,
      watchSamples: 1800,
      occlusion: 0.25,
      recognisedAt: 0.1,
      lostWeight: 0.5,
    },
    target: { accuracy: 0.003, samples: 1000 },
    hold: true,
    fineTune: null,
    seed: 0,
  },
});
