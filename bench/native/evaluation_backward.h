// Plain forward + backward, as every framework has it: what the Fisher is held against.
#pragma once

#include <vector>

#include "bench_network.h"
#include "core/placement.h"
#include "optim/trainer.h"

namespace fishermask::bench {

// Evaluation mode, gradients of all weights, summed over the batch.
class EvaluationBackward {
 public:
  explicit EvaluationBackward(BenchNetwork& bench)
      : bench_(bench), ones_(static_cast<std::size_t>(bench.samples), 1.0) {
    for (const Parameter& parameter : bench.network.graph().parameters()) {
      gradients_.push_back(parameter.trainable() ? make_tensor(bench.network.device(), DType::kF32,
                                                               parameter.shape, "gradients")
                                                 : Tensor());
      request_.grad_parameters.push_back(gradients_.back().view());
    }
  }
  void operator()() {
    Device* const device = bench_.network.device();
    ExecutorOptions options;
    options.batch = bench_.samples;
    options.backward = true;
    Executor& executor = bench_.network.executor(options);
    write_batch(bench_.batch, executor.input(), device);
    executor.forward();
    seed_loss(executor.output(), bench_.labels, 1.0, ones_, executor.output_gradient(), device);
    for (const Tensor& gradient : gradients_) {
      if (gradient.view()) clear(device, gradient.view());
    }
    executor.backward(request_);
  }

 private:
  BenchNetwork& bench_;
  std::vector<double> ones_;
  std::vector<Tensor> gradients_;
  BackwardRequest request_;
};

}  // namespace fishermask::bench
