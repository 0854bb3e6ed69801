// How scores are distributed, for reports: counts per bin, and how many of each bin are masked.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mask/keep_mask.h"

namespace fishermask {

struct ScoreHistogram {
  std::vector<double> edges;         // (bins + 1,), ascending; the last bin includes its upper edge
  std::vector<std::int64_t> counts;  // (bins,)
  std::vector<std::int64_t> masked_counts;  // (bins,)
};

// Over the finite scores. Where no score is negative, the bins are a first one from 0 and then
// logarithmic ones over the 8 decades below the largest score (scores of a Fisher spread that far);
// else linear from the smallest to the largest. No finite score: everything empty. Errors: ARGUMENT
// for fewer than 2 bins, MISMATCH between scores and masks.
[[nodiscard]] ScoreHistogram score_histogram(std::span<const std::span<const float>> scores,
                                             std::span<const KeepMask> masks, int bins);

}  // namespace fishermask
