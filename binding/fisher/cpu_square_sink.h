// The CPU's fused squared-gradient kernels, one per form.
#pragma once

#include "fisher/contraction.h"
#include "fisher/reduction.h"
#include "fisher/scatter.h"
#include "graph/square_rule.h"

namespace fishermask {

class CpuSquareSink : public SquareSink {
 public:
  void accumulate(const SquareProblem& problem, double* sums) override {
    if (const auto* contraction = std::get_if<ContractionForm>(&problem.form)) {
      accumulate_contraction(*contraction, sums);
    } else if (const auto* reduction = std::get_if<ReductionForm>(&problem.form)) {
      accumulate_reduction(*reduction, sums);
    } else {
      accumulate_scatter(std::get<ScatterForm>(problem.form), sums);
    }
  }
};

}  // namespace fishermask
