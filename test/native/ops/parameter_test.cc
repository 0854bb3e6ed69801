// A parameter as a value, and constants as operands, in a graph: forward, gradients and squares
// through the executor, by hand.
#include <doctest/doctest.h>

#include "fisher/cpu_square_sink.h"
#include "native/graph/random_graph.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

// y = ((x · scale) + shift) · half; scale is trained, shift and half are constants.
std::string scaled_graph() {
  const Json parameters = {parameter_json("scale", {3}, "norm"),
                           parameter_json("shift", {3}, "buffer"),
                           parameter_json("half", {}, "buffer")};
  const std::vector<std::string> none;
  const Json nodes = {node_json("s", "parameter", none, {{"value", "scale"}}),
                      node_json("c", "parameter", none, {{"value", "shift"}}),
                      node_json("scaled", "mul", {"x", "s"}),
                      node_json("shifted", "binary_add", {"scaled", "c"}),
                      node_json("y", "mul", {"shifted"}, {{"other", "half"}})};
  return graph_json(parameters, nodes, "y", {3}).dump();
}

using Values = std::vector<double>;

void set(Network& network, const std::string& name, const Shape& shape,
         const std::vector<float>& values) {
  network.set_parameter(name, tensor_of<float>(shape, values).view());
}

void load(const TensorView& view, const std::vector<float>& values) {
  REQUIRE(view.count() == static_cast<std::int64_t>(values.size()));
  std::copy(values.begin(), values.end(), view.as<float>());
}

}  // namespace

TEST_CASE("a node without inputs gives its parameter to every sample, gradients and squares") {
  Network network(scaled_graph(), {});
  set(network, "scale", {3}, {1, 2, 3});
  set(network, "shift", {3}, {10, 20, 30});
  set(network, "half", {}, {0.5F});
  CpuSquareSink fused;
  for (SquareSink* sink : {static_cast<SquareSink*>(nullptr), static_cast<SquareSink*>(&fused)}) {
    ExecutorOptions options;
    options.batch = 2;
    options.backward = options.squares = options.input_gradients = true;
    Executor& executor = network.executor(options);
    load(executor.input(), {1, 1, 1, 2, 0, -1});
    executor.forward();
    REQUIRE(doubles(executor.output()) == Values{5.5, 11, 16.5, 6, 10, 13.5});
    load(executor.output_gradient(), {2, 2, 2, 2, 4, 6});
    Gradients gradients(network, true);
    gradients.request.sink = sink;
    executor.backward(gradients.request);
    REQUIRE(doubles(executor.input_gradient()) == Values{1, 2, 3, 1, 4, 9});
    REQUIRE(gradients.values() == std::vector<Values>{{3, 1, -2}, {}, {}});
    REQUIRE(gradients.squares == std::vector<Values>{{5, 1, 10}, {}, {}});
  }
}

TEST_CASE("a trained operand's value needs a gradient, a constant's does not") {
  const Graph graph = Graph::parse(scaled_graph());
  const auto needs = [&](const char* value) {
    return graph.values()[static_cast<std::size_t>(graph.value_index(value))].needs_grad;
  };
  REQUIRE(needs("s"));
  REQUIRE_FALSE(needs("c"));
  REQUIRE(needs("y"));
}
