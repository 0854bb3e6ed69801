#include "core/rng.h"

namespace fishermask {
namespace {
constexpr std::uint32_t kMultiplier0 = 0xD2511F53U;
constexpr std::uint32_t kMultiplier1 = 0xCD9E8D57U;
constexpr std::uint32_t kWeyl0 = 0x9E3779B9U;
constexpr std::uint32_t kWeyl1 = 0xBB67AE85U;
constexpr int kRounds = 10;
}  // namespace

std::array<std::uint32_t, 4> philox(PhiloxKey key, std::uint64_t block) noexcept {
  auto c0 = static_cast<std::uint32_t>(block);
  auto c1 = static_cast<std::uint32_t>(block >> 32U);
  auto c2 = static_cast<std::uint32_t>(key.stream);
  auto c3 = static_cast<std::uint32_t>(key.stream >> 32U);
  auto k0 = static_cast<std::uint32_t>(key.seed);
  auto k1 = static_cast<std::uint32_t>(key.seed >> 32U);
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t product0 = static_cast<std::uint64_t>(kMultiplier0) * c0;
    const std::uint64_t product1 = static_cast<std::uint64_t>(kMultiplier1) * c2;
    const auto high0 = static_cast<std::uint32_t>(product0 >> 32U);
    const auto high1 = static_cast<std::uint32_t>(product1 >> 32U);
    c0 = high1 ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(product1);
    c2 = high0 ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(product0);
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return {c0, c1, c2, c3};
}

std::uint32_t philox_u32(PhiloxKey key, std::uint64_t index) noexcept {
  return philox(key, index / 4)[index % 4];
}

float philox_uniform(PhiloxKey key, std::uint64_t index) noexcept {
  return static_cast<float>(philox_u32(key, index) >> 8U) * 0x1p-24F;
}

}  // namespace fishermask
