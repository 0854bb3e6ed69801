// Two operands, elementwise, with broadcasting (core/binary_formulas.h, broadcast.cuh).
// Squares:    `other` of the last sizes of a, for binary_add, sub (δ alone) and mul (δ·a).
// Deterministic: yes. Bound by memory.
#include "ops/broadcast.cuh"

namespace fishermask::cuda {
namespace {

using formula::Squares;

template <template <typename> class F>
class Binary : public BroadcastOp<F<float>> {
 public:
  Binary(const NodeSpec& node, const KernelContext& context)
      : BroadcastOp<F<float>>(node, context) {
    if (F<float>::kSquares == Squares::kNone) return;
    channels_ = formula::trailing_count(node);
    if (F<float>::kSquares != Squares::kGradientTimesInput || channels_ == 0) return;
    constants_ = Buffer<float>(*context.backend, 2 * channels_, "the squares of a product");
    fill_elements(context.stream, zeros(), channels_, 0.0F);
    fill_elements(context.stream, ones(), channels_, 1.0F);
  }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    if (channels_ == 0) return {};
    ReductionForm form;
    form.grad_output = io.grad_outputs[0].as<float>();
    form.batch = io.batch;
    form.positions = element_count(this->output_shape()) / channels_;
    form.channels = channels_;
    if (F<float>::kSquares == Squares::kGradientTimesInput) {
      form.input = io.inputs[0].as<float>();
      form.mean = zeros();
      form.inv_std = ones();
    }
    return {{"other", form}};
  }

 private:
  [[nodiscard]] float* zeros() const { return constants_.data(); }
  [[nodiscard]] float* ones() const { return constants_.data() + channels_; }

  std::int64_t channels_ = 0;  // elements of `other` where it is the last sizes
  Buffer<float> constants_;    // (2, channels): they live as long as square_rule's pointers
};

template <template <typename> class F>
std::unique_ptr<Kernel> make(const NodeSpec& node, const KernelContext& context) {
  return std::make_unique<Binary<F>>(node, context);
}

}  // namespace

FM_REGISTER_CUDA_OP("binary_add", make<formula::Add>)
FM_REGISTER_CUDA_OP("sub", make<formula::Sub>)
FM_REGISTER_CUDA_OP("mul", make<formula::Mul>)
FM_REGISTER_CUDA_OP("div", make<formula::Div>)
FM_REGISTER_CUDA_OP("pow", make<formula::Pow>)
FM_REGISTER_CUDA_OP("minimum", make<formula::Minimum>)
FM_REGISTER_CUDA_OP("maximum", make<formula::Maximum>)
FM_REGISTER_CUDA_OP("fmod", make<formula::Fmod>)
FM_REGISTER_CUDA_OP("equal", make<formula::Equal>)
FM_REGISTER_CUDA_OP("less", make<formula::Less>)
FM_REGISTER_CUDA_OP("less_equal", make<formula::LessEqual>)
FM_REGISTER_CUDA_OP("greater", make<formula::Greater>)
FM_REGISTER_CUDA_OP("greater_equal", make<formula::GreaterEqual>)
FM_REGISTER_CUDA_OP("logical_and", make<formula::LogicalAnd>)
FM_REGISTER_CUDA_OP("logical_or", make<formula::LogicalOr>)
FM_REGISTER_CUDA_OP("logical_xor", make<formula::LogicalXor>)

}  // namespace fishermask::cuda
