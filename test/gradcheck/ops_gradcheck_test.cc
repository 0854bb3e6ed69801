// Every op's backward, in f64, against central differences of its forward: along random directions
// and, where a tensor has at most kMostElements elements, for each element.
#include <doctest/doctest.h>

#include <cstdio>
#include <numeric>

#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

constexpr double kStep = 1e-5;
constexpr double kTolerance = 1e-6;
constexpr std::int64_t kMostElements = 2000;

// L = Σ grad_output · y at the present values; running statistics are put back first, as a training
// forward moves them.
class Objective {
 public:
  explicit Objective(OpRun<double>& run) : run_(run) {
    for (const auto& [slot, tensor] : run.parameters) {
      if (!run.grad_parameters.contains(slot)) buffers_[slot] = copy(tensor);
    }
  }
  double operator()() {
    for (const auto& [slot, values] : buffers_) {
      std::copy(values.begin(), values.end(), run_.parameters.at(slot).as<double>());
    }
    run_.forward();
    const auto y = run_.outputs[0].span<double>();
    const auto weights = run_.grad_outputs[0].span<double>();
    return std::inner_product(y.begin(), y.end(), weights.begin(), 0.0);
  }

 private:
  static std::vector<double> copy(const Tensor& tensor) {
    const auto values = tensor.span<double>();
    return {values.begin(), values.end()};
  }
  OpRun<double>& run_;
  std::map<std::string, std::vector<double>> buffers_;
};

double norm(std::span<const double> values) {
  return std::sqrt(std::inner_product(values.begin(), values.end(), values.begin(), 0.0));
}

// Difference quotient of L along `direction` from the tensor's present values.
double slope(Objective& objective, const Tensor& tensor, const std::vector<double>& direction) {
  const auto values = tensor.span<double>();
  const std::vector<double> start(values.begin(), values.end());
  double ends[2];
  for (const int side : {0, 1}) {
    const double step = side == 0 ? -kStep : kStep;
    for (std::size_t i = 0; i < start.size(); ++i) values[i] = start[i] + step * direction[i];
    ends[side] = objective();
  }
  std::copy(start.begin(), start.end(), values.begin());
  return (ends[1] - ends[0]) / (2 * kStep);
}

// The largest error of the gradient of one tensor, relative to the gradient's norm. The floor is
// there for gradients that vanish (a constant under batch norm's mean): L's own size is then the
// measure.
double gradient_error(Objective& objective, const Tensor& tensor, const Tensor& gradient,
                      std::uint64_t stream) {
  const auto analytic = gradient.span<double>();
  const double floor = 1e-3 * std::sqrt(static_cast<double>(tensor.count()));
  const double scale = std::max(norm(analytic), floor);
  double worst = 0;
  for (std::uint64_t repeat = 0; repeat < 3; ++repeat) {
    const std::vector<float> draw = normals(tensor.count(), stream + repeat);
    const std::vector<double> direction(draw.begin(), draw.end());
    const double expected =
        std::inner_product(direction.begin(), direction.end(), analytic.begin(), 0.0);
    worst = std::max(worst, std::abs(slope(objective, tensor, direction) - expected) / scale);
  }
  if (tensor.count() > kMostElements) return worst;
  std::vector<double> direction(analytic.size());
  for (std::size_t i = 0; i < analytic.size(); ++i) {
    direction[i] = 1;
    worst = std::max(worst, std::abs(slope(objective, tensor, direction) - analytic[i]) / scale);
    direction[i] = 0;
  }
  return worst;
}

// Backward again on top of known values: they must stay in the sum.
double accumulation_error(OpRun<double>& run) {
  std::vector<std::vector<double>> expected;
  for (const Tensor& grad : run.grad_inputs) {
    const auto values = grad.span<double>();
    expected.emplace_back(values.begin(), values.end());
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double before = normal({9, expected.size()}, i);
      expected.back()[i] += before;
      values[i] = before;
    }
  }
  std::map<std::string, std::vector<double>> sums;
  for (const auto& [slot, grad] : run.grad_parameters) {
    const auto values = grad.span<double>();
    sums[slot].assign(values.begin(), values.end());
    for (double& value : sums[slot]) value *= 2;
  }
  run.io.accumulate.assign(run.inputs.size(), true);
  run.kernel().backward(run.io);
  double worst = 0;
  for (std::size_t k = 0; k < expected.size(); ++k) {
    worst = std::max(
        worst, relative_distance<double, double>(run.grad_inputs[k].span<double>(), expected[k]));
  }
  for (const auto& [slot, expected_sum] : sums) {
    worst = std::max(worst, relative_distance<double, double>(
                                run.grad_parameters.at(slot).span<double>(), expected_sum));
  }
  return worst;
}

double case_error(const OpDefinition& op, const SampleCase& sample_case) {
  OpRun<double> run(op, sample_case, false);
  Objective objective(run);
  objective();
  run.backward();
  double worst = accumulation_error(run);
  run.io.accumulate.assign(run.inputs.size(), false);
  run.backward();
  for (std::size_t k = 0; k < run.inputs.size(); ++k) {
    if (run.inputs[k].dtype() != DType::kF64) continue;
    worst =
        std::max(worst, gradient_error(objective, run.inputs[k], run.grad_inputs[k], 300 + 10 * k));
  }
  for (const auto& [slot, gradient] : run.grad_parameters) {
    worst = std::max(worst, gradient_error(objective, run.parameters.at(slot), gradient, 400));
  }
  return worst;
}

}  // namespace

TEST_CASE("gradcheck: backward of every op and case equals central differences in f64") {
  int rows = 0;
  for (const std::string& name : op_names()) {
    const OpDefinition& op = find_op(name);
    CAPTURE(name);
    REQUIRE_FALSE(op.cases.empty());
    for (const SampleCase& sample_case : op.cases) {
      CAPTURE(sample_case.name);
      const double error = case_error(op, sample_case);
      std::printf("gradcheck  %-16s %-44s %.1e\n", name.c_str(), sample_case.name.c_str(), error);
      REQUIRE(error < kTolerance);
      ++rows;
    }
  }
  REQUIRE(rows >= 40);
}
