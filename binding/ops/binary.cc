// Two operands, elementwise, with NumPy's broadcasting over the sample's sizes: binary_add, sub,
// mul, div, pow, minimum, maximum, fmod, comparisons and logic.
// Shapes:     inputs a and b broadcast to y; or input a and slot `other`, which broadcasts to a.
// Gradients:  minimum and maximum at ties: to a. pow by its exponent: y·log a, 0 where a is 0, NaN
//             where a < 0. fmod is C's: 1 to a, −trunc(a/b) to b. Comparisons and logic (not 0 is
//             true): 0.
// NaN passes through minimum and maximum, as in NumPy.
// Squares:    `other` of the last sizes of a, for binary_add, sub (δ alone) and mul (δ·a).
// Deterministic: yes.
#include <cmath>

#include "graph/op.h"
#include "ops/broadcast_kernel.h"

namespace fishermask {
namespace {

enum class Squares { kNone, kGradient, kGradientTimesInput };

// A function of two operands: its value and what passes of the output's gradient g to a and to b.
#define FM_BINARY(Name, squares, value_expression, to_a, to_b)                  \
  template <typename T>                                                         \
  struct Name {                                                                 \
    static constexpr std::size_t kOperands = 2;                                 \
    static constexpr std::array<bool, 3> kPasses = {true, true, false};         \
    static constexpr Squares kSquares = Squares::squares;                       \
    static T value(T a, T b, T /*c*/) { return value_expression; }              \
    template <std::size_t K>                                                    \
    static T passed(T g, [[maybe_unused]] T a, [[maybe_unused]] T b, T /*c*/) { \
      if constexpr (K == 0) {                                                   \
        return to_a;                                                            \
      } else {                                                                  \
        return to_b;                                                            \
      }                                                                         \
    }                                                                           \
  };

// A question with the answer 0 or 1.
#define FM_QUESTION(Name, condition)                                        \
  template <typename T>                                                     \
  struct Name {                                                             \
    static constexpr std::size_t kOperands = 2;                             \
    static constexpr std::array<bool, 3> kPasses = {false, false, false};   \
    static constexpr Squares kSquares = Squares::kNone;                     \
    static T value(T a, T b, T /*c*/) { return (condition) ? T{1} : T{0}; } \
  };

// Whether minimum or maximum takes its first operand, which a NaN there always does.
template <typename T>
bool takes_smaller_first(T a, T b) {
  return a <= b || a != a;
}
template <typename T>
bool takes_larger_first(T a, T b) {
  return a >= b || a != a;
}

template <typename T>
T pow_slope(T a, T b) {
  return b == T{0} ? T{0} : b * std::pow(a, b - T{1});
}

// log of a negative base is NaN, and stays so.
template <typename T>
T pow_exponent_slope(T a, T b) {
  return a == T{0} ? T{0} : std::pow(a, b) * std::log(a);
}

// trunc(a / b), not fooled by a quotient that rounds up to a whole number.
template <typename T>
T whole_quotient(T a, T b) {
  return std::round((a - std::fmod(a, b)) / b);
}

// Both operands get the gradient as it is.
FM_BINARY(Add, kGradient, a + b, g, g)  // NOLINT(bugprone-branch-clone)
FM_BINARY(Sub, kGradient, a - b, g, -g)
FM_BINARY(Mul, kGradientTimesInput, a* b, g* b, g* a)
FM_BINARY(Div, kNone, a / b, g / b, -g*(a / b) / b)
FM_BINARY(Pow, kNone, std::pow(a, b), g* pow_slope(a, b), g* pow_exponent_slope(a, b))
FM_BINARY(Minimum, kNone, takes_smaller_first(a, b) ? a : b, takes_smaller_first(a, b) ? g : T{0},
          takes_smaller_first(a, b) ? T{0} : g)
FM_BINARY(Maximum, kNone, takes_larger_first(a, b) ? a : b, takes_larger_first(a, b) ? g : T{0},
          takes_larger_first(a, b) ? T{0} : g)
FM_BINARY(Fmod, kNone, std::fmod(a, b), g, -g* whole_quotient(a, b))
FM_QUESTION(Equal, a == b)
FM_QUESTION(Less, a < b)
FM_QUESTION(LessEqual, a <= b)
FM_QUESTION(Greater, a > b)
FM_QUESTION(GreaterEqual, a >= b)
FM_QUESTION(LogicalAnd, a != T{0} && b != T{0})
FM_QUESTION(LogicalOr, a != T{0} || b != T{0})
FM_QUESTION(LogicalXor, (a != T{0}) != (b != T{0}))

#undef FM_BINARY
#undef FM_QUESTION

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

// The elements of `other` where it is the last sizes of the output, else 0.
std::int64_t trailing_count(const NodeSpec& node) {
  if (!node.has_parameter("other")) return 0;
  Shape other = node.parameters.at("other");
  const Shape& output = node.outputs[0].shape;
  while (!other.empty() && other.front() == 1) other.erase(other.begin());
  if (!std::equal(other.rbegin(), other.rend(), output.rbegin())) return 0;
  return element_count(other);
}

template <template <typename> class F>
class FastBinary : public BroadcastKernel<float, F<float>> {
 public:
  explicit FastBinary(const NodeSpec& node)
      : BroadcastKernel<float, F<float>>(node), channels_(trailing_count(node)) {
    if (F<float>::kSquares == Squares::kGradientTimesInput) {
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
    if (F<float>::kSquares == Squares::kGradientTimesInput) {
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
  const bool linear = F<float>::kSquares == Squares::kGradient;
  op.backward_needs_inputs = kPasses && !linear;
  op.nonlinear = !linear;
  op.infer = infer;
  op.make_reference = make_reference<F>;
  if (F<float>::kSquares != Squares::kNone) op.make_fast = make_fast<F>;
  op.cases = cases(first, second, columns);
  return op;
}

// A divisor drawn near 0 puts one of fmod's jumps within reach of any difference quotient: its
// slot is checked by hand (elementwise_test.cc).
OpDefinition fmod_op() {
  OpDefinition op = binary_op<Fmod>("fmod", {-4, 4}, {-2, -0.5});
  std::erase_if(op.cases, [](const SampleCase& row) { return !row.parameters.empty(); });
  return op;
}

int register_all() {
  register_op(binary_op<Add>("binary_add"));
  register_op(binary_op<Sub>("sub"));
  register_op(binary_op<Mul>("mul"));
  register_op(binary_op<Div>("div", {-2, 2}, {0.5, 2}, 5));
  register_op(binary_op<Pow>("pow", {0.2, 2}, {-2, 2}));
  register_op(binary_op<Minimum>("minimum"));
  register_op(binary_op<Maximum>("maximum"));
  register_op(fmod_op());
  register_op(binary_op<Equal>("equal"));
  register_op(binary_op<Less>("less"));
  register_op(binary_op<LessEqual>("less_equal"));
  register_op(binary_op<Greater>("greater"));
  register_op(binary_op<GreaterEqual>("greater_equal"));
  register_op(binary_op<LogicalAnd>("logical_and"));
  register_op(binary_op<LogicalOr>("logical_or"));
  return register_op(binary_op<LogicalXor>("logical_xor"));
}

[[maybe_unused]] const int kRegistered = register_all();

}  // namespace
}  // namespace fishermask
