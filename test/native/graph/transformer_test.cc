// The layers of a language model as the executor runs them together: whole-number inputs, padding,
// saved statistics in shared memory, and the squares of every kind of parameter.
#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "core/parallel.h"
#include "fisher/cpu_square_sink.h"
#include "native/graph/transformer_graph.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

using Lists = std::vector<std::vector<double>>;

struct Pass {
  Lists gradients, squares;
};

// The samples [first, first + batch). sink null: the generic rule.
Pass run(Network& network, std::int64_t first, std::int64_t batch, SquareSink* sink = nullptr) {
  ExecutorOptions options;
  options.batch = batch;
  options.backward = options.squares = true;
  Executor& executor = network.executor(options);
  std::copy_n(kIds.begin() + first * kTokens, batch * kTokens, executor.input().as<std::int32_t>());
  executor.forward();
  Tensor whole(network.real(), {kSequences, kTokens, kWords});
  fill(whole.view(), 2);
  const TensorView from = whole.view().sample(first);
  std::copy_n(from.data, batch * from.bytes(), executor.output_gradient().data);
  Gradients gradients(network, true);
  gradients.request.sink = sink;
  executor.backward(gradients.request);
  return {gradients.values(), gradients.squares};
}

double objective(Network& network) {
  ExecutorOptions options;
  options.batch = kSequences;
  Executor& executor = network.executor(options);
  std::copy(kIds.begin(), kIds.end(), executor.input().as<std::int32_t>());
  executor.forward();
  Tensor weights(DType::kF64, {kSequences, kTokens, kWords});
  fill(weights.view(), 2);
  const auto w = weights.span<double>();
  return std::inner_product(w.begin(), w.end(), executor.output().as<double>(), 0.0);
}

}  // namespace

TEST_CASE("transformer: gradients are the slopes, for every kind of parameter") {
  Network network(transformer_block(), {.real = DType::kF64});
  fill(network);
  const Pass pass = run(network, 0, kSequences);
  constexpr double kStep = 1e-6;
  for (std::size_t p = 0; p < pass.gradients.size(); ++p) {
    for (const std::size_t i : {std::size_t{0}, pass.gradients[p].size() - 1}) {
      double& value = network.parameters()[p].as<double>()[i];
      const double before = value;
      value = before + kStep;
      const double above = objective(network);
      value = before - kStep;
      const double slope = (above - objective(network)) / (2 * kStep);
      value = before;
      const double error = std::abs(slope - pass.gradients[p][i]) / std::max(1.0, std::abs(slope));
      CHECK_MESSAGE(error < 1e-6, network.graph().parameters()[p].name, ": ", slope, ", ",
                    pass.gradients[p][i]);
    }
  }
}

TEST_CASE("transformer: squares are those of single samples, by both rules") {
  Network network(transformer_block(), {.real = DType::kF64});
  fill(network);
  Lists singles;
  for (std::int64_t n = 0; n < kSequences; ++n) {
    const Lists gradients = run(network, n, 1).gradients;
    singles.resize(gradients.size());
    for (std::size_t p = 0; p < gradients.size(); ++p) {
      singles[p].resize(gradients[p].size());
      for (std::size_t i = 0; i < gradients[p].size(); ++i) {
        singles[p][i] += gradients[p][i] * gradients[p][i];
      }
    }
  }
  Network narrow(transformer_block(), {.real = DType::kF32});
  fill(narrow);
  CpuSquareSink sink;
  const Lists generic = run(network, 0, kSequences).squares;
  const Lists fused = run(narrow, 0, kSequences, &sink).squares;
  for (std::size_t p = 0; p < singles.size(); ++p) {
    CAPTURE(network.graph().parameters()[p].name);
    REQUIRE(std::accumulate(singles[p].begin(), singles[p].end(), 0.0) > 0);
    CHECK(relative_distance<double, double>(generic[p], singles[p]) < 1e-12);
    CHECK(relative_distance<double, double>(fused[p], singles[p]) < 1e-5);
  }
}
