#include "fisher/cpu_square_sink.h"

#include <algorithm>

#include "fisher/contraction.h"
#include "fisher/reduction.h"
#include "fisher/scatter.h"
#include "fisher/tied.h"

namespace fishermask {
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

void accumulate_one(const SquareTask& task) {
  if (const auto* contraction = std::get_if<ContractionForm>(&task.problem->form)) {
    accumulate_contraction(*contraction, task.sums);
  } else if (const ReductionForm* reduction = reduction_of(task)) {
    accumulate_reduction(*reduction, task.sums);
  } else {
    accumulate_scatter(std::get<ScatterForm>(task.problem->form), task.sums);
  }
}

}  // namespace

void CpuSquareSink::accumulate(std::span<const SquareTask> tasks) {
  std::vector<bool> done(tasks.size(), false);
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const ReductionForm* normalised = reduction_of(tasks[i]);
    if (normalised == nullptr) continue;
    for (std::size_t j = 0; j < tasks.size(); ++j) {
      if (done[i] || done[j] || i == j || !pair_up(*normalised, tasks[j])) continue;
      accumulate_reduction_pair(*normalised, tasks[i].sums, tasks[j].sums);
      done[i] = done[j] = true;
    }
  }
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    if (!done[i]) accumulate_one(tasks[i]);
  }
}

bool CpuSquareSink::accumulate_shared(std::span<const SquareProblem> uses, double* sums) {
  if (uses.size() != 2) return false;
  const ContractionForm* head = nullptr;
  const ScatterForm* embedding = nullptr;
  for (const SquareProblem& use : uses) {
    if (const auto* form = std::get_if<ContractionForm>(&use.form)) head = form;
    if (const auto* form = std::get_if<ScatterForm>(&use.form)) embedding = form;
  }
  if (head == nullptr || embedding == nullptr || !is_tied(*head, *embedding)) return false;
  accumulate_tied(*head, *embedding, sums);
  return true;
}

}  // namespace fishermask
