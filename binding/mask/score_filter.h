// score_filter: a test without divisions for units whose score is surely below a mark.
// Math:   forget_sums < slope * remain_sums + offset, one fused multiply-add and one comparison,
// implies
//         score < low, where remain_sums is not negative. Slope and offset are taken 2^-18 (64
//         roundings) on the safe side, and half of the smallest denormal number for each operation
//         that may underflow, so that no rounding of the score, of the test or of the two numbers
//         can matter. With a NaN among the inputs the test fails.
// Source: ratio:      F/n <  low (R/m + c)    (low > 0, c > 0)
//         difference: F/n <  low + c R/m      (c >= 0)
//         forget:     F/n <  low
#pragma once

#include <optional>

#include "mask/score_program.h"

namespace fishermask {

struct ScoreFilter {
  float slope = 0.0F;
  float offset = 0.0F;
};

// Of the inputs, the counts alone are read. None where the program has no such test, or none for
// this mark (infinities, NaN, marks that are not positive).
[[nodiscard]] std::optional<ScoreFilter> score_filter(FusedProgram program, const float* constants,
                                                      const ScoreInputs& inputs, float low);

}  // namespace fishermask
