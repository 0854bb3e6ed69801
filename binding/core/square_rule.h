// The forms that a per-sample gradient takes. An op describes its parameters' gradients in these
// words; the fisher room (and its CUDA twin) has one fused kernel per form that squares and sums
// without storing N gradients. A parameter that no form describes takes the generic rule: one
// sample at a time.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace fishermask {

// Convolution, and linear as its 1×1 case: with o in group g = o / (O/groups),
//   G_n[o, i, kh, kw] = Σ_(y,x) δ[n, y, x, o] · a[n, y·stride_h − pad_top + kh·dilation_h, …,
//   g·I/groups + i]
// with a = 0 outside the image. Linear on vectors: 1×1 positions; on sequences: height 1, width T.
struct ContractionForm {
  const float* grad_output = nullptr;  // (N, out_height, out_width, O)
  const float* input = nullptr;        // (N, in_height, in_width, I)
  std::int64_t batch = 0;
  std::int64_t in_height = 1, in_width = 1, in_channels = 1;
  std::int64_t out_height = 1, out_width = 1, out_channels = 1;
  std::int64_t kernel_height = 1, kernel_width = 1;
  std::int64_t stride_height = 1, stride_width = 1;
  std::int64_t pad_top = 0, pad_left = 0;
  std::int64_t dilation_height = 1, dilation_width = 1;
  std::int64_t groups = 1;
};

// Bias, norm scale and shift: G_n[c] = Σ_p δ[n, p, c] · f[n, p, c] with f = 1 (input null) or
// f = (input[n, p, c] − mean[c]) · inv_std[c].
struct ReductionForm {
  const float* grad_output = nullptr;  // (N, positions, C)
  const float* input = nullptr;        // (N, positions, C) or null
  const float* mean = nullptr;         // (C,), with input
  const float* inv_std = nullptr;      // (C,), with input
  std::int64_t batch = 0;
  std::int64_t positions = 1;
  std::int64_t channels = 1;
};

// Embedding: G_n[v, c] = Σ_(p: ids[n, p] = v) δ[n, p, c]. A negative id is padding and touches no
// row.
struct ScatterForm {
  const float* grad_output = nullptr;  // (N, positions, C)
  const std::int32_t* ids = nullptr;   // (N, positions), below rows
  std::int64_t batch = 0;
  std::int64_t positions = 1;
  std::int64_t channels = 1;
  std::int64_t rows = 1;  // V
};

struct SquareProblem {
  std::string slot;  // which parameter of the node
  std::variant<ContractionForm, ReductionForm, ScatterForm> form;
};

// One problem and where its squares go: Σ_n G_n² is added to sums, in the parameter's own layout.
struct SquareTask {
  const SquareProblem* problem = nullptr;
  double* sums = nullptr;
};

// What the fisher room gives the reverse pass.
class SquareSink {
 public:
  SquareSink() = default;
  SquareSink(const SquareSink&) = delete;
  SquareSink& operator=(const SquareSink&) = delete;
  virtual ~SquareSink() = default;
  // The problems of one node together, so that those that read the same tensors can share a pass.
  virtual void accumulate(std::span<const SquareTask> tasks) = 0;
  // The uses of one shared parameter, all of a batch's samples: their gradients are added first,
  // then squared. False, with nothing added, where no kernel takes these forms together.
  [[nodiscard]] virtual bool accumulate_shared(std::span<const SquareProblem> uses,
                                               double* sums) = 0;
};

}  // namespace fishermask
