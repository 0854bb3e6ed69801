// The counted work of the benchmarks, against what the reference kernels do.
#include "bench/native/work.h"

#include <doctest/doctest.h>

#include <numeric>
#include <string>

#include "graph/network.h"

using namespace fishermask;
using namespace fishermask::bench;

namespace {

// A node of one parameter 'w' over the input 'x'.
std::string one_layer(const std::string& op, const std::string& input_shape,
                      const std::string& weight_shape, const std::string& attributes) {
  return R"({"version":1,"name":"one","inputs":[{"name":"x","shape":)" + input_shape +
         R"(,"dtype":"f32"}],"parameters":[{"name":"w","shape":)" + weight_shape +
         R"(,"role":"weight","init":{"kind":"zeros"}}],"nodes":[{"name":"n","op":")" + op +
         R"(","inputs":["x"],"outputs":["y"],"parameters":{"weight":"w"},"attributes":)" +
         attributes + R"(}],"outputs":["y"]})";
}

// With ones everywhere an output is the number of its products.
double sum_of_ones(const std::string& graph, std::int64_t batch) {
  Network network(graph, {.real = DType::kF64, .reference = true});
  Tensor ones(DType::kF64, network.graph().parameters()[0].shape);
  for (double& value : ones.span<double>()) value = 1;
  network.set_parameter("w", ones.view());
  ExecutorOptions options;
  options.batch = batch;
  options.real = DType::kF64;
  options.reference = true;
  Executor& executor = network.executor(options);
  const TensorView& input = executor.input();
  std::fill_n(input.as<double>(), input.count(), 1.0);
  executor.forward();
  const TensorView& output = executor.output();
  return std::accumulate(output.as<double>(), output.as<double>() + output.count(), 0.0);
}

}  // namespace

TEST_CASE("operations are two for each product that the reference kernel makes") {
  const std::vector<std::string> graphs = {
      one_layer("conv2d", "[5,4,2]", "[3,2,3,3]",
                R"({"stride":[1,1],"padding":[1,1,1,1],"dilation":[1,1],"groups":1})"),
      one_layer("conv2d", "[7,6,4]", "[6,2,3,2]",
                R"({"stride":[2,1],"padding":[2,0,1,1],"dilation":[2,1],"groups":2})"),
      one_layer("linear", "[6]", "[5,6]", "{}"), one_layer("linear", "[4,6]", "[5,6]", "{}")};
  for (const std::string& graph : graphs) {
    CAPTURE(graph);
    const NetworkWork work = work_of(Graph::parse(graph), 3);
    CHECK(work.forward.operations == 2 * sum_of_ones(graph, 3));
    // The one layer is the first: nothing before it wants a gradient.
    CHECK(work.backward_input.operations == 0);
    CHECK(work.squares.operations == work.forward.operations);
    CHECK(work.fisher().operations == 2 * work.forward.operations);
    CHECK(work.forward_backward().operations == work.fisher().operations);
  }
}

TEST_CASE("attention counts the columns that its rows see, and two gradients for each product") {
  const auto graph = [](const std::string& causal) {
    return Graph::parse(
        R"({"version":1,"name":"a","inputs":[{"name":"x","shape":[3,4],"dtype":"f32"}],
"parameters":[{"name":"w","shape":[4,4],"role":"weight","init":{"kind":"zeros"}}],
"nodes":[{"name":"q","op":"linear","inputs":["x"],"outputs":["q"],"parameters":{"weight":"w"},
"attributes":{}},{"name":"a","op":"attention","inputs":["q","q","q"],"outputs":["y"],
"parameters":{},"attributes":{"heads":2,"kv_heads":2,"causal":)" +
        causal + R"(}}],"outputs":["y"]})");
  };
  // Linear: 3 · 4 · 4 products a sample. Attention: (score and mix) · 4 values · pairs of tokens.
  const double linear = 2.0 * 48;
  const NetworkWork all = work_of(graph("false"), 1);
  CHECK(all.forward.operations == linear + 2.0 * 2 * 4 * 9);
  CHECK(all.backward_input.operations == 2 * (2.0 * 2 * 4 * 9));
  const NetworkWork causal = work_of(graph("true"), 1);
  CHECK(causal.forward.operations == linear + 2.0 * 2 * 4 * 6);
}

TEST_CASE("bytes are each node's operands once") {
  const NetworkWork work = work_of(Graph::parse(one_layer("linear", "[6]", "[5,6]", "{}")), 8);
  const double values = 4.0 * 8 * (6 + 5);
  CHECK(work.forward.bytes == values + 4 * 30);
  CHECK(work.backward_parameters.bytes == values + 8 * 30);
  CHECK(work.squares.bytes == values + 16 * 30);
  CHECK(work.backward_input.bytes == 0);
}
