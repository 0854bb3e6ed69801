// A batch as the caller holds it, and its way into an executor: u8 pixels are normalised here, in
// parallel.
#pragma once

#include <cstdint>
#include <vector>

#include "core/device.h"
#include "core/tensor.h"

namespace fishermask {

// value = (raw / divisor − mean[c]) / std[c] in f32, c along the last size: the order of operations
// of torchvision, so that logits agree to the bit of the input. Empty mean: no normalisation but
// the divisor.
struct Normalisation {
  float divisor = 1.0F;
  std::vector<float> mean;
  std::vector<float> std;
};

struct BatchData {
  TensorView view;  // u8, f32, f64 or i32; shape (N, …) as the graph's input
  Normalisation normalisation;
};

// Converts into the executor's input, which is in the device's memory (null: the host's). Errors:
// SHAPE, DTYPE, ARGUMENT (normalisation of the wrong length or std 0).
void write_batch(const BatchData& batch, const TensorView& input, Device* device = nullptr);

}  // namespace fishermask
