#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "bench_network.h"
#include "benchmarks.h"
#include "ceilings.h"
#include "core/parallel.h"
#include "fisher/fisher_pass.h"
#include "optim/trainer.h"
#include "timing.h"

namespace fishermask::bench {
namespace {

using Json = nlohmann::ordered_json;

// Evaluation mode, gradients of all weights: what a plain framework does for one batch.
class EvaluationBackward {
 public:
  explicit EvaluationBackward(BenchNetwork& bench) : bench_(bench) {
    for (const Parameter& parameter : bench.network.graph().parameters()) {
      gradients_.push_back(parameter.trainable() ? Tensor(DType::kF32, parameter.shape) : Tensor());
      request_.grad_parameters.push_back(gradients_.back().view());
    }
  }
  void operator()() {
    ExecutorOptions options;
    options.batch = bench_.samples;
    options.backward = true;
    Executor& executor = bench_.network.executor(options);
    write_batch(bench_.batch, executor.input());
    executor.forward();
    const std::vector<double> ones(static_cast<std::size_t>(bench_.samples), 1.0);
    seed_loss(executor.output(), bench_.labels, 1.0, ones, executor.output_gradient());
    for (const Tensor& gradient : gradients_) gradient.zero();
    executor.backward(request_);
  }

 private:
  BenchNetwork& bench_;
  std::vector<Tensor> gradients_;
  BackwardRequest request_;
};

std::vector<Timed> passes(BenchNetwork& bench, EvaluationBackward& backward, FisherPass& fisher,
                          Trainer& trainer) {
  return {
      {"forward", [&] { (void)evaluate_batch(bench.network, bench.batch, bench.labels, 1.0, {}); }},
      {"forward, backward with weight gradients (evaluation mode)", [&] { backward(); }},
      {"Fisher, empirical, per sample", [&] { fisher.step(bench.batch, bench.labels, 0); }},
      // A rate of 0: the same work, and the weights stay what they are.
      {"training step (forward, backward, SGD with momentum)",
       [&] { (void)trainer.step(bench.batch, bench.labels, 0.0); }}};
}

Json describe(const Timed& piece, double amount, const char* unit) {
  return {{unit, {{"median", amount / piece.median()}, {"best", amount / piece.best()}}},
          {"ms", {{"median", piece.median() * 1e3}, {"best", piece.best() * 1e3}}},
          {"spread", piece.spread()}};
}

}  // namespace

void network_benchmark(const Arguments& arguments) {
  const int rounds = static_cast<int>(arguments.integer("rounds", 15));
  BenchNetwork bench(arguments);
  EvaluationBackward backward(bench);
  FisherPass fisher(bench.network, {});
  OptimizerOptions sgd;
  sgd.momentum = 0.9;
  Trainer trainer(bench.network, sgd, 1);
  std::vector<Timed> pieces = passes(bench, backward, fisher, trainer);
  const std::size_t of_network = pieces.size();

  Ceilings ceiling;
  pieces.push_back(ceiling.gemm());
  pieces.push_back(ceiling.copy());
  run_rounds(pieces, rounds, clock_of(arguments));

  Json results;
  for (std::size_t i = 0; i < of_network; ++i) {
    results[pieces[i].name] =
        describe(pieces[i], static_cast<double>(bench.samples), "samples_per_second");
  }
  Json ceilings;
  ceilings[pieces[of_network].name] =
      describe(pieces[of_network], Ceilings::gemm_gflops(1.0), "gflops");
  ceilings[pieces[of_network + 1].name] =
      describe(pieces[of_network + 1], Ceilings::copy_gb_per_second(1.0), "gb_per_second");
  const Json document = {{"network", bench.network.graph().name()},
                         {"batch", bench.samples},
                         {"threads", thread_count()},
                         {"rounds", rounds},
                         {"clock", arguments.string("clock", "wall")},
                         {"results", results},
                         {"ceilings", ceilings},
                         {"fisher_over_backward",
                          {{"median", pieces[2].median() / pieces[1].median()},
                           {"best", pieces[2].best() / pieces[1].best()}}}};
  std::cout << document.dump(1) << "\n";
}

}  // namespace fishermask::bench
