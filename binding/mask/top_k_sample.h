// The marks of mask_top_k: where in the order (score, flat index) the k-th unit should be, and two
// places that it lies between almost surely.
// Math:   strata of equal size, a run of neighbouring units at a jittered (Philox) place in each,
//         so that no period in the data can deceive it. Runs are correlated, so the spread of the
//         count is estimated from the counts per stratum, but never below the binomial one.
// Source: bracketing by order statistics of a sample, Floyd and Rivest 1975 ("Expected time bounds
//         for selection", CACM 18).
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "core/score_key.h"
#include "mask/top_k.h"
#include "mask/top_k_block.h"

namespace fishermask {

// A place in the order: after it come smaller scores, and equal ones of larger
// flat index.
struct TopKMark {
  std::uint32_t key = 0;
  std::int64_t place = 0;  // flat index in the ranking

  // The least score that comes before the mark, for units that follow flat
  // index `flat` closely. Rounding the place to a block's begin leaves the
  // marks in their order.
  [[nodiscard]] float score_at(std::int64_t flat) const {
    return score_of_key(flat < place ? key : key + 1U);
  }
};

inline constexpr std::int64_t kEverywhere = std::numeric_limits<std::int64_t>::max();
inline constexpr TopKMark kBeforeAll{0xFFFFFFFFU, kEverywhere};  // a NaN's key: no score reaches it
inline constexpr TopKMark kAfterAll{kNotEligibleKey + 1U,
                                    kEverywhere};  // every eligible score does

struct TopKBracket {
  TopKMark low = kAfterAll;
  TopKMark guess = kBeforeAll;
  TopKMark high = kBeforeAll;

  [[nodiscard]] TopKMarks at(std::int64_t flat) const {
    return {low.score_at(flat), guess.score_at(flat), high.score_at(flat)};
  }
};

struct TopKSampled {
  std::uint32_t key = 0;
  std::int64_t flat = 0;
};

// sampled: the runs one after the other, run_ends[s] where stratum s ends, at
// least one unit in all. Errors: none.
[[nodiscard]] TopKBracket bracket_of(std::span<const TopKSampled> sampled,
                                     std::span<const std::int64_t> run_ends, double share,
                                     const TopKTuning& tuning);

}  // namespace fishermask
