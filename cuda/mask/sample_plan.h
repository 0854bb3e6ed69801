// Where the sample of a masking lies: one word (32 neighbouring units) at a jittered place in each
// of some strata of equal size, so that no period in the data can deceive it. Shared by the kernel
// that draws it and by tests that mislead it.
#pragma once

#include <cstdint>

#include "core/rng.h"

namespace fishermask::cuda {

// Rankings of at most this many units take no sample: all of them are candidates.
inline constexpr std::int64_t kLeastSampled = 1 << 16;
inline constexpr int kMostStrata = 1024;
inline constexpr std::int64_t kSampledShare = 64;   // of the words, 1/64 at most
inline constexpr PhiloxKey kJitter{0x746f706b, 0};  // any: results do not depend on it

// Candidates that there is room for: the rest of a quick amount, and a share of the units.
inline constexpr std::int64_t kLeastCandidates = 1 << 17;
inline constexpr std::int64_t kCandidateDivisor = 8;

[[nodiscard]] constexpr int sample_strata(std::int64_t words) {
  const std::int64_t strata = words / kSampledShare;
  return strata < 1 ? 1 : strata > kMostStrata ? kMostStrata : static_cast<int>(strata);
}

// jitter: word `stratum` of the stream kJitter.
[[nodiscard]] constexpr std::int64_t sampled_word(std::int64_t words, int strata, int stratum,
                                                  std::uint32_t jitter) {
  // i · words / strata without overflow.
  const std::int64_t begin = words / strata * stratum + words % strata * stratum / strata;
  const std::int64_t end = words / strata * (stratum + 1) + words % strata * (stratum + 1) / strata;
  // 31 bits of jitter and 32 of width fit 63.
  return begin + static_cast<std::int64_t>(jitter >> 1U) * (end - begin) / (std::int64_t{1} << 31U);
}

}  // namespace fishermask::cuda
