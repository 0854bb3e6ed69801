// The fused squared-gradient kernels of the device, one per form of core/square_rule.h.
#include <vector>

#include "common/parts.h"
#include "fisher/contraction.h"
#include "fisher/reduction.h"
#include "fisher/scatter.h"
#include "fisher/tied.h"

namespace fishermask::cuda {
namespace {

const ReductionForm* reduction_of(const SquareTask& task) {
  return std::get_if<ReductionForm>(&task.problem->form);
}

// Whether `plain` sums the δ that `normalised` weighs: a norm's shift and its scale.
bool pair_up(const ReductionForm& normalised, const SquareTask& other) {
  const ReductionForm* plain = reduction_of(other);
  return normalised.input != nullptr && plain != nullptr && plain->input == nullptr &&
         plain->grad_output == normalised.grad_output && plain->batch == normalised.batch &&
         plain->positions == normalised.positions && plain->channels == normalised.channels;
}

class CudaSquareSink final : public SquareSink {
 public:
  explicit CudaSquareSink(Backend& backend) : backend_(backend) {}

  void accumulate(std::span<const SquareTask> tasks) override {
    std::vector<bool> done(tasks.size(), false);
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      const ReductionForm* normalised = reduction_of(tasks[i]);
      if (normalised == nullptr) continue;
      for (std::size_t j = 0; j < tasks.size(); ++j) {
        if (done[i] || done[j] || i == j || !pair_up(*normalised, tasks[j])) continue;
        accumulate_reduction_pair(backend_, *normalised, tasks[i].sums, tasks[j].sums);
        done[i] = done[j] = true;
      }
    }
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      if (!done[i]) accumulate_one(tasks[i]);
    }
  }

  // An embedding tied to a linear head.
  [[nodiscard]] bool accumulate_shared(std::span<const SquareProblem> uses, double* sums) override {
    if (uses.size() != 2) return false;
    const ContractionForm* head = nullptr;
    const ScatterForm* embedding = nullptr;
    for (const SquareProblem& use : uses) {
      if (const auto* form = std::get_if<ContractionForm>(&use.form)) head = form;
      if (const auto* form = std::get_if<ScatterForm>(&use.form)) embedding = form;
    }
    if (head == nullptr || embedding == nullptr || !is_tied(*head, *embedding)) return false;
    accumulate_tied(backend_, *head, *embedding, sums);
    return true;
  }

 private:
  void accumulate_one(const SquareTask& task) {
    if (const auto* contraction = std::get_if<ContractionForm>(&task.problem->form)) {
      accumulate_contraction(backend_, *contraction, task.sums);
    } else if (const ReductionForm* reduction = reduction_of(task)) {
      accumulate_reduction(backend_, *reduction, task.sums);
    } else {
      accumulate_scatter(backend_, std::get<ScatterForm>(task.problem->form), task.sums);
    }
  }

  Backend& backend_;
};

}  // namespace

std::unique_ptr<SquareSink> make_square_sink(Backend& backend) {
  return std::make_unique<CudaSquareSink>(backend);
}

}  // namespace fishermask::cuda
