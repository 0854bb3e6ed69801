#include "mask/score.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "core/vector_clones.h"
#include "mask/nan_report.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrainElements = 1 << 15;  // smaller pieces cost more to hand out than to do

void check_count(bool needed, std::int64_t count, const char* name) {
  FM_CHECK(!needed || count > 0, ARGUMENT, "Expected a positive number of samples for ", name,
           " but received ", count);
}

void check_input(bool needed, const float* data, ScoreOp op, const ScoreTensor& tensor) {
  FM_CHECK(!needed || data != nullptr, ARGUMENT, "Expected ", score_op_name(op), " for tensor ",
           tensor.name, " but received none");
}

void check_tensor(const ScoreNeeds& needs, const ScoreTensor& tensor, Unit unit,
                  std::size_t score_count) {
  const std::int64_t units = unit_count(tensor.shape, unit);
  FM_CHECK(static_cast<std::int64_t>(score_count) == units, ARGUMENT, "Expected room for ", units,
           " scores for tensor ", tensor.name, " but received ", score_count);
  if (units > 0) {  // an empty tensor may well have no memory
    check_input(true, tensor.weight, ScoreOp::kWeight, tensor);
    check_input(needs.forget_fisher, tensor.forget_sums, ScoreOp::kForgetFisher, tensor);
    check_input(needs.remain_fisher, tensor.remain_sums, ScoreOp::kRemainFisher, tensor);
    check_input(needs.forget_gradient, tensor.forget_gradient_sums, ScoreOp::kForgetGradient,
                tensor);
  }
  FM_CHECK(tensor.previous_keep == nullptr || tensor.previous_keep->units == units, MISMATCH,
           "Expected ", units, " units for the previous keep-mask of tensor ", tensor.name,
           " but received ", tensor.previous_keep->units);
}

// The inputs of the block that starts at `element` of the tensor.
ScoreInputs inputs_at(const ScoreTensor& tensor, const ScoreSettings& settings,
                      std::int64_t elements_per_unit, std::int64_t element) {
  const auto at = [element](const float* data) { return data == nullptr ? data : data + element; };
  ScoreInputs inputs;
  inputs.forget_sums = at(tensor.forget_sums);
  inputs.remain_sums = at(tensor.remain_sums);
  inputs.weight = at(tensor.weight);
  inputs.forget_gradient_sums = at(tensor.forget_gradient_sums);
  inputs.forget_count = static_cast<float>(settings.forget_count);
  inputs.remain_count = static_cast<float>(settings.remain_count);
  inputs.key = settings.key;
  inputs.first_unit = tensor.first_unit + static_cast<std::uint64_t>(element / elements_per_unit);
  inputs.unit_offset = element % elements_per_unit;
  inputs.elements_per_unit = elements_per_unit;
  return inputs;
}

FM_VECTOR_CLONES void exclude_zero_weights(const float* __restrict weight, std::int64_t count,
                                           float* __restrict scores) {
  for (std::int64_t i = 0; i < count; ++i) {
    scores[i] = weight[i] == 0.0F ? kNotEligible : scores[i];
  }
}

FM_VECTOR_CLONES std::int64_t count_nan(const float* scores, std::int64_t count) {
  std::int32_t nan = 0;  // a block has at most kBlock of them
  for (std::int64_t i = 0; i < count; ++i) nan += scores[i] != scores[i] ? 1 : 0;
  return nan;
}

void exclude_masked(const KeepMask* previous, std::int64_t begin, std::int64_t end, float* scores) {
  if (previous == nullptr) return;
  for (std::int64_t unit = begin; unit < end; ++unit) {
    if (!previous->kept(unit)) scores[unit] = kNotEligible;
  }
}

class TensorScorer {
 public:
  TensorScorer(const ScoreProgram& program, const ScoreSettings& settings,
               const ScoreTensor& tensor, float* scores)
      : program_(program),
        settings_(settings),
        tensor_(tensor),
        elements_per_unit_(elements_per_unit(tensor.shape, settings.unit)),
        scores_(scores) {}

  // Returns the number of NaNs among the eligible units.
  [[nodiscard]] std::int64_t run() const {
    std::atomic<std::int64_t> nan_count = 0;
    const std::int64_t grain = std::max<std::int64_t>(kGrainElements / elements_per_unit_, 1);
    parallel_for(
        unit_count(tensor_.shape, settings_.unit), grain,
        [&](std::int64_t begin, std::int64_t end) { nan_count += score_units(begin, end); });
    return nan_count;
  }

 private:
  [[nodiscard]] std::int64_t score_units(std::int64_t begin, std::int64_t end) const {
    if (elements_per_unit_ > 1) mean_units(begin, end);
    std::int64_t nan_count = 0;
    for (std::int64_t unit = begin; unit < end; unit += ScoreProgram::kBlock) {
      const std::int64_t count = std::min(ScoreProgram::kBlock, end - unit);
      if (elements_per_unit_ == 1) single_weights(unit, count);
      exclude_masked(tensor_.previous_keep, unit, unit + count, scores_);
      nan_count += count_nan(scores_ + unit, count);
    }
    return nan_count;
  }

  void single_weights(std::int64_t first, std::int64_t count) const {
    program_.evaluate(inputs_at(tensor_, settings_, 1, first), count, scores_ + first);
    exclude_zero_weights(tensor_.weight + first, count, scores_ + first);
  }

  // Streams over the elements of [begin, end), so that small units share a block.
  void mean_units(std::int64_t begin, std::int64_t end) const {
    std::array<float, ScoreProgram::kBlock> block;
    const std::int64_t last = end * elements_per_unit_;
    double sum = 0.0;
    bool any_weight = false;
    std::int64_t filled = 0;
    float* next = scores_ + begin;
    for (std::int64_t first = begin * elements_per_unit_; first < last;
         first += ScoreProgram::kBlock) {
      const std::int64_t count = std::min(ScoreProgram::kBlock, last - first);
      program_.evaluate(inputs_at(tensor_, settings_, elements_per_unit_, first), count,
                        block.data());
      for (std::int64_t i = 0; i < count; ++i) {
        sum += static_cast<double>(block[static_cast<std::size_t>(i)]);
        any_weight |= tensor_.weight[first + i] != 0.0F;
        if (++filled < elements_per_unit_) continue;
        *next++ = any_weight ? static_cast<float>(sum / static_cast<double>(filled)) : kNotEligible;
        sum = 0.0;
        any_weight = false;
        filled = 0;
      }
    }
  }

  const ScoreProgram& program_;
  const ScoreSettings& settings_;
  const ScoreTensor& tensor_;
  std::int64_t elements_per_unit_;
  float* scores_;
};

}  // namespace

void compute_scores(const ScoreProgram& program, const ScoreSettings& settings,
                    std::span<const ScoreTensor> tensors,
                    std::span<const std::span<float>> scores) {
  const ScoreNeeds& needs = program.needs();
  check_count(needs.forget_fisher || needs.forget_gradient, settings.forget_count, "forget_count");
  check_count(needs.remain_fisher, settings.remain_count, "remain_count");
  FM_CHECK(scores.size() == tensors.size(), ARGUMENT, "Expected ", tensors.size(),
           " score arrays but received ", scores.size());
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    check_tensor(needs, tensors[t], settings.unit, scores[t].size());
  }
  NanReport report;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    report.add(tensors[t].name,
               TensorScorer(program, settings, tensors[t], scores[t].data()).run());
  }
  report.fail_if_any();
}

}  // namespace fishermask
