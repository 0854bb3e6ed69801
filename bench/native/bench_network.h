// A network from a graph file, with random weights and a random batch.
#pragma once

#include <cmath>
#include <fstream>
#include <sstream>
#include <string>

#include "arguments.h"
#include "core/rng.h"
#include "graph/batch.h"
#include "graph/network.h"

namespace fishermask::bench {

inline std::string read_text(const std::string& path) {
  std::ifstream file(path);
  FM_CHECK(file.is_open(), IO, "cannot open ", path);
  std::ostringstream out;
  out << file.rdbuf();
  return out.str();
}

inline void fill_uniform(const TensorView& view, float least, float most, std::uint64_t stream) {
  float* values = view.as<float>();
  for (std::int64_t i = 0; i < view.count(); ++i) {
    const float u = philox_uniform({.seed = 1, .stream = stream}, static_cast<std::uint64_t>(i));
    values[i] = least + (most - least) * u;
  }
}

// Whole numbers in [0, end).
inline void fill_whole(const TensorView& view, std::int64_t end, std::uint64_t stream) {
  auto* values = view.as<std::int32_t>();
  for (std::int64_t i = 0; i < view.count(); ++i) {
    const float u = philox_uniform({.seed = 1, .stream = stream}, static_cast<std::uint64_t>(i));
    values[i] = static_cast<std::int32_t>(u * static_cast<float>(end));
  }
}

// --graph-json TEXT, or the text of --graph FILE.
[[nodiscard]] inline std::string graph_text(const Arguments& arguments) {
  const std::string given = arguments.string("graph-json", "");
  return given.empty() ? read_text(arguments.string("graph", "bench/graphs/resnet20.json")) : given;
}

class BenchNetwork {
 public:
  explicit BenchNetwork(const Arguments& arguments)
      : BenchNetwork(graph_text(arguments), arguments.count("batch", 64),
                     static_cast<std::uint64_t>(arguments.integer("seed", 0))) {}

  BenchNetwork(const std::string& graph_json, std::int64_t batch_samples, std::uint64_t seed,
               const NetworkOptions& options = {})
      : samples(batch_samples), network(graph_json, options) {
    // Streams of one seed stay apart from those of the next.
    std::uint64_t stream = (seed << 20U) + 10;
    for (const Parameter& parameter : network.graph().parameters()) {
      Tensor values(DType::kF32, parameter.shape);
      fill_parameter(parameter, values, stream++);
      network.set_parameter(parameter.name, values.view());
    }
    const Graph& graph = network.graph();
    const ValueSpec& input = graph.values()[static_cast<std::size_t>(graph.inputs()[0])].spec;
    const Shape& logits = graph.values()[static_cast<std::size_t>(graph.outputs()[0])].spec.shape;
    inputs = Tensor(input.dtype, with_batch(samples, input.shape));
    if (input.dtype == DType::kI32) {
      // Ids: a language model's rows are as many as the classes of its logits.
      fill_whole(inputs.view(), logits.back(), stream);
    } else {
      fill_uniform(inputs.view(), -1.7F, 1.7F, stream);
    }
    batch.view = inputs.view();
    const std::int64_t rows = samples * element_count({logits.begin(), logits.end() - 1});
    for (std::int64_t row = 0; row < rows; ++row) {
      labels.push_back(static_cast<std::int32_t>(row % logits.back()));
    }
  }

  // Numbers that training moves.
  [[nodiscard]] std::int64_t parameter_count() const {
    std::int64_t count = 0;
    for (const Parameter& parameter : network.graph().parameters()) {
      if (parameter.trainable()) count += element_count(parameter.shape);
    }
    return count;
  }

  std::int64_t samples;
  Network network;
  Tensor inputs;
  BatchData batch;
  std::vector<std::int32_t> labels;

 private:
  static void fill_parameter(const Parameter& parameter, const Tensor& values,
                             std::uint64_t stream) {
    if (parameter.role == "weight") {
      const std::int64_t fan = values.count() / parameter.shape[0];
      const float bound = std::sqrt(6.0F / static_cast<float>(fan));
      fill_uniform(values.view(), -bound, bound, stream);
    } else if (parameter.role == "embedding") {
      fill_uniform(values.view(), -0.1F, 0.1F, stream);
    } else {
      const bool ones = parameter.role == "norm" ? parameter.name.ends_with("weight")
                                                 : parameter.name.ends_with("running_var");
      fill_uniform(values.view(), ones ? 1.0F : 0.0F, ones ? 1.0F : 0.0F, stream);
    }
  }
};

}  // namespace fishermask::bench
