// What conv_transpose2d's reference and fast kernels share (ops/conv_transpose2d.cc says what the
// op computes).
#pragma once

#include <cstdint>
#include <memory>

#include "core/window.h"
#include "graph/op.h"

namespace fishermask {

struct ConvTransposeSizes {
  // Of the convolution that this one transposes: its `in` is our output, its `out` our input.
  Window window;
  std::int64_t in = 1;  // channels
  std::int64_t out = 1;
  std::int64_t groups = 1;

  [[nodiscard]] std::int64_t in_per_group() const { return in / groups; }
  [[nodiscard]] std::int64_t out_per_group() const { return out / groups; }
  [[nodiscard]] std::int64_t taps() const { return window.rows.kernel * window.columns.kernel; }
  [[nodiscard]] std::int64_t in_positions() const { return window.rows.out * window.columns.out; }
  [[nodiscard]] std::int64_t out_positions() const { return window.rows.in * window.columns.in; }
};

[[nodiscard]] std::unique_ptr<Kernel> make_conv_transpose2d_fast(const ConvTransposeSizes& sizes);

}  // namespace fishermask
