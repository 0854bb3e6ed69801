#include "mask/unit_scores.h"

#include <algorithm>
#include <array>

namespace fishermask {
namespace {

// Streams over the elements, so that small units share a block.
void score_means(const ScoreProgram& program, const ScoreSettings& settings, const UnitData& data,
                 std::int64_t elements_per_unit, std::uint64_t first_unit, std::int64_t units,
                 float* scores) {
  std::array<float, ScoreProgram::kBlock> block;
  const std::int64_t last = units * elements_per_unit;
  double sum = 0.0;
  bool any_weight = false;
  std::int64_t filled = 0;
  for (std::int64_t first = 0; first < last; first += ScoreProgram::kBlock) {
    const std::int64_t count = std::min(ScoreProgram::kBlock, last - first);
    program.evaluate(score_inputs(data, settings, elements_per_unit, first_unit, first), count,
                     block.data());
    for (std::int64_t i = 0; i < count; ++i) {
      sum += static_cast<double>(block[static_cast<std::size_t>(i)]);
      any_weight |= data.weight[first + i] != 0.0F;
      if (++filled < elements_per_unit) continue;
      *scores++ = any_weight ? static_cast<float>(sum / static_cast<double>(filled)) : kNotEligible;
      sum = 0.0;
      any_weight = false;
      filled = 0;
    }
  }
}

}  // namespace

ScoreInputs score_inputs(const UnitData& run, const ScoreSettings& settings,
                         std::int64_t elements_per_unit, std::uint64_t first_unit,
                         std::int64_t element) {
  const UnitData data = run.at(element);
  ScoreInputs inputs;
  inputs.forget_sums = data.forget_sums;
  inputs.remain_sums = data.remain_sums;
  inputs.weight = data.weight;
  inputs.forget_gradient_sums = data.forget_gradient_sums;
  inputs.forget_count = static_cast<float>(settings.forget_count);
  inputs.remain_count = static_cast<float>(settings.remain_count);
  inputs.key = settings.key;
  inputs.first_unit = first_unit + static_cast<std::uint64_t>(element / elements_per_unit);
  inputs.unit_offset = element % elements_per_unit;
  inputs.elements_per_unit = elements_per_unit;
  return inputs;
}

void score_unit_run(const ScoreProgram& program, const ScoreSettings& settings,
                    const UnitData& data, std::int64_t elements_per_unit, std::uint64_t first_unit,
                    std::int64_t units, float* scores) {
  if (elements_per_unit == 1) {
    program.evaluate_eligible(score_inputs(data, settings, 1, first_unit, 0), units, scores);
  } else {
    score_means(program, settings, data, elements_per_unit, first_unit, units, scores);
  }
}

void exclude_masked(const KeepMask* previous, std::int64_t first, std::int64_t count,
                    float* scores) {
  if (previous == nullptr) return;
  for (std::int64_t i = 0; i < count; ++i) {
    if (!previous->kept(first + i)) scores[i] = kNotEligible;
  }
}

}  // namespace fishermask
