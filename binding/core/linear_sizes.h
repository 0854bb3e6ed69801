// The sizes of a linear layer.
#pragma once

#include <cstdint>

#include "core/kernel.h"

namespace fishermask {

// weight (out, in) on the last size of an input of (rows, in) a sample.
struct LinearSizes {
  std::int64_t rows;  // per sample
  std::int64_t in;
  std::int64_t out;
};

// `node` has passed linear's shape rule.
[[nodiscard]] LinearSizes linear_sizes(const NodeSpec& node);

}  // namespace fishermask
