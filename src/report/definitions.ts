/** Every measure of the report in one line: [term, meaning]. */
export const DEFINITIONS: readonly (readonly [string, string])[] = [
  [
    "Forget set",
    "The training samples that the network was asked to forget; “forget test” are the held-out samples of the same kind.",
  ],
  [
    "Remain set",
    "All other samples. Good unlearning leaves the network as right on them as it was.",
  ],
  [
    "Accuracy",
    "Share of samples whose most likely class is the label. Lower is better on the forget set, higher on the remain set.",
  ],
  [
    "Loss",
    "Mean cross-entropy in nats per training sample: how surprised the network is by the right label. It rises on what is forgotten.",
  ],
  [
    "Linear probe",
    "Test accuracy of a fresh linear classifier trained on the features before the head. High on a forgotten class: the class is hidden at the output, but the features still tell it apart.",
  ],
  [
    "Probe of the round",
    "A linear classifier fitted anew in each round on the features as they were then, and tested on the samples that the stopping rule looks at; it steers the masking and is thrown away.",
  ],
  [
    "Masked only",
    "The network after the chosen units were set to zero, before a new head and any fine-tuning.",
  ],
  [
    "Retrained",
    "A network trained from the start without the forget set: what perfect forgetting would look like.",
  ],
  [
    "Unit",
    "What is masked as one: a weight (one number), a kernel (one slice of a convolution) or a filter (one output channel or row).",
  ],
  [
    "Candidates",
    "The units that could have been chosen, after include and exclude; every share of masked units is a share of these.",
  ],
  [
    "Criterion",
    "The rule that turns the Fisher information on both sets, and the weights, into one score per unit; the largest scores are masked.",
  ],
  ["Threshold", "The smallest score that was masked in the last selection."],
  [
    "Round",
    "One pass of scoring and masking; the Fisher information is taken anew in each, until the stopping rule or the limit ends it.",
  ],
  ["Points", "Percentage points: the difference of two percentages."],
];
