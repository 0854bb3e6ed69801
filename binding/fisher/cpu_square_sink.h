// The CPU's fused squared-gradient kernels, one per form.
#pragma once

#include "core/square_rule.h"

namespace fishermask {

class CpuSquareSink : public SquareSink {
 public:
  void accumulate(std::span<const SquareTask> tasks) override;
  // An embedding tied to a linear head.
  [[nodiscard]] bool accumulate_shared(std::span<const SquareProblem> uses, double* sums) override;
};

}  // namespace fishermask
