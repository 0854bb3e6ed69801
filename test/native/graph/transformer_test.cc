// The layers of a language model as the executor runs them together: whole-number inputs, padding,
// saved statistics in shared memory, and the squares of every kind of parameter.
#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "core/parallel.h"
#include "fisher/cpu_square_sink.h"
#include "native/graph/random_graph.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

constexpr std::int64_t kBatch = 3;
constexpr std::int64_t kTokens = 5;
constexpr std::int64_t kWords = 7;
const std::vector<std::int32_t> kIds = {0, 6, 2, 2, 0, 5, 1, 1, -1, -1, 3, 4, 3, 3, -1};

// One block with rotary positions and grouped heads that see neither the future nor padding.
std::string block() {
  Json parameters = {parameter_json("words", {kWords, kWidth}, "embedding"),
                     parameter_json("rms", {kWidth}, "norm"),
                     parameter_json("q", {kWidth, kWidth}, "weight"),
                     parameter_json("k", {kWidth / 3, kWidth}, "weight"),
                     parameter_json("v", {kWidth / 3, kWidth}, "weight"),
                     parameter_json("o", {kWidth, kWidth}, "weight"),
                     parameter_json("scale", {kWidth}, "norm"),
                     parameter_json("shift", {kWidth}, "norm"),
                     parameter_json("head", {kWords, kWidth}, "weight")};
  const Json turn = {{"heads", 3}, {"frequencies", {0.7}}};
  const Json turn_keys = {{"heads", 1}, {"frequencies", {0.7}}, {"interleaved", true}};
  Json nodes = {node_json("hidden", "embedding", {"ids"}, {{"weight", "words"}}),
                node_json("mask", "pad_mask", {"ids"}),
                node_json("normed", "rms_norm", {"hidden"}, {{"weight", "rms"}}),
                node_json("queries", "linear", {"normed"}, {{"weight", "q"}}),
                node_json("keys", "linear", {"normed"}, {{"weight", "k"}}),
                node_json("values", "linear", {"normed"}, {{"weight", "v"}}),
                node_json("turned", "rope", {"queries"}, Json::object(), turn),
                node_json("turned_keys", "rope", {"keys"}, Json::object(), turn_keys),
                node_json("seen", "attention", {"turned", "turned_keys", "values", "mask"},
                          Json::object(), {{"heads", 3}, {"kv_heads", 1}, {"causal", true}}),
                node_json("mixed", "linear", {"seen"}, {{"weight", "o"}}),
                node_json("sum", "add", {"hidden", "mixed"}),
                node_json("last", "layer_norm", {"sum"}, {{"weight", "scale"}, {"bias", "shift"}}),
                node_json("logits", "linear", {"last"}, {{"weight", "head"}})};
  Json graph = graph_json(parameters, nodes, "logits", {kTokens});
  graph["inputs"][0]["name"] = "ids";
  graph["inputs"][0]["dtype"] = "i32";
  return graph.dump();
}

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
  Tensor whole(network.real(), {kBatch, kTokens, kWords});
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
  options.batch = kBatch;
  Executor& executor = network.executor(options);
  std::copy(kIds.begin(), kIds.end(), executor.input().as<std::int32_t>());
  executor.forward();
  Tensor weights(DType::kF64, {kBatch, kTokens, kWords});
  fill(weights.view(), 2);
  const auto w = weights.span<double>();
  return std::inner_product(w.begin(), w.end(), executor.output().as<double>(), 0.0);
}

}  // namespace

TEST_CASE("transformer: gradients are the slopes, for every kind of parameter") {
  Network network(block(), {.real = DType::kF64});
  fill(network);
  const Pass pass = run(network, 0, kBatch);
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
  Network network(block(), {.real = DType::kF64});
  fill(network);
  Lists singles;
  for (std::int64_t n = 0; n < kBatch; ++n) {
    const Lists gradients = run(network, n, 1).gradients;
    singles.resize(gradients.size());
    for (std::size_t p = 0; p < gradients.size(); ++p) {
      singles[p].resize(gradients[p].size());
      for (std::size_t i = 0; i < gradients[p].size(); ++i) {
        singles[p][i] += gradients[p][i] * gradients[p][i];
      }
    }
  }
  Network narrow(block(), {.real = DType::kF32});
  fill(narrow);
  CpuSquareSink sink;
  const Lists generic = run(network, 0, kBatch).squares;
  const Lists fused = run(narrow, 0, kBatch, &sink).squares;
  for (std::size_t p = 0; p < singles.size(); ++p) {
    CAPTURE(network.graph().parameters()[p].name);
    REQUIRE(std::accumulate(singles[p].begin(), singles[p].end(), 0.0) > 0);
    CHECK(relative_distance<double, double>(generic[p], singles[p]) < 1e-12);
    CHECK(relative_distance<double, double>(fused[p], singles[p]) < 1e-5);
  }
}
