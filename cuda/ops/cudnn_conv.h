// One convolution's three products by cuDNN. What it cannot take, or fails at, is left to own
// kernels: each product says whether it was done, and one that failed is not tried again.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "common/backend.h"
#include "ops/conv_layout.h"
#include "ops/conv_shape.h"
#include "ops/cudnn.h"

namespace fishermask::cuda {

class CudnnConv {
 public:
  // Null where the device has no cuDNN, or the shape is none that it can be told: padding that is
  // not the same on both sides (where that changes the size), tensors of 2^31 elements.
  [[nodiscard]] static std::unique_ptr<CudnnConv> make(const ConvShape& shape,
                                                       const KernelContext& context);

  // As ConvEngine's. False: nothing was written.
  void forget_weights() { fresh_ = false; }
  [[nodiscard]] bool to_output(const float* x, const float* weight, const ConvEnding& ending,
                               float* y);
  [[nodiscard]] bool to_input(const float* y, const float* weight, const ConvEnding& ending,
                              float* x);
  [[nodiscard]] bool add_weight_gradient(const float* x, const float* y, float* grad_weight);

 private:
  enum class Product : std::uint8_t { kOutput, kInput, kWeight };

  template <typename Of>
  using Owned = std::unique_ptr<std::remove_pointer_t<Of>, cudnn::Status (*)(Of)>;

  // How one product is asked for; chosen at its first use.
  struct Plan {
    explicit Plan(const cudnn::Api& api) : convolution(nullptr, api.convolution_destroy) {}
    Owned<cudnn::Convolution> convolution;
    int algorithm = 0;
    std::size_t workspace_bytes = 0;
    bool tried = false;
    bool refused = false;
  };

  CudnnConv(const ConvShape& shape, const KernelContext& context, Cudnn& cudnn);

  [[nodiscard]] bool describe();
  [[nodiscard]] bool describe(Plan& plan) const;
  // The plan with an algorithm; null where there is none.
  [[nodiscard]] Plan* plan_of(Product product);
  [[nodiscard]] bool choose(Product product, Plan& plan) const;
  [[nodiscard]] bool take(Product product, const cudnn::Performance& offer, Plan& plan) const;
  [[nodiscard]] cudnn::Status offers(Product product, const Plan& plan, int* found,
                                     cudnn::Performance* into) const;
  [[nodiscard]] cudnn::Status workspace(Product product, const Plan& plan, int algorithm,
                                        std::size_t* bytes) const;
  // Scratch; null, and the plan refused, where there is no room.
  [[nodiscard]] std::byte* memory(Plan& plan, std::size_t bytes) const;
  [[nodiscard]] const float* ordered(const float* weight);
  // Whether the call worked; else own kernels take its plan's product from now on.
  [[nodiscard]] bool done(cudnn::Status status, Plan& plan) const;
  void end(const ConvEnding& ending, std::int64_t rows, std::int64_t channels, float* y) const;

  ConvShape shape_;
  KernelContext context_;
  Cudnn& cudnn_;
  WeightOrder order_;
  Owned<cudnn::Tensor> x_, y_;
  Owned<cudnn::Filter> weight_;
  std::array<Plan, 3> plans_;
  Buffer<float> ordered_;
  bool fresh_ = false;
};

}  // namespace fishermask::cuda
