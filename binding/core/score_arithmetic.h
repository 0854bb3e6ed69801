// The two operations of a score program that are no single machine instruction:
// both as JavaScript has them, NaN if either is NaN (std::fmax would swallow
// it, and it must reach the caller as an error).
#pragma once

#include <bit>
#include <cstdint>

#include "core/vector_clones.h"

namespace fishermask {

// max(-0, +0) = +0
FM_INLINE_IN_CLONES constexpr float score_maximum(float a, float b) {
  const float equal =
      std::bit_cast<float>(std::bit_cast<std::uint32_t>(a) & std::bit_cast<std::uint32_t>(b));
  return a > b ? a : (a < b ? b : (a == b ? equal : a + b));
}

// min(-0, +0) = -0
FM_INLINE_IN_CLONES constexpr float score_minimum(float a, float b) {
  const float equal =
      std::bit_cast<float>(std::bit_cast<std::uint32_t>(a) | std::bit_cast<std::uint32_t>(b));
  return a < b ? a : (a > b ? b : (a == b ? equal : a + b));
}

}  // namespace fishermask
