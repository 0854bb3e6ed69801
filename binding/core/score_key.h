// score_key: an order-preserving u32 of an f32 score: a < b as numbers exactly when key(a) <
// key(b). -0 and +0 share a key. NaN has no place in the order; callers count NaNs before they
// trust keys.
#pragma once

#include <bit>
#include <cstdint>

namespace fishermask {

inline constexpr std::uint32_t kNotEligibleKey = 0x007FFFFFU;  // of -infinity: the smallest

[[nodiscard]] constexpr std::uint32_t score_key(float score) noexcept {
  // -0 + 0 is +0; no other value changes.
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0F);
  const std::uint32_t flip = (bits >> 31U) != 0 ? 0xFFFFFFFFU : 0x80000000U;
  return bits ^ flip;
}

[[nodiscard]] constexpr float score_of_key(std::uint32_t key) noexcept {
  const std::uint32_t flip = (key >> 31U) != 0 ? 0x80000000U : 0xFFFFFFFFU;
  return std::bit_cast<float>(key ^ flip);
}

}  // namespace fishermask
