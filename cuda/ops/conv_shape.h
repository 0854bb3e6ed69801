// The sizes of a convolution as the backend's kernels take them.
#pragma once

#include <cstdint>

#include "core/conv_sizes.h"

namespace fishermask::cuda {

// Of the convolution (not the transposed one): x (N, window.in…, in), y (N, window.out…, out), W
// (out, in/groups, K_h, K_w).
struct ConvShape {
  Window window;
  std::int64_t in = 1, out = 1, groups = 1;
  std::int64_t batch = 1;

  [[nodiscard]] std::int64_t in_positions() const { return window.rows.in * window.columns.in; }
  [[nodiscard]] std::int64_t out_positions() const { return window.rows.out * window.columns.out; }
};

// What follows the sum: + bias, + what was there, + residual, max(·, 0).
struct ConvEnding {
  const float* bias = nullptr;      // or null
  const float* residual = nullptr;  // or null
  bool add = false;
  bool relu = false;
};

}  // namespace fishermask::cuda
