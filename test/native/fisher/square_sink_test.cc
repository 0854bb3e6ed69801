// The fused kernels on what each op's square rule describes, against N backward passes on one
// sample each in f64: the op's form and the kernel's reading of it must be the same.
#include <doctest/doctest.h>

#include <cstdio>

#include "fisher/cpu_square_sink.h"
#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

constexpr double kTolerance = 1e-5;

using Squares = std::map<std::string, std::vector<double>>;

Squares single_squares(const OpDefinition& op, const SampleCase& sample_case) {
  OpRun<double> run(op, sample_case, false);
  run.forward();
  const std::unique_ptr<Kernel> single = run.make_kernel(1, false);
  Squares squares;
  for (std::int64_t n = 0; n < sample_case.batch; ++n) {
    std::map<std::string, Tensor> gradients;
    for (const auto& [slot, gradient] : run.grad_parameters) {
      gradients[slot] = Tensor(DType::kF64, gradient.shape());
    }
    single->backward(run.sample_io(n, gradients));
    for (const auto& [slot, gradient] : gradients) {
      std::vector<double>& sums = squares[slot];
      sums.resize(static_cast<std::size_t>(gradient.count()));
      for (std::size_t i = 0; i < sums.size(); ++i) {
        sums[i] += gradient.as<double>()[i] * gradient.as<double>()[i];
      }
    }
  }
  return squares;
}

// Compares every slot that the op describes; returns how many.
int check_case(const OpDefinition& op, const SampleCase& sample_case) {
  OpRun<float> run(op, sample_case, true);
  run.forward();
  const std::vector<SquareProblem> problems = run.kernel().square_rule(run.io);
  if (problems.empty()) return 0;
  const Squares expected = single_squares(op, sample_case);
  // All of a node's problems at once, as a pass hands them over.
  std::map<std::string, std::vector<double>> all;
  std::vector<SquareTask> tasks;
  for (const SquareProblem& problem : problems) {
    std::vector<double>& sums = all[problem.slot];
    sums.resize(expected.at(problem.slot).size());
    tasks.push_back({&problem, sums.data()});
  }
  CpuSquareSink().accumulate(tasks);
  for (const SquareProblem& problem : problems) {
    CAPTURE(problem.slot);
    const std::vector<double>& sums = all.at(problem.slot);
    const double error = relative_distance<double, double>(sums, expected.at(problem.slot));
    std::printf("sink       %-16s %-44s %-8s %.1e\n", op.name.c_str(), sample_case.name.c_str(),
                problem.slot.c_str(), error);
    REQUIRE(error < kTolerance);
  }
  return static_cast<int>(problems.size());
}

}  // namespace

TEST_CASE("square rules: the fused kernels give the sum over samples of squared gradients") {
  std::map<std::string, int> checked;
  for (const std::string& name : op_names()) {
    const OpDefinition& op = find_op(name);
    for (const SampleCase& original : op.cases) {
      SampleCase sample_case = original;
      sample_case.training = false;
      CAPTURE(name);
      CAPTURE(sample_case.name);
      checked[name] += check_case(op, sample_case);
    }
  }
  for (const char* name : {"linear", "conv2d", "conv_transpose2d", "layer_norm", "embedding"}) {
    CAPTURE(name);
    REQUIRE(checked[name] > 0);
  }
}
