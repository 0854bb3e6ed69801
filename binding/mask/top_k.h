// mask_top_k: scores, selects and masks in one pass: the inputs are read once, the weights written
// in place, and no array of scores is kept.
// Result:    the same masks, rankings and errors as compute_scores followed by select_top_k or
//            select_ratio, bit for bit, for every unit, scope and thread count.
// Order:     (score, flat index), largest score first, then smallest index: all units differ, so
//            that ties need no case of their own.
// Algorithm: per ranking
//            1. a stratified, jittered sample places three marks in that order: one where the k-th
//               unit should be (the guess), and two that it lies between almost surely;
//            2. one pass over the segments scores a block at a time in L1. What comes before the
//               upper mark is masked for good; what lies between the marks is remembered as a
//               candidate, and masked already where it comes before the guess;
//            3. the candidates decide exactly; those on the wrong side of the guess are corrected.
//            Where the sample misled (the k-th unit is not between the marks, or too many are), the
//            ranking's weights are put back and histograms of the key bits find the threshold:
//            two passes that count, one that masks, and part of one for ties.
// Workspace: 1 bit per unit, 4 bytes per masked weight (to put it back), 8 bytes per candidate (at
//            most 1/8 of the ranking's units + 196608), some 150 bytes per segment of 32768
//            weights, 2 MiB for the sample; 512 KiB per thread when the sample misled.
// Errors:    as compute_scores and select_ratio; ABORTED when control asks for it. The weights are
//            as before then, bit for bit.
// Deterministic: yes; bit-identical on any thread count.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mask/score.h"
#include "mask/select.h"

namespace fishermask {

// One candidate tensor; data as in ScoreTensor, but the weights are changed.
struct TopKTensor {
  std::string name;
  Shape shape;
  float* weight = nullptr;
  const float* forget_sums = nullptr;
  const float* remain_sums = nullptr;
  const float* forget_gradient_sums = nullptr;
  std::uint64_t first_unit = 0;             // units of all tensors before this one
  const KeepMask* previous_keep = nullptr;  // optional
  std::int64_t group = 0;                   // read for Scope::kLayer alone
};

// How much to mask: exactly k units in one ranking over all tensors, or a share
// of each ranking.
struct TopKAmount {
  std::optional<std::int64_t> k;
  double ratio = 0.0;            // where k is not given
  Scope scope = Scope::kGlobal;  // of ratio
};

// Shared with another thread while the work runs; both may be null.
struct TopKControl {
  const std::int32_t* cancel = nullptr;  // not 0: stop
  std::int32_t* per_mille = nullptr;     // how far the work is, 0..1000
};

// Sizes of the algorithm. The defaults were measured (docs/masking.md); tests
// change them to reach every path on small tensors. No value changes a result.
struct TopKTuning {
  std::int64_t segment_elements = 1 << 18;  // long runs: 2^15 takes a tenth longer, 2^20 4 % less
  std::int64_t strata = 1 << 12;
  std::int64_t run = 16;  // neighbouring units drawn per stratum: they share cache lines
  double sigmas = 6.0;    // of the sample's count, to either side: misses 1 ranking in 5e8
  double slack = 8.0;     // sampled units added to that, for counts too small to be normal
  std::int64_t least_sampled = 1 << 16;  // rankings of at most this many units take all of them
  std::int64_t candidate_divisor = 8;    // of the units; more candidates than that: give up
};

// What one ranking took.
struct TopKWork {
  std::int64_t candidates = 0;
  bool bracket_missed = false;
  double passes = 0.0;  // over the inputs; sampling not counted
};

struct TopKResult {
  Selection selection;
  std::vector<TopKWork> work;                  // one per ranking
  std::vector<std::vector<float>> old_values;  // per tensor, as apply_keep_mask gives them
};

// old_values are kept only where asked for.
[[nodiscard]] TopKResult mask_top_k(const ScoreProgram& program, const ScoreSettings& settings,
                                    std::span<const TopKTensor> tensors, const TopKAmount& amount,
                                    bool keep_old_values = false, const TopKControl& control = {},
                                    const TopKTuning& tuning = {});

}  // namespace fishermask
