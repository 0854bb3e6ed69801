// Two operands, elementwise, with NumPy's broadcasting over the sample's sizes: binary_add, sub,
// mul, div, pow, minimum, maximum, fmod, comparisons and logic.
// Shapes:     inputs a and b broadcast to y; or input a and slot `other`, which broadcasts to a.
// Gradients:  minimum and maximum at ties: to a. pow by its exponent: y·log a, 0 where a is 0, NaN
//             where a < 0. fmod is C's: 1 to a, −trunc(a/b) to b. Comparisons and logic (not 0 is
//             true): 0.
// NaN passes through minimum and maximum, as in NumPy.
// Squares:    `other` of the last sizes of a, for binary_add, sub (δ alone) and mul (δ·a).
// Deterministic: yes.
#include "core/binary_formulas.h"
#include "graph/op.h"
#include "ops/broadcast_kernel.h"

namespace fishermask {
namespace {

void check_rank(const NodeSpec& node, const Shape& shape) {
  node.check(shape.size() <= kMostRank, "expected at most ", kMostRank, " sizes but received ",
             shape_text(shape));
}

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  const Shape& a = node.inputs[0].shape;
  const bool two = node.inputs.size() == 2;
  node.check(two != node.has_parameter("other"),
             "expected a second input or a parameter 'other', and not both");
  const Shape& b = two ? node.inputs[1].shape : node.parameters.at("other");
  const std::optional<Shape> output = broadcast_shapes(a, b);
  if (!output.has_value()) {
    node.check(false, "expected operands that broadcast but received ", shape_text(a), " and ",
               shape_text(b));
    return {};
  }
  node.check(two || *output == a, "expected a parameter 'other' that broadcasts to ", shape_text(a),
             " but received ", shape_text(b));
  check_rank(node, *output);
  return {{*output, node.inputs[0].dtype}};
}

template <template <typename> class F>
class FastBinary : public BroadcastKernel<float, F<float>> {
 public:
  explicit FastBinary(const NodeSpec& node)
      : BroadcastKernel<float, F<float>>(node), channels_(formula::trailing_count(node)) {
    if (F<float>::kSquares == formula::Squares::kGradientTimesInput) {
      zeros_.resize(static_cast<std::size_t>(channels_), 0.0F);
      ones_.resize(static_cast<std::size_t>(channels_), 1.0F);
    }
  }

  std::vector<SquareProblem> square_rule(const NodeIo& io) override {
    if (channels_ == 0) return {};
    ReductionForm form;
    form.grad_output = io.grad_outputs[0].as<float>();
    form.batch = io.batch;
    form.positions = element_count(this->output_shape()) / channels_;
    form.channels = channels_;
    if (F<float>::kSquares == formula::Squares::kGradientTimesInput) {
      form.input = io.inputs[0].as<float>();
      form.mean = zeros_.data();
      form.inv_std = ones_.data();
    }
    return {{"other", form}};
  }

 private:
  std::int64_t channels_;
  std::vector<float> zeros_,
      ones_;  // (channels,) each: they live as long as square_rule's pointers
};

template <template <typename> class F>
std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64) return std::make_unique<BroadcastKernel<double, F<double>>>(node);
  return std::make_unique<BroadcastKernel<float, F<float>>>(node);
}

template <template <typename> class F>
std::unique_ptr<Kernel> make_fast(const NodeSpec& node, std::int64_t /*batch*/) {
  return std::make_unique<FastBinary<F>>(node);
}

// `first` and `second`: the ranges that the operands' values are drawn from. A slot's values are
// normal: `columns` of them in a row, few where one near 0 is beyond a difference quotient's reach.
std::vector<SampleCase> cases(InputDraw first, InputDraw second, std::int64_t columns) {
  const std::vector<InputDraw> draws = {first, second};
  return {
      {.name = "one shape", .inputs = {{5, 7}, {5, 7}}, .draws = draws},
      {.name = "the second along the last sizes", .inputs = {{3, 5, 7}, {5, 7}}, .draws = draws},
      {.name = "the first repeated, batch of one",
       .inputs = {{1, 7}, {4, 5, 7}},
       .batch = 1,
       .draws = draws},
      {.name = "both repeated", .inputs = {{3, 1, 5}, {4, 1}}, .batch = 2, .draws = draws},
      {.name = "a scalar input", .inputs = {{3, 70}, {}}, .batch = 2, .draws = draws},
      {.name = "other, last sizes",
       .inputs = {{4, 3, columns}},
       .parameters = {{"other", {1, 3, columns}}},
       .draws = draws},
      {.name = "other, a scalar",
       .inputs = {{3, 5}},
       .parameters = {{"other", {}}},
       .draws = draws},
      {.name = "other, a middle size",
       .inputs = {{3, 5, 4}},
       .parameters = {{"other", {5, 1}}},
       .batch = 2,
       .draws = draws},
      {.name = "scalars", .inputs = {{}, {}}, .batch = 2, .draws = draws},
  };
}

template <template <typename> class F>
OpDefinition binary_op(const char* name, InputDraw first = {-2, 2}, InputDraw second = {-2, 2},
                       std::int64_t columns = 70) {
  constexpr bool kPasses = F<float>::kPasses[0];
  OpDefinition op;
  op.name = name;
  op.slots = {{.name = "other", .required = false}};
  op.max_inputs = 2;
  const bool linear = F<float>::kSquares == formula::Squares::kGradient;
  op.backward_needs_inputs = kPasses && !linear;
  op.nonlinear = !linear;
  op.infer = infer;
  op.make_reference = make_reference<F>;
  if (F<float>::kSquares != formula::Squares::kNone) op.make_fast = make_fast<F>;
  op.cases = cases(first, second, columns);
  return op;
}

// A divisor drawn near 0 puts one of fmod's jumps within reach of any difference quotient: its
// slot is checked by hand (elementwise_test.cc).
OpDefinition fmod_op() {
  OpDefinition op = binary_op<formula::Fmod>("fmod", {-4, 4}, {-2, -0.5});
  std::erase_if(op.cases, [](const SampleCase& row) { return !row.parameters.empty(); });
  return op;
}

int register_all() {
  register_op(binary_op<formula::Add>("binary_add"));
  register_op(binary_op<formula::Sub>("sub"));
  register_op(binary_op<formula::Mul>("mul"));
  register_op(binary_op<formula::Div>("div", {-2, 2}, {0.5, 2}, 5));
  register_op(binary_op<formula::Pow>("pow", {0.2, 2}, {-2, 2}));
  register_op(binary_op<formula::Minimum>("minimum"));
  register_op(binary_op<formula::Maximum>("maximum"));
  register_op(fmod_op());
  register_op(binary_op<formula::Equal>("equal"));
  register_op(binary_op<formula::Less>("less"));
  register_op(binary_op<formula::LessEqual>("less_equal"));
  register_op(binary_op<formula::Greater>("greater"));
  register_op(binary_op<formula::GreaterEqual>("greater_equal"));
  register_op(binary_op<formula::LogicalAnd>("logical_and"));
  register_op(binary_op<formula::LogicalOr>("logical_or"));
  return register_op(binary_op<formula::LogicalXor>("logical_xor"));
}

[[maybe_unused]] const int kRegistered = register_all();

}  // namespace
}  // namespace fishermask
