import type { LayerInit } from "../layer-options.js";

/** torchvision's convolutions: kaiming_normal_ by the outputs for ReLU, biases 0. */
export const FAN_OUT: LayerInit = {
  weight: { kind: "kaiming-normal", mode: "fan-out", gain: Math.SQRT2 },
  bias: { kind: "zeros" },
};

/** kaiming_normal_ with its own defaults, as torchvision's DenseNet. */
export const FAN_IN: LayerInit = {
  weight: { kind: "kaiming-normal", mode: "fan-in", gain: Math.SQRT2 },
};
