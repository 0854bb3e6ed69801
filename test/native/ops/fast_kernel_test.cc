// Every op's f32 kernel (the fast one where there is one) against its f64 reference, and a sample
// cut out of a batch against the batch: the generic Fisher rule stands on the latter.
#include <doctest/doctest.h>

#include <cstdio>
#include <functional>

#include "core/parallel.h"
#include "native/ops/op_harness.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

constexpr double kTolerance = 1e-5;

void for_each_case(const std::function<void(const OpDefinition&, const SampleCase&)>& body) {
  for (const std::string& name : op_names()) {
    const OpDefinition& op = find_op(name);
    for (const SampleCase& sample_case : op.cases) {
      CAPTURE(name);
      CAPTURE(sample_case.name);
      body(op, sample_case);
    }
  }
}

// Largest distance over the gradients of two runs.
double gradient_distance(const OpRun<float>& run, const OpRun<double>& reference) {
  double worst = 0;
  for (std::size_t k = 0; k < run.grad_inputs.size(); ++k) {
    worst = std::max(
        worst, relative_distance<float, double>(run.grad_inputs[k], reference.grad_inputs[k]));
  }
  for (const auto& [slot, gradient] : run.grad_parameters) {
    worst = std::max(
        worst, relative_distance<float, double>(gradient, reference.grad_parameters.at(slot)));
  }
  return worst;
}

// The same start in both precisions, so that what accumulates can be told from what overwrites.
template <typename T>
void prefill(OpRun<T>& run) {
  const auto fill = [](const Tensor& tensor, std::uint64_t stream) {
    const std::vector<float> values = normals(tensor.count(), stream);
    std::copy(values.begin(), values.end(), tensor.template as<T>());
  };
  std::uint64_t stream = 700;
  for (const Tensor& gradient : run.grad_inputs) fill(gradient, stream++);
  for (const auto& [slot, gradient] : run.grad_parameters) fill(gradient, stream++);
}

template <typename T>
std::vector<T> results(const OpRun<T>& run) {
  std::vector<T> all;
  const auto append = [&](const Tensor& tensor) {
    const auto values = tensor.template span<T>();
    all.insert(all.end(), values.begin(), values.end());
  };
  for (const Tensor& tensor : run.outputs) append(tensor);
  for (const Tensor& tensor : run.grad_inputs) append(tensor);
  for (const auto& [slot, tensor] : run.parameters) append(tensor);
  for (const auto& [slot, tensor] : run.grad_parameters) append(tensor);
  return all;
}

}  // namespace

TEST_CASE("f32 kernels equal the f64 reference: forward, running state, backward, accumulation") {
  for_each_case([](const OpDefinition& op, const SampleCase& sample_case) {
    OpRun<float> run(op, sample_case, true);
    OpRun<double> reference(op, sample_case, false);
    run.forward();
    reference.forward();
    double worst = relative_distance<float, double>(run.outputs[0], reference.outputs[0]);
    for (const auto& [slot, tensor] : run.parameters) {
      worst =
          std::max(worst, relative_distance<float, double>(tensor, reference.parameters.at(slot)));
    }
    // Over garbage first: what is not accumulated must be overwritten.
    for (const bool accumulate : {false, true}) {
      run.io.accumulate.assign(run.inputs.size(), accumulate);
      reference.io.accumulate.assign(run.inputs.size(), accumulate);
      prefill(run);
      prefill(reference);
      run.kernel().backward(run.io);
      reference.kernel().backward(reference.io);
      worst = std::max(worst, gradient_distance(run, reference));
    }
    std::printf("fast       %-16s %-44s %.1e\n", op.name.c_str(), sample_case.name.c_str(), worst);
    REQUIRE(worst < kTolerance);
  });
}

TEST_CASE("a second step on the same kernel sees changed parameters") {
  for_each_case([](const OpDefinition& op, const SampleCase& sample_case) {
    OpRun<float> run(op, sample_case, true);
    OpRun<double> reference(op, sample_case, false);
    run.forward();
    run.backward();
    reference.forward();
    reference.backward();
    for (const auto& [slot, tensor] : run.grad_parameters) {
      for (float& value : run.parameters.at(slot).span<float>()) value = value * 1.5F + 0.25F;
      const auto changed = run.parameters.at(slot).span<float>();
      std::copy(changed.begin(), changed.end(), reference.parameters.at(slot).as<double>());
    }
    run.forward();
    run.backward();
    reference.forward();
    reference.backward();
    REQUIRE(relative_distance<float, double>(run.outputs[0], reference.outputs[0]) < kTolerance);
    REQUIRE(gradient_distance(run, reference) < kTolerance);
  });
}

TEST_CASE("gradients that are not wanted are not written") {
  for_each_case([](const OpDefinition& op, const SampleCase& sample_case) {
    OpRun<float> run(op, sample_case, true);
    run.forward();
    const float mark = -77.25F;
    for (const Tensor& gradient : run.grad_inputs) {
      std::fill_n(gradient.as<float>(), gradient.count(), mark);
    }
    for (TensorView& view : run.io.grad_inputs) view = {};
    run.backward();
    for (const Tensor& gradient : run.grad_inputs) {
      for (const float value : gradient.span<float>()) REQUIRE(value == mark);
    }
    const auto wanted = run.io.grad_parameters;
    run.io.grad_parameters.clear();
    run.backward();
    for (const auto& [slot, view] : wanted) {
      for (const float value : run.grad_parameters.at(slot).span<float>()) REQUIRE(value == 0.0F);
    }
  });
}

TEST_CASE("in-place ops: the output may lie over the first input") {
  for_each_case([](const OpDefinition& op, const SampleCase& sample_case) {
    if (!op.in_place) return;
    OpRun<float> run(op, sample_case, true);
    OpRun<float> over(op, sample_case, true);
    run.forward();
    over.io.outputs[0] = over.io.inputs[0];
    over.forward();
    REQUIRE(relative_distance<float, float>(over.inputs[0], run.outputs[0]) == 0.0);
  });
}

TEST_CASE("a sample cut out of a batch gives that sample's gradients, in evaluation mode") {
  for_each_case([](const OpDefinition& op, const SampleCase& original) {
    SampleCase sample_case = original;
    sample_case.training = false;
    OpRun<double> run(op, sample_case, false);
    run.forward();
    run.backward();
    std::vector<std::vector<double>> batch_gradients;
    for (const Tensor& gradient : run.grad_inputs) {
      const auto values = gradient.span<double>();
      batch_gradients.emplace_back(values.begin(), values.end());
      std::fill(values.begin(), values.end(), 1e9);
    }
    std::map<std::string, Tensor> sums;
    for (const auto& [slot, gradient] : run.grad_parameters) {
      sums[slot] = Tensor(DType::kF64, gradient.shape());
    }
    const std::unique_ptr<Kernel> single = run.make_kernel(1, false);
    for (std::int64_t n = 0; n < sample_case.batch; ++n) single->backward(run.sample_io(n, sums));
    for (std::size_t k = 0; k < batch_gradients.size(); ++k) {
      REQUIRE(relative_distance<double, double>(run.grad_inputs[k].span<double>(),
                                                batch_gradients[k]) < 1e-13);
    }
    for (const auto& [slot, sum] : sums) {
      REQUIRE(relative_distance<double, double>(sum, run.grad_parameters.at(slot)) < 1e-12);
    }
  });
}

TEST_CASE("batch norm and the ops without oneDNN give the same bits for any thread count") {
  const int before = thread_count();
  for_each_case([](const OpDefinition& op, const SampleCase& sample_case) {
    if (op.name == "conv2d" || op.name == "linear") return;
    std::vector<std::vector<float>> all;
    for (const int threads : {1, 2, 5}) {
      set_thread_count(threads);
      OpRun<float> run(op, sample_case, true);
      run.forward();
      run.backward();
      all.push_back(results(run));
    }
    REQUIRE(all[0] == all[1]);
    REQUIRE(all[0] == all[2]);
  });
  set_thread_count(before);
}
