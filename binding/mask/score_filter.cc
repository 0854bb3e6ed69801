#include "mask/score_filter.h"

#include <cmath>
#include <limits>

namespace fishermask {
namespace {

constexpr double kMargin = 0x1p-18;
// What a result that underflows may be off by: half of the smallest denormal number, and a trifle.
constexpr double kUnderflow = 0x1.01p-150;
constexpr double kOwnUnderflow = 0x1p-147;  // the same for the test itself, more than enough

// What a sum of squares is compared with, in units of its count.
struct Bound {
  double slope = 0.0;
  double offset = 0.0;
};

std::optional<ScoreFilter> filter_of(const Bound& bound, float forget_count) {
  const double slope = bound.slope * forget_count;
  const double offset = bound.offset * forget_count;
  constexpr double kLargest = std::numeric_limits<float>::max();
  // A slope that f32 holds as a denormal number is worth nothing: zero is on the safe side.
  constexpr double kSmallest = std::numeric_limits<float>::min();
  if (!(slope < kLargest) || !(std::fabs(offset) < kLargest)) return std::nullopt;
  return ScoreFilter{slope < kSmallest ? 0.0F : static_cast<float>(slope),
                     static_cast<float>(offset - kOwnUnderflow)};
}

}  // namespace

std::optional<ScoreFilter> score_filter(FusedProgram program, const float* constants,
                                        const ScoreInputs& inputs, float low) {
  const bool counts = inputs.forget_count >= 1.0F && inputs.remain_count >= 1.0F;
  if (!std::isfinite(low) || !counts) return std::nullopt;
  const double mark = low - kMargin * std::fabs(low);
  const double remain_count = inputs.remain_count;
  if (program == FusedProgram::kForgetOnly) {
    return filter_of({0.0, mark - kUnderflow}, inputs.forget_count);
  }
  if (program == FusedProgram::kDifference) {
    const double weight = constants[2];
    if (!(weight >= 0.0)) return std::nullopt;
    const Bound bound{weight / remain_count * (1.0 - kMargin), mark - kUnderflow * (weight + 2.0)};
    return filter_of(bound, inputs.forget_count);
  }
  if (program == FusedProgram::kRatio) {
    const double constant = constants[2];
    // Scores of fewer than 24 bits are too coarse for the margin.
    if (!(constant > 0.0) || !(low >= 0x1p-124F)) return std::nullopt;
    const Bound bound{mark / remain_count, mark * (constant - kUnderflow) - kUnderflow};
    return filter_of(bound, inputs.forget_count);
  }
  return std::nullopt;
}

}  // namespace fishermask
