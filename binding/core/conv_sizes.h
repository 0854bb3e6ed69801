// The sizes of a convolution and of a transposed one, from a node, checked once.
#pragma once

#include <cstdint>

#include "core/window.h"

namespace fishermask {

struct ConvSizes {
  Window window;
  std::int64_t in = 1;  // channels
  std::int64_t out = 1;
  std::int64_t groups = 1;

  [[nodiscard]] std::int64_t in_per_group() const { return in / groups; }
  [[nodiscard]] std::int64_t out_per_group() const { return out / groups; }
};

// Errors: GRAPH where input, weight (O, I/groups, K_h, K_w), groups or the window do not fit.
[[nodiscard]] ConvSizes conv_sizes(const NodeSpec& node);

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

// Errors: GRAPH where input, weight (I, O/groups, K_h, K_w), groups, padding or output_padding do
// not fit.
[[nodiscard]] ConvTransposeSizes conv_transpose_sizes(const NodeSpec& node);

}  // namespace fishermask
