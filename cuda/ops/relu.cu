// relu: y = max(x, 0). Backward reads y alone. NaN passes through.
// Deterministic: yes. Bound by memory: one read and one write each way.
#include "common/backend.h"
#include "common/launch.cuh"

namespace fishermask::cuda {
namespace {

__global__ void relu_forward(const float* x, float* y, std::int64_t count) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    y[i] = x[i] < 0.0F ? 0.0F : x[i];
  }
}

__global__ void relu_backward(const float* y, const float* grad_output, float* grad_input,
                              std::int64_t count, bool add) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const float passed = y[i] > 0.0F ? grad_output[i] : 0.0F;
    grad_input[i] = add ? grad_input[i] + passed : passed;
  }
}

class Relu : public Kernel {
 public:
  explicit Relu(const KernelContext& context) : context_(context) {}

  void forward(const NodeIo& io) override {
    const std::int64_t count = io.outputs[0].count();
    launch("relu_forward", context_.stream, over(count), relu_forward, io.inputs[0].as<float>(),
           io.outputs[0].as<float>(), count);
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    const std::int64_t count = io.outputs[0].count();
    launch("relu_backward", context_.stream, over(count), relu_backward, io.outputs[0].as<float>(),
           io.grad_outputs[0].as<float>(), io.grad_inputs[0].as<float>(), count, io.accumulate[0]);
  }

 private:
  KernelContext context_;
};

std::unique_ptr<Kernel> make(const NodeSpec& /*node*/, const KernelContext& context) {
  return std::make_unique<Relu>(context);
}

}  // namespace

FM_REGISTER_CUDA_OP("relu", make)

}  // namespace fishermask::cuda
