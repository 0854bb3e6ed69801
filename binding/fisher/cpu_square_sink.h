// The CPU's fused squared-gradient kernels, one per form.
#pragma once

#include "fisher/contraction.h"
#include "fisher/reduction.h"
#include "graph/square_rule.h"

namespace fishermask {

class CpuSquareSink : public SquareSink {
 public:
  void accumulate(const SquareProblem& problem, double* sums) override {
    if (const auto* contraction = std::get_if<ContractionForm>(&problem.form)) {
      accumulate_contraction(*contraction, sums);
    } else {
      accumulate_reduction(std::get<ReductionForm>(problem.form), sums);
    }
  }
};

}  // namespace fishermask
