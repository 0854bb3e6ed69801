// Division of 31-bit integers by a divisor that the host knows, as a multiplication. Source:
// Granlund and Montgomery, Division by Invariant Integers using Multiplication, PLDI 1994.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/error.h"

namespace fishermask::cuda {

struct FastDivide {
  std::uint32_t divisor = 1, factor = 0, shift = 0;

  FastDivide() = default;
  // divisor in [1, 2^31).
  explicit FastDivide(std::int64_t by) : divisor(static_cast<std::uint32_t>(by)) {
    FM_CHECK(by >= 1 && by < std::int64_t{1} << 31U, INTERNAL, "a division by ", by);
    while ((std::uint64_t{1} << shift) < divisor) ++shift;
    factor = static_cast<std::uint32_t>(
        (std::uint64_t{1} << 32U) * ((std::uint64_t{1} << shift) - divisor) / divisor + 1);
  }
  // value in [0, 2^31).
  __device__ __forceinline__ int quotient(int value) const {
    const auto v = static_cast<std::uint32_t>(value);
    return static_cast<int>((__umulhi(v, factor) + v) >> shift);
  }
};

}  // namespace fishermask::cuda
