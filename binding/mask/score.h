// Scores of units: the mean over a unit's elements of a score program.
// Math:    score[u] = f32( (f64 sum of program(i) over i in u, in index order) / n ).
// Eligible: a unit whose weights are all exactly zero, or whose bit in the previous keep-mask is 0,
//          is not a candidate: its score is kNotEligible (-infinity). A program that yields
//          -infinity by itself is treated likewise.
// Deterministic: bit-identical on any thread count; a unit is summed by one thread.
// Errors:  ARGUMENT (missing input, counts, sizes), MISMATCH (previous keep-mask), NON_FINITE (NaN,
//          naming every tensor that has any and how many).
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "core/rng.h"
#include "core/tensor.h"
#include "mask/keep_mask.h"
#include "mask/score_program.h"
#include "mask/unit.h"

namespace fishermask {

inline constexpr float kNotEligible = -std::numeric_limits<float>::infinity();

// One candidate tensor. Data are contiguous f32 of element_count(shape); null where not needed, but
// weight is always needed, since it says who is eligible.
struct ScoreTensor {
  std::string name;
  Shape shape;
  const float* weight = nullptr;
  const float* forget_sums = nullptr;
  const float* remain_sums = nullptr;
  const float* forget_gradient_sums = nullptr;
  std::uint64_t first_unit = 0;             // units of all tensors before this one
  const KeepMask* previous_keep = nullptr;  // optional
};

struct ScoreSettings {
  Unit unit = Unit::kWeight;
  std::int64_t forget_count = 0;  // samples; > 0 where forget Fisher or gradient is needed
  std::int64_t remain_count = 0;  // samples; > 0 where remain Fisher is needed
  PhiloxKey key;                  // of `uniform`
};

// Errors: ARGUMENT, MISMATCH as above, before any data are read.
void check_scorable(const ScoreProgram& program, const ScoreSettings& settings,
                    std::span<const ScoreTensor> tensors);

// scores[t] is (unit_count(tensors[t].shape, unit),) f32, written whole.
void compute_scores(const ScoreProgram& program, const ScoreSettings& settings,
                    std::span<const ScoreTensor> tensors, std::span<const std::span<float>> scores);

}  // namespace fishermask
