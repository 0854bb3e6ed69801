// matmul against sums written out by index, over transposes and broadcast leading sizes.
#include <doctest/doctest.h>

#include <algorithm>

#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

using Values = std::vector<double>;

// Place of index `position` of the output's leading sizes in an operand that broadcasts.
std::int64_t matrix_at(const Shape& own, const Shape& output, std::int64_t position) {
  std::int64_t at = 0;
  std::int64_t stride = 1;
  for (std::size_t back = 3; back <= output.size(); ++back) {
    const std::int64_t size = output[output.size() - back];
    const std::int64_t mine = back <= own.size() ? own[own.size() - back] : 1;
    if (mine != 1) at += position % size * stride;
    stride *= mine;
    position /= size;
  }
  return at;
}

// One sample's product, entry by entry.
Values product(const Shape& a_shape, const double* a, const Shape& b_shape, const double* b,
               const Shape& output, bool transpose_a, bool transpose_b) {
  const std::int64_t m = output[output.size() - 2];
  const std::int64_t n = output.back();
  const std::int64_t k = transpose_a ? a_shape[a_shape.size() - 2] : a_shape.back();
  Values y;
  for (std::int64_t i = 0; i < element_count(output); ++i) {
    const double* left = a + matrix_at(a_shape, output, i / (m * n)) * m * k;
    const double* right = b + matrix_at(b_shape, output, i / (m * n)) * k * n;
    const std::int64_t row = i / n % m;
    const std::int64_t column = i % n;
    double sum = 0;
    for (std::int64_t l = 0; l < k; ++l) {
      sum += left[transpose_a ? l * m + row : row * k + l] *
             right[transpose_b ? column * k + l : l * n + column];
    }
    y.push_back(sum);
  }
  return y;
}

std::string refusal_of(const SampleCase& sample_case) {
  try {
    static_cast<void>(node_of(find_op("matmul"), sample_case));
    return "accepted";
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("matmul: every case equals sums written out by index") {
  const OpDefinition& op = find_op("matmul");
  for (const SampleCase& sample_case : op.cases) {
    CAPTURE(sample_case.name);
    OpRun<double> run(op, sample_case, false);
    run.forward();
    const Attributes& attributes = run.node().attributes;
    const bool slot = run.parameters.contains("other");
    const Shape& a_shape = sample_case.inputs[0];
    const Shape& b_shape = slot ? sample_case.parameters.at("other") : sample_case.inputs[1];
    const Shape& output = run.node().outputs[0].shape;
    Values expected;
    for (std::int64_t n = 0; n < sample_case.batch; ++n) {
      const double* a = run.inputs[0].as<double>() + n * element_count(a_shape);
      const double* b = slot ? run.parameters.at("other").as<double>()
                             : run.inputs[1].as<double>() + n * element_count(b_shape);
      const Values one =
          product(a_shape, a, b_shape, b, output, attributes.boolean("transpose_a", false),
                  attributes.boolean("transpose_b", false));
      expected.insert(expected.end(), one.begin(), one.end());
    }
    REQUIRE(relative_distance<double, double>(run.outputs[0].span<double>(), expected) < 1e-14);
  }
}

TEST_CASE("matmul: leading sizes broadcast to the output's shape") {
  const auto shape_of = [](const Shape& a, const Shape& b) {
    return node_of(find_op("matmul"), {.name = "shape", .inputs = {a, b}}).outputs[0].shape;
  };
  CHECK(shape_of({2, 1, 4, 3}, {5, 3, 7}) == Shape{2, 5, 4, 7});
  CHECK(shape_of({4, 3}, {6, 1, 3, 2}) == Shape{6, 1, 4, 2});
}

TEST_CASE("matmul: both operands may be one value, whose gradients add up, fast and plain") {
  const SampleCase same = {.name = "same", .inputs = {{9, 9}, {9, 9}}, .batch = 2};
  for (const bool fast : {false, true}) {
    OpRun<float> apart(find_op("matmul"), same, fast);
    OpRun<float> run(find_op("matmul"), same, fast);
    apart.io.inputs[1] = apart.io.inputs[0];
    run.io.inputs[1] = run.io.inputs[0];
    run.io.grad_inputs[1] = run.io.grad_inputs[0];
    run.io.accumulate = {false, true};
    apart.forward();
    apart.backward();
    run.forward();
    run.backward();
    const auto total = apart.grad_inputs[0].span<float>();
    const auto second = apart.grad_inputs[1].span<float>();
    for (std::size_t i = 0; i < total.size(); ++i) total[i] += second[i];
    CHECK(relative_distance<float, float>(run.grad_inputs[0], apart.grad_inputs[0]) < 1e-6);
  }
}

TEST_CASE("matmul describes the squares of a plain parameter, and of no other") {
  const OpDefinition& op = find_op("matmul");
  int described = 0;
  for (const SampleCase& sample_case : op.cases) {
    CAPTURE(sample_case.name);
    OpRun<float> run(op, sample_case, true);
    run.forward();
    const bool plain = sample_case.parameters.contains("other") &&
                       sample_case.parameters.at("other").size() == 2 &&
                       !run.node().attributes.boolean("transpose_a", false);
    CHECK(run.kernel().square_rule(run.io).size() == (plain ? 1U : 0U));
    described += plain ? 1 : 0;
  }
  CHECK(described == 3);
}

TEST_CASE("matmul refuses sizes that do not fit, and says why") {
  const auto refused = [](const std::vector<Shape>& inputs,
                          const std::map<std::string, Shape>& parameters, const char* message) {
    const std::string text =
        refusal_of({.name = "refused", .inputs = inputs, .parameters = parameters});
    CAPTURE(text);
    CHECK(text.find(message) != std::string::npos);
  };
  refused({{2, 3}, {2, 3}}, {}, "one inner size");
  refused({{3}, {3, 2}}, {}, "matrices or stacks");
  refused({{2, 3}}, {{"other", {3}}}, "matrices or stacks");
  refused({{2, 3}}, {}, "without 'other'");
  refused({{2, 3}, {3, 2}}, {{"other", {3, 2}}}, "and 'other'");
  refused({{2, 2, 3}, {3, 3, 4}}, {}, "equal or 1");
  refused({{2, 0}, {0, 3}}, {}, "sizes of at least 1");
}
