// The three products of a convolution, which conv2d and conv_transpose2d share: the transposed
// convolution's forward is the convolution's input gradient, and the other way round. By cuDNN
// where the device has it and it takes the problem, else by own kernels.
#pragma once

#include <memory>
#include <vector>

#include "common/backend.h"
#include "ops/conv_gather.h"
#include "ops/conv_shape.h"
#include "ops/conv_weights.h"
#include "ops/cudnn_conv.h"

namespace fishermask::cuda {

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
  std::unique_ptr<CudnnConv> cudnn_;  // null: own kernels alone
};

// grad_bias (channels,) += the sum of grad (rows, channels).
void add_bias_gradient(Backend& backend, const float* grad, std::int64_t rows,
                       std::int64_t channels, float* grad_bias);

}  // namespace fishermask::cuda
