// parameter: a parameter as a value: y[n] = value for every sample n.
// Shapes:     no input; slot value (…), y (N, …).
// Accumulate: grad value += Σ_n δ[n], in f64, the samples in their order.
// Squares:    reduction form with one position: G_n = δ[n].
// Deterministic: yes. Bound by memory.
#include "common/backend.h"
#include "common/launch.cuh"

namespace fishermask::cuda {
namespace {

constexpr std::int64_t kMostSampleBlocks = 65535;  // the grid's second size

__global__ void repeat_value(const float* value, std::int64_t count, std::int64_t batch, float* y) {
  for (std::int64_t n = blockIdx.y; n < batch; n += gridDim.y) {
    for (std::int64_t i = first_item(); i < count; i += item_step()) y[n * count + i] = value[i];
  }
}

__global__ void sum_samples(const float* grad_output, std::int64_t count, std::int64_t batch,
                            float* gradient) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    double sum = gradient[i];
    for (std::int64_t n = 0; n < batch; ++n) sum += static_cast<double>(grad_output[n * count + i]);
    gradient[i] = static_cast<float>(sum);
  }
}

class ParameterValue : public Kernel {
 public:
  ParameterValue(const NodeSpec& node, const KernelContext& context)
      : context_(context), count_(element_count(node.parameters.at("value"))) {}

  void forward(const NodeIo& io) override {
    LaunchShape shape = over(count_);
    shape.grid.y = static_cast<unsigned>(std::min(io.batch, kMostSampleBlocks));
    launch("repeat_value", context_.stream, shape, repeat_value, io.parameter("value").as<float>(),
           count_, io.batch, io.outputs[0].as<float>());
  }

  void backward(const NodeIo& io) override {
    const TensorView gradient = io.grad_parameter("value");
    if (!gradient) return;
    launch("sum_samples", context_.stream, over(count_), sum_samples,
           io.grad_outputs[0].as<float>(), count_, io.batch, gradient.as<float>());
  }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    ReductionForm form;
    form.grad_output = io.grad_outputs[0].as<float>();
    form.batch = io.batch;
    form.channels = count_;
    return {{"value", form}};
  }

 private:
  KernelContext context_;
  std::int64_t count_;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<ParameterValue>(node, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("parameter", make)

}  // namespace fishermask::cuda
