// The scores of a run of neighbouring units, straight from the run's data: what compute_scores does
// tensor by tensor and mask_top_k block by block, so that both give the same bits.
// Math:          mask/score.h.
// Shapes:        data points to units * elements_per_unit values each, null where the program does
//                not read it (weight is always read); scores (units,).
// Deterministic: yes; a unit's sum does not depend on where the run begins or ends.
// Errors:        ARGUMENT on a missing input.
#pragma once

#include <cstdint>

#include "mask/score.h"

namespace fishermask {

// Pointers to the first element of the run.
struct UnitData {
  const float* weight = nullptr;
  const float* forget_sums = nullptr;
  const float* remain_sums = nullptr;
  const float* forget_gradient_sums = nullptr;

  [[nodiscard]] UnitData at(std::int64_t element) const {
    const auto moved = [element](const float* p) { return p == nullptr ? p : p + element; };
    return {moved(weight), moved(forget_sums), moved(remain_sums), moved(forget_gradient_sums)};
  }
};

// first_unit: the network-wide number of the run's first unit, for `uniform`.
// Units whose weights are all zero get kNotEligible; previous keep-masks are
// the caller's.
void score_unit_run(const ScoreProgram& program, const ScoreSettings& settings,
                    const UnitData& data, std::int64_t elements_per_unit, std::uint64_t first_unit,
                    std::int64_t units, float* scores);

// The inputs of the elements from `element` of the run on.
[[nodiscard]] ScoreInputs score_inputs(const UnitData& run, const ScoreSettings& settings,
                                       std::int64_t elements_per_unit, std::uint64_t first_unit,
                                       std::int64_t element);

// Units of [first, first + count) that an earlier keep-mask (or null) masks get
// kNotEligible.
void exclude_masked(const KeepMask* previous, std::int64_t first, std::int64_t count,
                    float* scores);

}  // namespace fishermask
