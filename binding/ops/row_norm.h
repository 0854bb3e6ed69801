// The passes over one row of values that are normalised together, in f32: layer_norm and rms_norm
// (ops/layer_norm.cc). Sums run in 16 lanes over stretches of 1024 values, those in f64, so that a
// row's result depends on nothing but the row.
#pragma once

#include <cstdint>

#include "core/norm_sizes.h"

namespace fishermask {

// inv_std = 1/√(Σ (x − mean)²/width + epsilon).
[[nodiscard]] RowStatistics row_statistics(const float* x, std::int64_t width, bool centred,
                                           double epsilon);

// y = (x − mean) · inv_std · weight + bias; weight and bias may be null.
void normalise_row(const float* x, const RowStatistics& row, std::int64_t width,
                   const float* weight, const float* bias, float* y);

struct RowGradient {
  const float* x = nullptr;
  const float* grad_output = nullptr;
  const float* weight = nullptr;  // or null
  std::int64_t width = 0;
};

// grad_input = inv_std · (g − Σ g/width − x̂ · Σ g·x̂/width), g = grad_output · weight, or added to
// it. The middle term only where the row is centred.
void row_input_gradient(const RowGradient& of, const RowStatistics& row, bool centred, bool add,
                        float* grad_input);

// weight_sums += grad_output · x̂, bias_sums += grad_output.
void add_parameter_gradients(const float* x, const float* grad_output, const RowStatistics& row,
                             std::int64_t width, float* weight_sums, float* bias_sums);

}  // namespace fishermask
