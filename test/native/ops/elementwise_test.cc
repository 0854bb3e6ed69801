// Elementwise ops, reductions, softmax and cumsum on numbers worked out by hand: conventions that a
// gradient check cannot see (ties, zeros, NaN, infinities, rounding), and what infer refuses.
#include <doctest/doctest.h>

#include <bit>
#include <limits>

#include "native/ops/op_harness.h"
#include "ops/vector_math.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

using Values = std::vector<float>;
using Axes = std::vector<std::int64_t>;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Result {
  Values y;
  std::vector<Values> grad_inputs;
};

Values values_of(const Tensor& tensor) {
  const auto span = tensor.span<float>();
  return {span.begin(), span.end()};
}

void fill(const Tensor& tensor, const Values& values) {
  REQUIRE(static_cast<std::int64_t>(values.size()) == tensor.count());
  std::copy(values.begin(), values.end(), tensor.as<float>());
}

// One sample through `name`, with the gradient `delta` at its output.
Result apply(const char* name, const std::vector<std::pair<Shape, Values>>& inputs,
             const Values& delta, const std::map<std::string, Attribute>& attributes = {}) {
  SampleCase sample_case{.name = "by hand", .inputs = {}, .attributes = attributes, .batch = 1};
  for (const auto& [shape, values] : inputs) sample_case.inputs.push_back(shape);
  OpRun<float> run(find_op(name), sample_case, true);
  for (std::size_t k = 0; k < inputs.size(); ++k) fill(run.inputs[k], inputs[k].second);
  fill(run.grad_outputs[0], delta);
  run.forward();
  run.backward();
  Result result{.y = values_of(run.outputs[0]), .grad_inputs = {}};
  for (const Tensor& gradient : run.grad_inputs) result.grad_inputs.push_back(values_of(gradient));
  return result;
}

// Equal, where a NaN equals a NaN.
void require_same(const Values& actual, const Values& expected) {
  REQUIRE(actual.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    CAPTURE(actual[i]);
    CAPTURE(expected[i]);
    const bool same = std::isnan(expected[i])   ? std::isnan(actual[i])
                      : std::isinf(expected[i]) ? actual[i] == expected[i]
                                                : std::abs(actual[i] - expected[i]) <= 1e-6F;
    REQUIRE(same);
  }
}

Values unary(const char* name, const Values& x,
             const std::map<std::string, Attribute>& attributes = {}) {
  return apply(name, {{{static_cast<std::int64_t>(x.size())}, x}}, Values(x.size(), 1.0F),
               attributes)
      .y;
}

Values unary_gradient(const char* name, const Values& x,
                      const std::map<std::string, Attribute>& attributes = {}) {
  return apply(name, {{{static_cast<std::int64_t>(x.size())}, x}}, Values(x.size(), 2.0F),
               attributes)
      .grad_inputs[0];
}

Result binary(const char* name, const Values& a, const Values& b) {
  const Shape shape = {static_cast<std::int64_t>(a.size())};
  return apply(name, {{shape, a}, {shape, b}}, Values(a.size(), 2.0F));
}

std::string refusal(const char* name, const SampleCase& sample_case) {
  try {
    (void)node_of(find_op(name), sample_case);
  } catch (const Error& error) {
    REQUIRE(error.code() == ErrorCode::kGRAPH);
    return error.what();
  }
  return "accepted";
}

void require_refused(const char* name, const SampleCase& sample_case, const char* part) {
  const std::string message = refusal(name, sample_case);
  CAPTURE(message);
  REQUIRE(message.find(part) != std::string::npos);
}

// Distance in units of the last place of the exact value.
double ulps(float actual, double exact) {
  const auto rounded = static_cast<float>(exact);
  const float next = std::nextafter(std::abs(rounded), kInfinity);
  return std::abs(static_cast<double>(actual) - exact) /
         (static_cast<double>(next) - static_cast<double>(std::abs(rounded)));
}

template <typename Function, typename Exact>
double worst_ulps(double low, double high, Function f, Exact exact) {
  double worst = 0;
  constexpr int kSteps = 200000;
  for (int i = 0; i <= kSteps; ++i) {
    const auto x = static_cast<float>(low + (high - low) * i / kSteps);
    worst = std::max(worst, ulps(f(x), exact(static_cast<double>(x))));
  }
  return worst;
}

}  // namespace

TEST_CASE("vector exp, tanh and erf stay within a few units of the last place") {
  const auto exp = [](float x) { return vector_math::exp(x); };
  const auto tanh = [](float x) { return vector_math::tanh(x); };
  const auto erf = [](float x) { return vector_math::erf(x); };
  REQUIRE(worst_ulps(-103, 88.7, exp, [](double x) { return std::exp(x); }) < 2);
  REQUIRE(worst_ulps(-10, 10, tanh, [](double x) { return std::tanh(x); }) < 4);
  REQUIRE(worst_ulps(-1e-3, 1e-3, tanh, [](double x) { return std::tanh(x); }) < 4);
  REQUIRE(worst_ulps(-6, 6, erf, [](double x) { return std::erf(x); }) < 4);
  REQUIRE(worst_ulps(-1e-3, 1e-3, erf, [](double x) { return std::erf(x); }) < 4);
}

TEST_CASE("vector exp of f64 stays within two units of the last place") {
  double worst = 0;
  for (int i = 0; i <= 200000; ++i) {
    const double x = -707.0 + 1416.0 * i / 200000;
    worst = std::max(worst, std::abs(vector_math::exp(x) / std::exp(x) - 1.0));
  }
  REQUIRE(worst < 2 * std::numeric_limits<double>::epsilon());
  constexpr double kWide = std::numeric_limits<double>::infinity();
  REQUIRE(vector_math::exp(0.0) == 1.0);
  REQUIRE(vector_math::exp(-kWide) == 0.0);
  REQUIRE(vector_math::exp(-740.0) == doctest::Approx(std::exp(-740.0)).epsilon(1e-2));
  REQUIRE(vector_math::exp(kWide) == kWide);
  REQUIRE(std::isnan(vector_math::exp(std::numeric_limits<double>::quiet_NaN())));
}

TEST_CASE("vector functions at the ends of the range, and on NaN") {
  REQUIRE(vector_math::exp(0.0F) == 1.0F);
  REQUIRE(vector_math::exp(-kInfinity) == 0.0F);
  REQUIRE(vector_math::exp(kInfinity) == kInfinity);
  REQUIRE(vector_math::exp(200.0F) == kInfinity);
  REQUIRE(std::isnan(vector_math::exp(kNan)));
  REQUIRE(vector_math::tanh(kInfinity) == 1.0F);
  REQUIRE(vector_math::tanh(-kInfinity) == -1.0F);
  REQUIRE(std::isnan(vector_math::tanh(kNan)));
  REQUIRE(vector_math::erf(kInfinity) == 1.0F);
  REQUIRE(vector_math::erf(-50.0F) == -1.0F);
  REQUIRE(std::isnan(vector_math::erf(kNan)));
  REQUIRE(vector_math::sigmoid(-kInfinity) == 0.0F);
  REQUIRE(vector_math::sigmoid(kInfinity) == 1.0F);
}

TEST_CASE("rounding, signs and tests for zero and NaN") {
  require_same(unary("round", {0.5F, 1.5F, 2.5F, -0.5F, -1.5F, 2.4F, kNan}),
               {0, 2, 2, 0, -2, 2, kNan});
  require_same(unary("floor", {-1.5F, 1.5F, 2}), {-2, 1, 2});
  require_same(unary("ceil", {-1.5F, 1.5F, 2}), {-1, 2, 2});
  require_same(unary("sign", {-3, 0, 2, kNan, -kInfinity}), {-1, 0, 1, kNan, -1});
  require_same(unary("not", {0, -0.0F, 3, kNan}), {1, 1, 0, 0});
  require_same(unary("isnan", {0, kNan, kInfinity}), {0, 1, 0});
  for (const char* name : {"round", "floor", "ceil", "sign", "not", "isnan"}) {
    require_same(unary_gradient(name, {-1.5F, 0, 2, kNan}), {0, 0, 0, 0});
  }
}

TEST_CASE("values and slopes at kinks, and where functions are cut") {
  require_same(unary_gradient("abs", {-3, 0, 3}), {-2, 0, 2});
  require_same(unary("hard_swish", {-4, -3, 0, 1, 3, 5}), {0, 0, 0, 2.0F / 3, 3, 5});
  require_same(unary_gradient("hard_swish", {-4, 0, 5}), {0, 1, 2});
  const std::map<std::string, Attribute> range = {{"min", -1.0}, {"max", 2.0}};
  require_same(unary("clip", {-3, -1, 0.5F, 2, 9, kNan}, range), {-1, -1, 0.5F, 2, 2, kNan});
  require_same(unary_gradient("clip", {-3, -1, 0.5F, 2, 9}, range), {0, 2, 2, 2, 0});
  require_same(unary("clip", {-3, 9}, {{"min", 0.0}}), {0, 9});
  require_same(unary("clip", {-3, 9}, {{"max", 6.0}}), {-3, 6});
  require_same(unary("shrink", {-2, -0.5F, 0.25F, 2}, {{"bias", 0.5}, {"lambd", 0.5}}),
               {-1.5F, 0, 0, 1.5F});
  require_same(unary("thresholded_relu", {0.5F, 1, 1.5F}), {0, 0, 1.5F});
  require_same(unary("hard_sigmoid", {-3, 0, 1, 3}), {0, 0.5F, 0.7F, 1});
  require_same(unary("leaky_relu", {-2, 0, 3}), {-0.02F, 0, 3});
  require_same(unary("elu", {-1, 0, 2}, {{"alpha", 2.0}}), {2 * (std::exp(-1.0F) - 1), 0, 2});
  require_same(unary("celu", {-1, 2}, {{"alpha", 2.0}}), {2 * (std::exp(-0.5F) - 1), 2});
  require_same(unary("selu", {-1, 1}),
               {1.0507010F * 1.6732632F * (std::exp(-1.0F) - 1), 1.0507010F});
  require_same(unary("affine", {-1, 2}, {{"scale", 3.0}, {"shift", 0.5}}), {-2.5F, 6.5F});
}

TEST_CASE("functions stay finite where their parts overflow") {
  require_same(unary("softplus", {-200, 0, 200, kInfinity, kNan}),
               {0, std::log(2.0F), 200, kInfinity, kNan});
  require_same(unary("sigmoid", {-200, 0, 200}), {0, 0.5F, 1});
  require_same(unary("silu", {-200, 0, 200}), {0, 0, 200});
  require_same(unary("mish", {-200, 200}), {0, 200});
  require_same(unary("gelu", {-40, 0, 1, 40}), {0, 0, 0.84134475F, 40});
  require_same(unary("gelu", {-40, 0, 1, 40}, {{"approximate", std::string("tanh")}}),
               {0, 0, 0.84119199F, 40});
}

TEST_CASE("minimum and maximum: the first operand takes a tie's gradient, NaN passes through") {
  const Values a = {1, 2, 3, kNan, 1};
  const Values b = {1, 1, 4, 1, kNan};
  const Result smaller = binary("minimum", a, b);
  require_same(smaller.y, {1, 1, 3, kNan, kNan});
  require_same(smaller.grad_inputs[0], {2, 0, 2, 2, 0});
  require_same(smaller.grad_inputs[1], {0, 2, 0, 0, 2});
  const Result larger = binary("maximum", a, b);
  require_same(larger.y, {1, 2, 4, kNan, kNan});
  require_same(larger.grad_inputs[0], {2, 2, 0, 2, 0});
  require_same(larger.grad_inputs[1], {0, 0, 2, 0, 2});
}

TEST_CASE("pow: zero and negative bases, and an exponent of zero") {
  const Result result = binary("pow", {0, 0, -2, -2, 3, 0}, {2, 0.5F, 2, 3, 2, 0});
  require_same(result.y, {0, 0, 4, -8, 9, 1});
  require_same(result.grad_inputs[0], {0, kInfinity, -8, 24, 12, 0});
  require_same(result.grad_inputs[1], {0, 0, kNan, kNan, 18 * std::log(3.0F), 0});
}

TEST_CASE("fmod is C's: the sign of the first operand, and whole quotients at its steps") {
  const Result result = binary("fmod", {5.5F, -5.5F, 5.5F, 6}, {2, 2, -2, 3});
  require_same(result.y, {1.5F, -1.5F, 1.5F, 0});
  require_same(result.grad_inputs[0], {2, 2, 2, 2});
  require_same(result.grad_inputs[1], {-4, 4, 4, -4});
  // The f32 quotient rounds up to 3, the whole one is 2.
  const float below = std::nextafter(3.0F, 0.0F);
  require_same(binary("fmod", {below}, {1}).grad_inputs[1], {-4});
}

TEST_CASE("fmod by the slot `other`: its gradient sums whole quotients over batch and rows") {
  OpRun<float> run(find_op("fmod"),
                   {.name = "slot", .inputs = {{2, 2}}, .parameters = {{"other", {2}}}, .batch = 2},
                   true);
  fill(run.inputs[0], {5, 5, -5, 1, 7, 9, 1, 4});
  fill(run.parameters.at("other"), {2, 3});
  fill(run.grad_outputs[0], {1, 1, 1, 1, 1, 1, 1, 10});
  run.forward();
  run.backward();
  require_same(values_of(run.outputs[0]), {1, 2, -1, 1, 1, 0, 1, 1});
  require_same(values_of(run.grad_inputs[0]), {1, 1, 1, 1, 1, 1, 1, 10});
  // Column 0: −(2 − 2 + 3 + 0); column 1: −(1 + 0 + 3 + 10·1).
  require_same(values_of(run.grad_parameters.at("other")), {-3, -14});
}

TEST_CASE("comparisons and logic give 0 or 1, NaN is less than nothing, and no gradient passes") {
  const Values a = {1, 2, 2, kNan};
  const Values b = {2, 2, 1, 1};
  require_same(binary("equal", a, b).y, {0, 1, 0, 0});
  require_same(binary("less", a, b).y, {1, 0, 0, 0});
  require_same(binary("less_equal", a, b).y, {1, 1, 0, 0});
  require_same(binary("greater", a, b).y, {0, 0, 1, 0});
  require_same(binary("greater_equal", a, b).y, {0, 1, 1, 0});
  const Values p = {0, 0, 3, -2};
  const Values q = {0, 5, 0, 7};
  require_same(binary("logical_and", p, q).y, {0, 0, 0, 1});
  require_same(binary("logical_or", p, q).y, {0, 1, 1, 1});
  require_same(binary("logical_xor", p, q).y, {0, 1, 1, 0});
  for (const char* name : {"equal", "less", "logical_or"}) {
    const Result result = binary(name, a, b);
    require_same(result.grad_inputs[0], {0, 0, 0, 0});
    require_same(result.grad_inputs[1], {0, 0, 0, 0});
  }
}

TEST_CASE("broadcasting repeats sizes of 1 and missing ones, and sums their gradients") {
  const Result sum =
      apply("binary_add", {{{2, 1}, {10, 20}}, {{3}, {1, 2, 3}}}, {1, 2, 3, 4, 5, 6});
  require_same(sum.y, {11, 12, 13, 21, 22, 23});
  require_same(sum.grad_inputs[0], {6, 15});
  require_same(sum.grad_inputs[1], {5, 7, 9});
  const Result difference = apply("sub", {{{}, {10}}, {{2, 2}, {1, 2, 3, 4}}}, {1, 2, 3, 4});
  require_same(difference.y, {9, 8, 7, 6});
  require_same(difference.grad_inputs[0], {10});
  require_same(difference.grad_inputs[1], {-1, -2, -3, -4});
}

TEST_CASE("where takes an infinity's place without a trace in value or gradient") {
  const Result result =
      apply("where", {{{2, 1}, {1, 0}}, {{2}, {5, 6}}, {{}, {-kInfinity}}}, {1, 2, kInfinity, 4});
  require_same(result.y, {5, 6, -kInfinity, -kInfinity});
  require_same(result.grad_inputs[0], {0, 0});
  require_same(result.grad_inputs[1], {1, 2});
  require_same(result.grad_inputs[2], {kInfinity});
}

TEST_CASE("one value as both inputs: gradients add up in one memory") {
  OpRun<float> run(find_op("mul"), {.name = "x·x", .inputs = {{3}, {3}}, .batch = 1}, true);
  fill(run.inputs[0], {1, 2, 3});
  fill(run.inputs[1], {1, 2, 3});
  fill(run.grad_outputs[0], {1, 1, 1});
  run.io.grad_inputs[1] = run.io.grad_inputs[0];
  run.io.accumulate[1] = true;
  run.forward();
  run.backward();
  require_same(values_of(run.grad_inputs[0]), {2, 4, 6});
}

TEST_CASE("reductions by hand: axes, ties, zeros, NaN") {
  const std::vector<std::pair<Shape, Values>> x = {{{2, 3}, {1, -2, 3, 3, 0, -3}}};
  const std::map<std::string, Attribute> last = {{"axes", Axes{-1}}};
  require_same(apply("reduce_sum", x, {1}, {{"axes", Axes{}}}).y, {2});
  require_same(apply("reduce_mean", x, {3, 6}, last).y, {2.0F / 3, 0});
  require_same(apply("reduce_mean", x, {3, 6}, last).grad_inputs[0], {1, 1, 1, 2, 2, 2});
  const Result most = apply("reduce_max", x, {1, 2, 4}, {{"axes", Axes{0}}, {"keepdims", false}});
  require_same(most.y, {3, 0, 3});
  require_same(most.grad_inputs[0], {0, 0, 4, 1, 2, 0});
  const Result tied = apply("reduce_max", x, {7}, {});
  require_same(tied.grad_inputs[0], {0, 0, 7, 0, 0, 0});
  require_same(apply("reduce_min", {{{3}, {2, kNan, 1}}}, {1}, {}).y, {kNan});
  const Result product = apply("reduce_prod", x, {2, 2}, last);
  require_same(product.y, {-6, 0});
  require_same(product.grad_inputs[0], {-12, 6, -4, 0, -18, 0});
  require_same(apply("reduce_prod", {{{3}, {0, 0, 5}}}, {1}, {}).grad_inputs[0], {0, 0, 0});
  const Result absolute = apply("reduce_l1", x, {1, 2}, last);
  require_same(absolute.y, {6, 6});
  require_same(absolute.grad_inputs[0], {1, -1, 1, 2, 0, -2});
  const Result length = apply("reduce_l2", {{{2, 2}, {3, 4, 0, 0}}}, {5, 1}, last);
  require_same(length.y, {5, 0});
  require_same(length.grad_inputs[0], {3, 4, 0, 0});
  const Result soft =
      apply("reduce_log_sum_exp", {{{2, 2}, {1000, 1000, -kInfinity, 0}}}, {2, 1}, last);
  require_same(soft.y, {1000 + std::log(2.0F), 0});
  require_same(soft.grad_inputs[0], {1, 1, 0, 1});
}

TEST_CASE("softmax of large scores, over a masked row, and over any axis") {
  require_same(unary("softmax", {1000, 1000, -kInfinity}), {0.5F, 0.5F, 0});
  require_same(unary("log_softmax", {1000, 1000}), {-std::log(2.0F), -std::log(2.0F)});
  const Result columns =
      apply("softmax", {{{2, 2}, {0, 5, 0, 5}}}, {1, 0, 0, 0}, {{"axis", std::int64_t{0}}});
  require_same(columns.y, {0.5F, 0.5F, 0.5F, 0.5F});
  require_same(columns.grad_inputs[0], {0.25F, 0, -0.25F, 0});
}

TEST_CASE("cumsum: exclusive and reverse") {
  const std::vector<std::pair<Shape, Values>> x = {{{3}, {1, 2, 4}}};
  const auto sums = [&](bool exclusive, bool reverse) {
    return apply("cumsum", x, {1, 10, 100},
                 {{"axis", std::int64_t{0}}, {"exclusive", exclusive}, {"reverse", reverse}});
  };
  require_same(sums(false, false).y, {1, 3, 7});
  require_same(sums(true, false).y, {0, 1, 3});
  require_same(sums(false, true).y, {7, 6, 4});
  require_same(sums(true, true).y, {6, 4, 0});
  require_same(sums(false, false).grad_inputs[0], {111, 110, 100});
  require_same(sums(true, false).grad_inputs[0], {110, 100, 0});
  require_same(sums(true, true).grad_inputs[0], {0, 1, 11});
}

TEST_CASE("the slot `other` on the last sizes, and a parameter's value, describe their squares") {
  const std::map<std::string, Shape> whole = {{"other", {1, 3}}};
  const std::map<std::string, Shape> middle = {{"other", {2, 1}}};
  for (const char* name : {"binary_add", "sub", "mul"}) {
    CAPTURE(name);
    for (const bool trailing : {true, false}) {
      OpRun<float> run(
          find_op(name),
          {.name = "other", .inputs = {{2, 3}}, .parameters = trailing ? whole : middle}, true);
      run.forward();
      REQUIRE(run.kernel().square_rule(run.io).size() == (trailing ? 1U : 0U));
    }
  }
  OpRun<float> value(find_op("parameter"),
                     {.name = "value", .inputs = {}, .parameters = {{"value", {4}}}}, true);
  value.forward();
  REQUIRE(value.kernel().square_rule(value.io).size() == 1);
}

TEST_CASE("what elementwise ops and reductions refuse") {
  const std::map<std::string, Shape> other = {{"other", {4}}};
  require_refused("binary_add", {.name = "", .inputs = {{3}, {4}}}, "broadcast");
  require_refused("binary_add", {.name = "", .inputs = {{3}}}, "second input or a parameter");
  require_refused("mul", {.name = "", .inputs = {{4}, {4}}, .parameters = other}, "not both");
  require_refused("mul", {.name = "", .inputs = {{3}}, .parameters = other}, "broadcast");
  require_refused("mul", {.name = "", .inputs = {{1}}, .parameters = other}, "broadcasts to (1)");
  require_refused("where", {.name = "", .inputs = {{2}, {3}, {3}}}, "input 1 is (3)");
  require_refused("reduce_sum", {.name = "", .inputs = {{3}}, .attributes = {{"axes", Axes{1}}}},
                  "axes in [-1, 1)");
  require_refused("reduce_sum",
                  {.name = "", .inputs = {{3, 2}}, .attributes = {{"axes", Axes{1, -1}}}}, "once");
  require_refused("softmax", {.name = "", .inputs = {{}}}, "axis");
  require_refused("cumsum", {.name = "", .inputs = {{3}}}, "'axis'");
  require_refused("gelu",
                  {.name = "", .inputs = {{3}}, .attributes = {{"approximate", std::string("no")}}},
                  "approximate");
  require_refused("celu", {.name = "", .inputs = {{3}}, .attributes = {{"alpha", 0.0}}}, "alpha");
  require_refused("elu",
                  {.name = "", .inputs = {{3}}, .attributes = {{"alpha", double{kInfinity}}}},
                  "finite alpha");
  require_refused("clip", {.name = "", .inputs = {{3}}, .attributes = {{"min", double{kNan}}}},
                  "min");
  require_refused("exp",
                  {.name = "", .inputs = {{3}}, .draws = {{.low = 0, .high = 5, .integer = true}}},
                  "real numbers");
}
