// Histograms of score keys, filled in parallel, and the walk down to the bucket that holds the
// wanted-th largest key.
// Deterministic: every thread fills its own counts; integer sums do not care in which order they
// meet.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "core/parallel.h"

namespace fishermask {

using KeyHistogram = std::vector<std::int64_t>;

// Of 16 bits of the key: two histograms decide it.
inline constexpr std::int64_t kKeyBuckets = 1 << 16;

// count(begin, end, counts) adds what items begin..end hold; `grain` items at least go together.
template <typename Count>
[[nodiscard]] KeyHistogram parallel_histogram(std::int64_t items, std::int64_t grain,
                                              std::int64_t buckets, const Count& count) {
  KeyHistogram total(static_cast<std::size_t>(buckets), 0);
  std::mutex mutex;
  parallel_for(items, grain, [&](std::int64_t begin, std::int64_t end) {
    KeyHistogram own(total.size(), 0);
    count(begin, end, own);
    const std::lock_guard lock(mutex);
    std::transform(total.begin(), total.end(), own.begin(), total.begin(), std::plus<>());
  });
  return total;
}

// The bucket of the wanted-th largest key; `wanted` becomes the rank inside it. The counts hold at
// least so many.
[[nodiscard]] inline std::size_t boundary_bucket(const KeyHistogram& counts, std::int64_t& wanted) {
  std::size_t bucket = counts.size() - 1;
  while (counts[bucket] < wanted) wanted -= counts[bucket--];
  return bucket;
}

}  // namespace fishermask
