// The executor: memory that is shared and written in place changes no number; uses of a parameter
// and consumers of a value add up; passes repeat.
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

// Kernels of a few numbers: a second thread would only be waited for.
class OneThread {
 public:
  OneThread() { set_thread_count(1); }
  ~OneThread() { set_thread_count(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_ = thread_count();
};

using Lists = std::vector<std::vector<double>>;

struct Pass {
  std::vector<double> output;
  std::vector<double> grad_input;
  Lists gradients;
  Lists squares;
};

struct PassOptions {
  bool squares = false;
  bool training = false;
  bool keep_all = false;
  SquareSink* sink = nullptr;
};

// Forward and backward on the samples [first, first + batch) of one fixed draw.
Pass run(Network& network, std::int64_t first, std::int64_t batch, PassOptions wanted = {}) {
  ExecutorOptions options;
  options.batch = batch;
  options.backward = options.input_gradients = true;
  options.squares = wanted.squares;
  options.training = wanted.training;
  if (wanted.keep_all) {
    for (const Value& value : network.graph().values()) options.keep.push_back(value.name);
  }
  Executor& executor = network.executor(options);
  const auto load = [&](const TensorView& view, std::uint64_t stream) {
    Tensor whole(view.dtype, with_batch(kBatch, {kWidth}));
    fill(whole.view(), stream);
    for (std::int64_t n = 0; n < batch; ++n) {
      const TensorView from = whole.view().sample(first + n);
      std::copy(from.data, from.data + from.bytes(), view.sample(n).data);
    }
  };
  load(executor.input(), 1);
  executor.forward({.seed = 9, .stream = 2});
  Pass pass;
  pass.output = doubles(executor.output());
  load(executor.output_gradient(), 2);
  Gradients gradients(network, wanted.squares);
  gradients.request.sink = wanted.sink;
  executor.backward(gradients.request);
  pass.grad_input = doubles(executor.input_gradient());
  pass.gradients = gradients.values();
  pass.squares = gradients.squares;
  return pass;
}

double relative_error(const std::vector<double>& actual, const std::vector<double>& expected) {
  double difference = 0;
  double scale = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    scale += expected[i] * expected[i];
  }
  return std::sqrt(difference / (scale > 0 ? scale : 1.0));
}

double worst_error(const Lists& actual, const Lists& expected) {
  REQUIRE(actual.size() == expected.size());
  double worst = 0;
  for (std::size_t p = 0; p < expected.size(); ++p) {
    worst = std::max(worst, relative_error(actual[p], expected[p]));
  }
  return worst;
}

// ⟨grad_output, output⟩ of the whole batch at the network's present weights and this input.
double objective(Network& network, const std::vector<double>& input) {
  ExecutorOptions options;
  options.batch = kBatch;
  Executor& executor = network.executor(options);
  std::copy(input.begin(), input.end(), executor.input().as<double>());
  executor.forward();
  Tensor weights(DType::kF64, with_batch(kBatch, {kWidth}));
  fill(weights.view(), 2);
  const auto w = weights.span<double>();
  return std::inner_product(w.begin(), w.end(), executor.output().as<double>(), 0.0);
}

Network two_layers_with_one_weight(DType real) {
  Json parameters = {parameter_json("w", {kWidth, kWidth}, "weight")};
  Json nodes = {node_json("first", "linear", {"x"}, {{"weight", "w"}}),
                node_json("second", "linear", {"first"}, {{"weight", "w"}})};
  return Network(graph_json(parameters, nodes, "second").dump(), {.real = real});
}

// Norm, ReLU; norm, residual sum, ReLU; a sum alone, ReLU; and a ReLU whose input has two readers.
std::string residual_block() {
  Json parameters = Json::array();
  const auto norm = [&](const std::string& name, const char* input) {
    Json slots = {{"weight", name + ".weight"},
                  {"bias", name + ".bias"},
                  {"running_mean", name + ".running_mean"},
                  {"running_var", name + ".running_var"}};
    for (const auto& [slot, parameter] : slots.items()) {
      const char* role = slot.starts_with("running") ? "buffer" : "norm";
      parameters.push_back(parameter_json(parameter.get<std::string>(), {kWidth}, role));
    }
    return node_json(name, "batch_norm", {input}, slots);
  };
  Json nodes = {norm("n1", "x"),
                node_json("r1", "relu", {"n1"}),
                norm("n2", "r1"),
                node_json("sum", "add", {"n2", "x"}),
                node_json("r2", "relu", {"sum"}),
                node_json("two", "add", {"r2", "r1"}),
                node_json("r3", "relu", {"two"}),
                norm("n3", "r3"),
                node_json("r4", "relu", {"n3"}),
                node_json("y", "add", {"r4", "n3"})};
  return graph_json(parameters, nodes, "y").dump();
}

std::string repeat(const char* what, unsigned seed) { return text(what, ", seed ", seed); }

}  // namespace

TEST_CASE("executor: shared memory and in-place ops change no bit, for random graphs") {
  const OneThread one_thread;
  int in_place = 0;
  for (unsigned seed = 0; seed < 120; ++seed) {
    const bool training = seed % 3 == 0;
    const RandomGraph graph(seed, 3 + static_cast<int>(seed % 20), training);
    // Training moves the running statistics, so that each run needs a network of its own.
    Network plain(graph.text(), {.real = DType::kF32});
    Network kept(graph.text(), {.real = DType::kF32});
    fill(plain);
    fill(kept);
    const Pass shared = run(plain, 0, kBatch, {.training = training});
    const Pass apart = run(kept, 0, kBatch, {.training = training, .keep_all = true});
    REQUIRE_MESSAGE(shared.output == apart.output, repeat("output", seed));
    REQUIRE_MESSAGE(shared.grad_input == apart.grad_input, repeat("grad input", seed));
    REQUIRE_MESSAGE(shared.gradients == apart.gradients, repeat("gradients", seed));
    ExecutorOptions forward;
    forward.batch = kBatch;
    ExecutorOptions readable = forward;
    for (const std::string& name : graph.values()) readable.keep.push_back(name);
    const std::int64_t small = plain.executor(forward).arena_bytes();
    in_place += small < plain.executor(readable).arena_bytes() ? 1 : 0;
  }
  CHECK(in_place > 100);
}

TEST_CASE("executor: what a producer takes over changes no bit") {
  const OneThread one_thread;
  CpuSquareSink sink;
  for (const bool training : {false, true}) {
    Network fused(residual_block(), {.real = DType::kF32});
    Network apart(residual_block(), {.real = DType::kF32});
    fill(fused);
    fill(apart);
    const PassOptions wanted = {.squares = !training, .training = training, .sink = &sink};
    PassOptions unfused = wanted;
    unfused.keep_all = true;
    const Pass a = run(fused, 0, kBatch, wanted);
    const Pass b = run(apart, 0, kBatch, unfused);
    CHECK(a.output == b.output);
    CHECK(a.grad_input == b.grad_input);
    CHECK(a.gradients == b.gradients);
    CHECK(a.squares == b.squares);
  }
  Network network(residual_block(), {.real = DType::kF32});
  ExecutorOptions options;
  options.batch = kBatch;
  CHECK(network.executor(options).fused_nodes() == 4);  // r1, sum and r2, r3
  options.keep = {"sum"};
  CHECK(network.executor(options).fused_nodes() == 2);
  Network reference(residual_block(), {.real = DType::kF32, .reference = true});
  options.keep = {};
  CHECK(reference.executor(options).fused_nodes() == 0);
}

TEST_CASE("executor: gradients are the slopes, for random graphs with several consumers") {
  const OneThread one_thread;
  for (unsigned seed = 200; seed < 260; ++seed) {
    const RandomGraph graph(seed, 2 + static_cast<int>(seed % 15), false);
    Network network(graph.text(), {.real = DType::kF64});
    fill(network);
    const Pass pass = run(network, 0, kBatch);
    Tensor input(DType::kF64, with_batch(kBatch, {kWidth}));
    fill(input.view(), 1);
    const std::vector<double> at = doubles(input.view());
    constexpr double kStep = 1e-6;
    for (const std::size_t i : {std::size_t{0}, std::size_t{7}, std::size_t{17}}) {
      std::vector<double> up = at;
      std::vector<double> down = at;
      up[i] += kStep;
      down[i] -= kStep;
      const double slope = (objective(network, up) - objective(network, down)) / (2 * kStep);
      const double error = std::abs(slope - pass.grad_input[i]) / std::max(1.0, std::abs(slope));
      CHECK_MESSAGE(error < 1e-6, repeat("input", seed), ": ", slope, ", ", pass.grad_input[i]);
    }
    for (std::size_t p = 0; p < pass.gradients.size(); ++p) {
      if (pass.gradients[p].empty()) continue;
      double* value = network.parameters()[p].as<double>();
      const double before = *value;
      *value = before + kStep;
      const double above = objective(network, at);
      *value = before - kStep;
      const double slope = (above - objective(network, at)) / (2 * kStep);
      *value = before;
      const double error = std::abs(slope - pass.gradients[p][0]) / std::max(1.0, std::abs(slope));
      CHECK_MESSAGE(error < 1e-6, repeat("parameter ", seed), network.graph().parameters()[p].name,
                    ": ", slope, ", ", pass.gradients[p][0]);
    }
  }
}

TEST_CASE("executor: squares are those of single samples, for random graphs and both rules") {
  const OneThread one_thread;
  CpuSquareSink sink;
  int shared = 0;
  for (unsigned seed = 300; seed < 380; ++seed) {
    const RandomGraph graph(seed, 2 + static_cast<int>(seed % 15), false);
    Network network(graph.text(), {.real = DType::kF64});
    fill(network);
    for (const Parameter& parameter : network.graph().parameters()) {
      shared += parameter.uses.size() > 1 ? 1 : 0;
    }
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
    const Pass generic = run(network, 0, kBatch, {.squares = true});
    CHECK_MESSAGE(worst_error(generic.squares, singles) < 1e-12, repeat("generic f64", seed));
    Network narrow(graph.text(), {.real = DType::kF32});
    fill(narrow);
    const Pass fused = run(narrow, 0, kBatch, {.squares = true, .sink = &sink});
    CHECK_MESSAGE(worst_error(fused.squares, singles) < 1e-5, repeat("fused f32", seed));
    // Asking for squares leaves the gradients as they are.
    CHECK(generic.gradients == run(network, 0, kBatch).gradients);
  }
  CHECK(shared > 20);
}

TEST_CASE("executor: the uses of a shared parameter are added first, then squared") {
  Network network = two_layers_with_one_weight(DType::kF64);
  fill(network);
  const Pass whole = run(network, 0, kBatch, {.squares = true});
  // The same two layers with a weight each: their gradients are the uses' shares.
  Json parameters = {parameter_json("a", {kWidth, kWidth}, "weight"),
                     parameter_json("b", {kWidth, kWidth}, "weight")};
  Json nodes = {node_json("first", "linear", {"x"}, {{"weight", "a"}}),
                node_json("second", "linear", {"first"}, {{"weight", "b"}})};
  Network apart(graph_json(parameters, nodes, "second").dump(), {.real = DType::kF64});
  for (const char* name : {"a", "b"}) apart.set_parameter(name, network.parameters()[0].view());
  std::vector<double> added(36);
  std::vector<double> squared_first(36);
  for (std::int64_t n = 0; n < kBatch; ++n) {
    const Lists shares = run(apart, n, 1).gradients;
    for (std::size_t i = 0; i < added.size(); ++i) {
      added[i] += std::pow(shares[0][i] + shares[1][i], 2);
      squared_first[i] += std::pow(shares[0][i], 2) + std::pow(shares[1][i], 2);
    }
  }
  CHECK(relative_error(whole.squares[0], added) < 1e-13);
  CHECK(relative_error(whole.squares[0], squared_first) > 0.1);
}

TEST_CASE("executor: backward repeats after one forward") {
  const OneThread one_thread;
  CpuSquareSink sink;
  for (unsigned seed = 400; seed < 440; ++seed) {
    const RandomGraph graph(seed, 3 + static_cast<int>(seed % 15), false);
    Network network(graph.text(), {.real = DType::kF32});
    fill(network);
    ExecutorOptions options;
    options.batch = kBatch;
    options.backward = options.repeatable = options.squares = true;
    Executor& executor = network.executor(options);
    fill(executor.input(), 1);
    executor.forward();
    const auto backward = [&](std::uint64_t stream) {
      fill(executor.output_gradient(), stream);
      Gradients gradients(network, true);
      gradients.request.sink = &sink;
      executor.backward(gradients.request);
      return std::pair(gradients.values(), gradients.squares);
    };
    const auto first = backward(2);
    const auto other = backward(3);
    REQUIRE_MESSAGE(backward(2) == first, repeat("repeated", seed));
    REQUIRE(other != first);
    // Nothing of another pass is left after a new forward.
    executor.forward();
    REQUIRE_MESSAGE(backward(3) == other, repeat("forward again", seed));
  }
}

TEST_CASE("executor: gradients are added to what is there") {
  Network network = two_layers_with_one_weight(DType::kF64);
  fill(network);
  ExecutorOptions options;
  options.batch = kBatch;
  options.backward = options.repeatable = true;
  Executor& executor = network.executor(options);
  fill(executor.input(), 1);
  executor.forward();
  Gradients gradients(network);
  Lists once;
  for (int i = 0; i < 2; ++i) {
    fill(executor.output_gradient(), 2);
    executor.backward(gradients.request);
    if (i == 0) once = gradients.values();
  }
  for (double& value : once[0]) value *= 2;
  CHECK(relative_error(gradients.values()[0], once[0]) < 1e-15);
}

TEST_CASE("executor: the arena is smaller than the sum of its buffers") {
  Json parameters = Json::array();
  Json nodes = Json::array();
  std::string last = "x";
  for (int i = 0; i < 12; ++i) {
    const std::string name = text("layer", i);
    parameters.push_back(parameter_json(name + ".weight", {kWidth, kWidth}, "weight"));
    nodes.push_back(node_json(name, "linear", {last}, {{"weight", name + ".weight"}}));
    nodes.push_back(node_json(name + ".relu", "relu", {name}));
    last = name + ".relu";
  }
  Network network(graph_json(parameters, nodes, last).dump(), {});
  ExecutorOptions options;
  options.batch = 1000;
  const std::int64_t value = 1000 * kWidth * 4;
  const std::int64_t values = 25;
  // Forward: the input, the output and two neighbours, whatever the depth.
  CHECK(network.executor(options).arena_bytes() <= 4 * (value + 64));
  options.backward = true;
  const std::int64_t training = network.executor(options).arena_bytes();
  CHECK(training < 2 * values * value);
  CHECK(training >= 13 * value);
}

TEST_CASE("executor: a value that leads nowhere leaves the rest alone") {
  Json parameters = {parameter_json("w", {kWidth, kWidth}, "weight"),
                     parameter_json("dead.w", {kWidth, kWidth}, "weight")};
  Json nodes = {node_json("a", "linear", {"x"}, {{"weight", "w"}}),
                node_json("dead", "linear", {"a"}, {{"weight", "dead.w"}}),
                node_json("out", "relu", {"a"})};
  Network network(graph_json(parameters, nodes, "out").dump(), {.real = DType::kF64});
  fill(network);
  Json only = {nodes[0], nodes[2]};
  Network alive(graph_json({parameters[0]}, only, "out").dump(), {.real = DType::kF64});
  alive.set_parameter("w", network.parameters()[0].view());
  const Pass both = run(network, 0, kBatch, {.squares = true});
  const Pass one = run(alive, 0, kBatch, {.squares = true});
  CHECK(both.output == one.output);
  CHECK(both.gradients[0] == one.gradients[0]);
  CHECK(both.squares[0] == one.squares[0]);
  CHECK(both.gradients[1] == std::vector<double>(36, 0.0));
  CHECK(both.squares[1] == std::vector<double>(36, 0.0));
}

TEST_CASE("executor: what was not asked for is refused") {
  Network network = two_layers_with_one_weight(DType::kF32);
  const auto code = [](const auto& body) {
    try {
      body();
    } catch (const Error& e) {
      return e.code();
    }
    return ErrorCode::kINTERNAL;
  };
  ExecutorOptions options;
  Executor& forward = network.executor(options);
  CHECK(code([&] { (void)forward.output_gradient(); }) == ErrorCode::kSTATE);
  CHECK(code([&] { forward.backward({}); }) == ErrorCode::kSTATE);
  CHECK(code([&] { (void)forward.value("first"); }) == ErrorCode::kSTATE);
  CHECK(code([&] { (void)forward.value("nothing"); }) == ErrorCode::kARGUMENT);
  CHECK(code([&] { (void)forward.input_gradient(); }) == ErrorCode::kSTATE);
  options.squares = options.training = true;
  CHECK(code([&] { network.executor(options); }) == ErrorCode::kSTATE);
  ExecutorOptions none;
  none.batch = 0;
  CHECK(code([&] { network.executor(none); }) == ErrorCode::kARGUMENT);
  ExecutorOptions huge;
  huge.batch = std::int64_t{1} << 50;
  CHECK(code([&] { network.executor(huge); }) == ErrorCode::kOUT_OF_MEMORY);
  huge.batch = std::int64_t{1} << 60;
  const ErrorCode overflow = code([&] { network.executor(huge); });
  CHECK((overflow == ErrorCode::kOUT_OF_MEMORY || overflow == ErrorCode::kSHAPE));
}
