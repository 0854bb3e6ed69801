// conv_transpose2d: y = x * Wᵀ + b, as binding/ops/conv_transpose2d.cc: the input gradient of the
// convolution with the same W, so the products are conv_engine.h's with the roles exchanged.
// Shapes:     x (N, H, W, I), W (I, O/groups, K_h, K_w), b (O,) optional, y (N, H', W', O).
// Precision:  the products honour the context's; groups of at most 4 channels are always f32.
// Workspace:  the packed weights of either direction; scratch for the weight gradient's splits.
// Squares:    contraction form (weight) with the roles of x and grad y exchanged, reduction form
//             (bias).
// Deterministic: yes, on one kind of device.
#include "ops/conv_engine.h"

namespace fishermask::cuda {
namespace {

class ConvTranspose2d : public Kernel {
 public:
  ConvTranspose2d(const ConvShape& shape, const KernelContext& context)
      : context_(context), engine_(shape, context) {}

  void forward(const NodeIo& io) override {
    check_batch(io);
    engine_.forget_weights();
    forward_seen_ = true;
    const TensorView bias = io.parameter("bias");
    engine_.to_input(io.inputs[0].as<float>(), io.parameter("weight").as<float>(),
                     {.bias = bias ? bias.as<float>() : nullptr}, io.outputs[0].as<float>());
  }

  void backward(const NodeIo& io) override {
    check_batch(io);
    const float* const grad_output = io.grad_outputs[0].as<float>();
    if (io.grad_inputs[0]) {
      if (!forward_seen_) engine_.forget_weights();  // it cannot tell when they change
      engine_.to_output(grad_output, io.parameter("weight").as<float>(), {.add = io.accumulate[0]},
                        io.grad_inputs[0].as<float>());
    }
    if (const TensorView grad_weight = io.grad_parameter("weight")) {
      engine_.add_weight_gradient(grad_output, io.inputs[0].as<float>(), grad_weight.as<float>());
    }
    if (const TensorView grad_bias = io.grad_parameter("bias")) {
      add_bias_gradient(*context_.backend, grad_output, io.batch * engine_.shape().in_positions(),
                        engine_.shape().in, grad_bias.as<float>());
    }
  }

  void forget() override { engine_.forget_weights(); }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    const float* const grad_output = io.grad_outputs[0].as<float>();
    ContractionForm weight = engine_.contraction(grad_output, io.inputs[0].as<float>());
    weight.batch = io.batch;
    std::vector<SquareProblem> problems = {{"weight", weight}};
    if (!io.parameter("bias")) return problems;
    ReductionForm bias;
    bias.grad_output = grad_output;
    bias.batch = io.batch;
    bias.positions = engine_.shape().in_positions();
    bias.channels = engine_.shape().in;
    problems.push_back({"bias", bias});
    return problems;
  }

 private:
  void check_batch(const NodeIo& io) const {
    FM_CHECK(io.batch == engine_.shape().batch, INTERNAL, "a conv_transpose2d kernel for batch ",
             engine_.shape().batch, " was called with batch ", io.batch);
  }

  KernelContext context_;
  ConvEngine engine_;
  bool forward_seen_ = false;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  const ConvTransposeSizes sizes = conv_transpose_sizes(node);
  // Of the convolution: its output channels are our input's.
  const ConvShape shape{sizes.window, sizes.out, sizes.in, sizes.groups, context.batch};
  if (!ConvEngine::covers(shape)) return nullptr;
  return std::make_unique<ConvTranspose2d>(shape, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("conv_transpose2d", make)

}  // namespace fishermask::cuda
