// Philox4x32-10 on the device: the words of core/rng.h, bit for bit, on the host and on the device.
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/rng.h"

namespace fishermask::cuda {

struct PhiloxWords {
  std::uint32_t x = 0, y = 0, z = 0, w = 0;
};

// The four 32-bit words of block `block`: fishermask::philox.
__host__ __device__ inline PhiloxWords philox_words(PhiloxKey key, std::uint64_t block) {
  constexpr std::uint32_t kMultiplier0 = 0xD2511F53U;
  constexpr std::uint32_t kMultiplier1 = 0xCD9E8D57U;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9U;
  constexpr std::uint32_t kWeyl1 = 0xBB67AE85U;
  constexpr int kRounds = 10;
  auto c0 = static_cast<std::uint32_t>(block);
  auto c1 = static_cast<std::uint32_t>(block >> 32U);
  auto c2 = static_cast<std::uint32_t>(key.stream);
  auto c3 = static_cast<std::uint32_t>(key.stream >> 32U);
  auto k0 = static_cast<std::uint32_t>(key.seed);
  auto k1 = static_cast<std::uint32_t>(key.seed >> 32U);
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t product0 = static_cast<std::uint64_t>(kMultiplier0) * c0;
    const std::uint64_t product1 = static_cast<std::uint64_t>(kMultiplier1) * c2;
    c0 = static_cast<std::uint32_t>(product1 >> 32U) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(product1);
    c2 = static_cast<std::uint32_t>(product0 >> 32U) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(product0);
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return {c0, c1, c2, c3};
}

__host__ __device__ inline std::uint32_t philox_word(const PhiloxWords& words, unsigned i) {
  return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
}

// Word `index` of the stream: fishermask::philox_u32.
__host__ __device__ inline std::uint32_t philox_word_at(PhiloxKey key, std::uint64_t index) {
  return philox_word(philox_words(key, index / 4), static_cast<unsigned>(index % 4));
}

// Uniform in [0, 1) with 24 bits from one word: fishermask::philox_uniform of that word.
__host__ __device__ inline float uniform_of_word(std::uint32_t word) {
  return static_cast<float>(word >> 8U) * 0x1p-24F;
}
__host__ __device__ inline float uniform_at(PhiloxKey key, std::uint64_t index) {
  return uniform_of_word(philox_word_at(key, index));
}

}  // namespace fishermask::cuda
