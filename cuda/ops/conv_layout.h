// What a library's convolution leaves to do: its order of weights, and the ending.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace fishermask::cuda {

// (outputs, inputs, taps), as the engine keeps weights, and (outputs, taps, inputs), as libraries
// want them beside channels-last tensors. `inputs` are one group's.
struct WeightOrder {
  std::int64_t outputs = 1, inputs = 1, taps = 1;

  [[nodiscard]] constexpr std::int64_t count() const { return outputs * inputs * taps; }
  [[nodiscard]] bool same() const { return taps == 1 || inputs == 1; }
};

// to (outputs, taps, inputs) = from (outputs, inputs, taps).
void order_channels_last(cudaStream_t stream, const WeightOrder& order, const float* from,
                         float* to);
// to (outputs, inputs, taps) += from (outputs, taps, inputs).
void add_channels_last(cudaStream_t stream, const WeightOrder& order, const float* from, float* to);

// y (rows, channels) = max(y + bias + residual, 0), of which each but y may be missing. Its
// elements are fewer than 2^31.
struct ConvEndingPass {
  float* y = nullptr;
  const float* bias = nullptr;
  const float* residual = nullptr;
  bool relu = false;
  std::int64_t rows = 0, channels = 1;

  [[nodiscard]] bool nothing() const { return bias == nullptr && residual == nullptr && !relu; }
};
void end_convolution(cudaStream_t stream, const ConvEndingPass& pass);

}  // namespace fishermask::cuda
