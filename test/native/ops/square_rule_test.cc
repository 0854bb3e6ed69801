// The squared-gradient forms that ops describe, evaluated naively in f64, against the definition:
// Σ_n of the squared gradient of sample n alone.
#include <doctest/doctest.h>

#include <cstdio>

#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

// One sample's gradient by square_rule.h's formula, with a factor of 1 for what is not there.
std::vector<double> sample_gradient(const ContractionForm& f, std::int64_t n) {
  const std::int64_t in_per_group = f.in_channels / f.groups;
  const std::int64_t out_per_group = f.out_channels / f.groups;
  std::vector<double> gradient;
  for (std::int64_t o = 0; o < f.out_channels; ++o) {
    for (std::int64_t i = 0; i < in_per_group; ++i) {
      for (std::int64_t kh = 0; kh < f.kernel_height; ++kh) {
        for (std::int64_t kw = 0; kw < f.kernel_width; ++kw) {
          double sum = 0;
          for (std::int64_t y = 0; y < f.out_height; ++y) {
            for (std::int64_t x = 0; x < f.out_width; ++x) {
              const std::int64_t iy = y * f.stride_height - f.pad_top + kh * f.dilation_height;
              const std::int64_t ix = x * f.stride_width - f.pad_left + kw * f.dilation_width;
              if (iy < 0 || iy >= f.in_height || ix < 0 || ix >= f.in_width) continue;
              const std::int64_t at = ((n * f.in_height + iy) * f.in_width + ix) * f.in_channels;
              const std::int64_t channel = o / out_per_group * in_per_group + i;
              const std::int64_t out = (n * f.out_height + y) * f.out_width + x;
              sum += static_cast<double>(f.grad_output[out * f.out_channels + o]) *
                     static_cast<double>(f.input[at + channel]);
            }
          }
          gradient.push_back(sum);
        }
      }
    }
  }
  return gradient;
}

std::vector<double> sample_gradient(const ReductionForm& f, std::int64_t n) {
  std::vector<double> gradient(static_cast<std::size_t>(f.channels));
  for (std::int64_t p = 0; p < f.positions; ++p) {
    for (std::int64_t c = 0; c < f.channels; ++c) {
      const std::int64_t at = (n * f.positions + p) * f.channels + c;
      double factor = 1;
      if (f.input != nullptr) {
        factor = (static_cast<double>(f.input[at]) - static_cast<double>(f.mean[c])) *
                 static_cast<double>(f.inv_std[c]);
      }
      gradient[static_cast<std::size_t>(c)] += static_cast<double>(f.grad_output[at]) * factor;
    }
  }
  return gradient;
}

std::vector<double> sample_gradient(const ScatterForm& f, std::int64_t n) {
  std::vector<double> gradient(static_cast<std::size_t>(f.rows * f.channels));
  for (std::int64_t p = n * f.positions; p < (n + 1) * f.positions; ++p) {
    if (f.ids[p] < 0) continue;
    for (std::int64_t c = 0; c < f.channels; ++c) {
      gradient[static_cast<std::size_t>(f.ids[p] * f.channels + c)] +=
          static_cast<double>(f.grad_output[p * f.channels + c]);
    }
  }
  return gradient;
}

template <typename Form>
std::vector<double> sum_of_squares(const Form& form) {
  std::vector<double> sums;
  for (std::int64_t n = 0; n < form.batch; ++n) {
    const std::vector<double> gradient = sample_gradient(form, n);
    sums.resize(gradient.size());
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += gradient[i] * gradient[i];
  }
  return sums;
}

// The definition: N backward passes on one sample each, in f64.
std::map<std::string, std::vector<double>> reference_sums(const OpDefinition& op,
                                                          const SampleCase& sample_case) {
  OpRun<double> run(op, sample_case, false);
  run.forward();
  const std::unique_ptr<Kernel> single = run.make_kernel(1, false);
  std::map<std::string, std::vector<double>> squares;
  for (std::int64_t n = 0; n < sample_case.batch; ++n) {
    std::map<std::string, Tensor> gradients;
    for (const auto& [slot, gradient] : run.grad_parameters) {
      gradients[slot] = Tensor(DType::kF64, gradient.shape());
    }
    single->backward(run.sample_io(n, gradients));
    for (const auto& [slot, gradient] : gradients) {
      squares[slot].resize(static_cast<std::size_t>(gradient.count()));
      for (std::size_t i = 0; i < squares[slot].size(); ++i) {
        squares[slot][i] += gradient.as<double>()[i] * gradient.as<double>()[i];
      }
    }
  }
  return squares;
}

// The kernel's own inv_std is f32: what rests on it is right to f32's digits.
double tolerance_of(const SquareProblem& problem) {
  const auto* reduction = std::get_if<ReductionForm>(&problem.form);
  return reduction != nullptr && reduction->input != nullptr ? 1e-6 : 1e-10;
}

}  // namespace

TEST_CASE("square rules describe the sum over samples of squared gradients") {
  std::map<std::string, int> described;
  for (const std::string& name : op_names()) {
    const OpDefinition& op = find_op(name);
    for (const SampleCase& original : op.cases) {
      SampleCase sample_case = original;
      sample_case.training = false;
      CAPTURE(name);
      CAPTURE(sample_case.name);
      OpRun<float> run(op, sample_case, true);
      run.forward();
      const std::vector<SquareProblem> problems = run.kernel().square_rule(run.io);
      if (problems.empty()) continue;
      const auto expected = reference_sums(op, sample_case);
      for (const SquareProblem& problem : problems) {
        CAPTURE(problem.slot);
        REQUIRE(expected.contains(problem.slot));
        const std::vector<double> sums =
            std::visit([](const auto& form) { return sum_of_squares(form); }, problem.form);
        REQUIRE(sums.size() == expected.at(problem.slot).size());
        const double error = relative_distance<double, double>(sums, expected.at(problem.slot));
        std::printf("square     %-16s %-44s %-8s %.1e\n", name.c_str(), sample_case.name.c_str(),
                    problem.slot.c_str(), error);
        REQUIRE(error < tolerance_of(problem));
        ++described[name];
      }
    }
  }
  for (const char* name : {"linear", "conv2d", "conv_transpose2d", "batch_norm", "layer_norm",
                           "rms_norm", "group_norm", "embedding"}) {
    CAPTURE(name);
    REQUIRE(described[name] > 0);
  }
}

TEST_CASE("batch norm describes no square rule in training mode, where samples mix") {
  const OpDefinition& op = find_op("batch_norm");
  for (const SampleCase& sample_case : op.cases) {
    if (!sample_case.training) continue;
    OpRun<float> run(op, sample_case, true);
    run.forward();
    REQUIRE(run.kernel().square_rule(run.io).empty());
  }
}
