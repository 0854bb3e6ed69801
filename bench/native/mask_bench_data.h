// What the masking benchmarks mask: one tensor of weights and both Fishers' sums, drawn with
// Philox.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "arguments.h"
#include "core/rng.h"
#include "mask/score.h"

namespace fishermask::bench {

// lognormal: a heavy tail, as Fishers have. equal: every score the same. two-values: two scores,
// half each. sorted, descending: by flat index. denormal: every score subnormal.
enum class Distribution { kLognormal, kEqual, kTwoValues, kSorted, kDescending, kDenormal };

struct MaskBenchSettings {
  std::int64_t params = 0;  // a whole number of units
  double share = 0.0;       // that is masked
  Distribution distribution = Distribution::kLognormal;
  std::string distribution_name;
  Unit unit = Unit::kWeight;
  Shape shape;
  PhiloxKey key;
};

inline constexpr std::int64_t kForgetCount = 5000;
inline constexpr std::int64_t kRemainCount = 45000;

// --params, --ratio, --distribution, --unit, --seed. Errors: ARGUMENT.
[[nodiscard]] MaskBenchSettings mask_settings(const Arguments& arguments);

// F_f / (F_r + 1e-12), the criterion ratio.
[[nodiscard]] const ScoreProgram& ratio_program();

// Fills elements [begin, begin + size) of the three arrays, any of which may be empty.
void draw_weights(const MaskBenchSettings& settings, std::int64_t begin, std::span<float> weight);
void draw_forget(const MaskBenchSettings& settings, std::int64_t begin, std::span<float> forget);
void draw_remain(const MaskBenchSettings& settings, std::int64_t begin, std::span<float> remain);

}  // namespace fishermask::bench
