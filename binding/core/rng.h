// Philox4x32-10, a counter-based generator: the same (seed, stream, index) gives the same bits on
// every backend and thread count. Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as
// easy as 1, 2, 3", SC11.
#pragma once

#include <array>
#include <cstdint>

namespace fishermask {

struct PhiloxKey {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
};

// The four 32-bit words of block `block`.
[[nodiscard]] std::array<std::uint32_t, 4> philox(PhiloxKey key, std::uint64_t block) noexcept;
// Word `index` of the stream.
[[nodiscard]] std::uint32_t philox_u32(PhiloxKey key, std::uint64_t index) noexcept;
// Uniform in [0, 1) with 24 bits: the same value in float and double.
[[nodiscard]] float philox_uniform(PhiloxKey key, std::uint64_t index) noexcept;

}  // namespace fishermask
