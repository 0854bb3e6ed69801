// conv2d: y = x * W + b, as binding/ops/conv2d.cc; the products are conv_engine.h's.
// Shapes:     x (N, H, W, I), W (O, I/groups, K_h, K_w), b (O,) optional, y (N, H', W', O).
// Fused:      the residual sum and ReLU that follow.
// Precision:  the products honour the context's; groups of at most 4 channels are always f32.
// Workspace:  the packed weights of either direction; scratch for the weight gradient's splits.
// Squares:    contraction form (weight), reduction form (bias).
// Deterministic: yes, on one kind of device.
#include "ops/conv_engine.h"

namespace fishermask::cuda {
namespace {

class Conv2d : public Kernel {
 public:
  Conv2d(const ConvShape& shape, const KernelContext& context)
      : context_(context), engine_(shape, context) {}

  void forward(const NodeIo& io) override {
    check_batch(io);
    engine_.forget_weights();
    forward_seen_ = true;
    const TensorView bias = io.parameter("bias");
    ConvEnding ending;
    ending.bias = bias ? bias.as<float>() : nullptr;
    ending.residual = epilogue_.add ? io.residual.as<float>() : nullptr;
    ending.relu = epilogue_.relu;
    engine_.to_output(io.inputs[0].as<float>(), io.parameter("weight").as<float>(), ending,
                      io.outputs[0].as<float>());
  }

  [[nodiscard]] bool fuse(const Epilogue& epilogue) override {
    epilogue_ = epilogue;
    return true;
  }

  void backward(const NodeIo& io) override {
    check_batch(io);
    const float* const grad_output = io.grad_outputs[0].as<float>();
    if (io.grad_inputs[0]) {
      // As several backward passes may follow one forward (a label each), the weights are packed
      // once; a kernel that only ever runs backward cannot tell when they change.
      if (!forward_seen_) engine_.forget_weights();
      engine_.to_input(grad_output, io.parameter("weight").as<float>(), {.add = io.accumulate[0]},
                       io.grad_inputs[0].as<float>());
    }
    if (const TensorView grad_weight = io.grad_parameter("weight")) {
      engine_.add_weight_gradient(io.inputs[0].as<float>(), grad_output, grad_weight.as<float>());
    }
    if (const TensorView grad_bias = io.grad_parameter("bias")) {
      add_bias_gradient(*context_.backend, grad_output, io.batch * engine_.shape().out_positions(),
                        engine_.shape().out, grad_bias.as<float>());
    }
  }

  void forget() override { engine_.forget_weights(); }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    const float* const grad_output = io.grad_outputs[0].as<float>();
    ContractionForm weight = engine_.contraction(io.inputs[0].as<float>(), grad_output);
    weight.batch = io.batch;
    std::vector<SquareProblem> problems = {{"weight", weight}};
    if (!io.parameter("bias")) return problems;
    ReductionForm bias;
    bias.grad_output = grad_output;
    bias.batch = io.batch;
    bias.positions = engine_.shape().out_positions();
    bias.channels = engine_.shape().out;
    problems.push_back({"bias", bias});
    return problems;
  }

 private:
  void check_batch(const NodeIo& io) const {
    FM_CHECK(io.batch == engine_.shape().batch, INTERNAL, "a conv2d kernel for batch ",
             engine_.shape().batch, " was called with batch ", io.batch);
  }

  KernelContext context_;
  ConvEngine engine_;
  Epilogue epilogue_;
  bool forward_seen_ = false;
};

std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  const ConvSizes sizes = conv_sizes(node);
  const ConvShape shape{sizes.window, sizes.in, sizes.out, sizes.groups, context.batch};
  if (!ConvEngine::covers(shape)) return nullptr;
  return std::make_unique<Conv2d>(shape, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("conv2d", make)

}  // namespace fishermask::cuda
