#include "mask/score.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "core/error.h"
#include "core/nan_report.h"
#include "core/parallel.h"
#include "core/vector_clones.h"
#include "mask/unit_scores.h"

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

void check_tensor(const ScoreNeeds& needs, const ScoreTensor& tensor, Unit unit) {
  const std::int64_t units = unit_count(tensor.shape, unit);
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

FM_VECTOR_CLONES std::int64_t count_nan(const float* scores, std::int64_t count) {
  std::int32_t nan = 0;  // a block has at most kBlock of them
  for (std::int64_t i = 0; i < count; ++i) nan += scores[i] != scores[i] ? 1 : 0;
  return nan;
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
    const UnitData all{tensor_.weight, tensor_.forget_sums, tensor_.remain_sums,
                       tensor_.forget_gradient_sums};
    std::int64_t nan_count = 0;
    for (std::int64_t unit = begin; unit < end; unit += ScoreProgram::kBlock) {
      const std::int64_t count = std::min(ScoreProgram::kBlock, end - unit);
      score_unit_run(program_, settings_, all.at(unit * elements_per_unit_), elements_per_unit_,
                     tensor_.first_unit + static_cast<std::uint64_t>(unit), count, scores_ + unit);
      exclude_masked(tensor_.previous_keep, unit, count, scores_ + unit);
      nan_count += count_nan(scores_ + unit, count);
    }
    return nan_count;
  }

  const ScoreProgram& program_;
  const ScoreSettings& settings_;
  const ScoreTensor& tensor_;
  std::int64_t elements_per_unit_;
  float* scores_;
};

}  // namespace

void check_scorable(const ScoreProgram& program, const ScoreSettings& settings,
                    std::span<const ScoreTensor> tensors) {
  const ScoreNeeds& needs = program.needs();
  check_count(needs.forget_fisher || needs.forget_gradient, settings.forget_count, "forget_count");
  check_count(needs.remain_fisher, settings.remain_count, "remain_count");
  for (const ScoreTensor& tensor : tensors) check_tensor(needs, tensor, settings.unit);
}

void compute_scores(const ScoreProgram& program, const ScoreSettings& settings,
                    std::span<const ScoreTensor> tensors,
                    std::span<const std::span<float>> scores) {
  check_scorable(program, settings, tensors);
  FM_CHECK(scores.size() == tensors.size(), ARGUMENT, "Expected ", tensors.size(),
           " score arrays but received ", scores.size());
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const std::int64_t units = unit_count(tensors[t].shape, settings.unit);
    FM_CHECK(static_cast<std::int64_t>(scores[t].size()) == units, ARGUMENT, "Expected room for ",
             units, " scores for tensor ", tensors[t].name, " but received ", scores[t].size());
  }
  NanReport report;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    report.add(tensors[t].name,
               TensorScorer(program, settings, tensors[t], scores[t].data()).run());
  }
  report.fail_if_any();
}

}  // namespace fishermask
