// The three products of a convolution, which conv2d and conv_transpose2d share: the transposed
// convolution's forward is the convolution's input gradient, and the other way round.
#pragma once

#include <optional>

#include "common/backend.h"
#include "core/conv_sizes.h"
#include "ops/conv_gather.h"
#include "ops/conv_weights.h"

namespace fishermask::cuda {

// Of the convolution (not the transposed one): x (N, window.in…, in), y (N, window.out…, out), W
// (out, in/groups, K_h, K_w).
struct ConvShape {
  Window window;
  std::int64_t in = 1, out = 1, groups = 1;
  std::int64_t batch = 1;

  [[nodiscard]] std::int64_t in_positions() const { return window.rows.in * window.columns.in; }
  [[nodiscard]] std::int64_t out_positions() const { return window.rows.out * window.columns.out; }
};

// What follows the sum: + bias, + what was there, + residual, max(·, 0).
struct ConvEnding {
  const float* bias = nullptr;      // or null
  const float* residual = nullptr;  // or null
  bool add = false;
  bool relu = false;
};

class ConvEngine {
 public:
  // False: sizes beyond 2^30 positions or a depth beyond 2^30.
  [[nodiscard]] static bool covers(const ConvShape& shape);

  ConvEngine(const ConvShape& shape, const KernelContext& context);

  // The weights may have changed: packed anew at the next use.
  void forget_weights();
  // y = x * W, then the ending.
  void to_output(const float* x, const float* weight, const ConvEnding& ending, float* y);
  // x = y * Wᵀ, then the ending.
  void to_input(const float* y, const float* weight, const ConvEnding& ending, float* x);
  // grad_weight += x ⊗ y, summed over the batch.
  void add_weight_gradient(const float* x, const float* y, float* grad_weight);

  [[nodiscard]] const ConvShape& shape() const { return shape_; }
  // The weight's square rule: `input` is x, `grad_output` is y.
  [[nodiscard]] ContractionForm contraction(const float* x, const float* y) const;

 private:
  struct Plan {
    ConvGather gather;
    ConvPack pack;
    std::int64_t first = 0;  // of its packed weights
  };
  struct Direction {
    std::vector<Plan> plans;
    std::int64_t packed_count = 0;
    Buffer<float> packed;
    bool fresh = false;
  };

  void plan(bool transposed, Direction& direction) const;
  [[nodiscard]] Plan plan_of(const GatherAxis& rows, const GatherAxis& columns,
                             bool transposed) const;
  void run(Direction& direction, bool transposed, const float* source, const float* weight,
           const ConvEnding& ending, float* dest);

  ConvShape shape_;
  KernelContext context_;
  bool direct_;
  Direction forward_, transposed_;
};

// grad_bias (channels,) += the sum of grad (rows, channels).
void add_bias_gradient(Backend& backend, const float* grad, std::int64_t rows,
                       std::int64_t channels, float* grad_bias);

}  // namespace fishermask::cuda
