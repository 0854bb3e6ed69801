// Whole networks for tests on a device: a graph, a batch and its labels.
#pragma once

#include <cmath>
#include <filesystem>

#include "bench/native/bench_network.h"
#include "native/graph/transformer_graph.h"

namespace fishermask::test {

// A graph, a batch and its labels.
struct Task {
  std::string name;
  std::string graph;
  Tensor inputs;
  std::vector<std::int32_t> labels;

  [[nodiscard]] BatchData batch() const {
    BatchData data;
    data.view = inputs.view();
    return data;
  }
};

inline Task vectors(unsigned seed, bool dropout) {
  constexpr std::int64_t kSamples = 5;
  Task task{text("random graph ", seed),
            RandomGraph(seed, 9, dropout).text(),
            Tensor(DType::kF32, {kSamples, kWidth}),
            {}};
  fill(task.inputs.view(), 40 + seed);
  for (std::int64_t n = 0; n < kSamples; ++n) {
    task.labels.push_back(static_cast<std::int32_t>((n * 5 + seed) % kWidth));
  }
  return task;
}

inline Task sequences() {
  Task task{"transformer", transformer_block(), Tensor(DType::kI32, {kSequences, kTokens}), kIds};
  std::copy(kIds.begin(), kIds.end(), task.inputs.as<std::int32_t>());
  return task;
}

inline Task images(const std::string& network, std::int64_t samples) {
  const std::filesystem::path root = std::filesystem::path(__FILE__).parent_path() / "../..";
  const std::string file = "bench/graphs/" + network + ".json";
  // The tests may have been carried away from their sources: then they are run from the root.
  const std::filesystem::path here = root / file;
  const std::string graph = bench::read_text(std::filesystem::exists(here) ? here.string() : file);
  const bench::BenchNetwork made(graph, samples, 3);
  return {network, graph, made.inputs, made.labels};
}

// Seeded weights that neither explode nor vanish: He's bounds where a layer is wide.
inline void fill_network(Network& network) {
  fill(network);
  std::uint64_t stream = 900;
  for (const Parameter& parameter : network.graph().parameters()) {
    ++stream;
    const std::int64_t count = element_count(parameter.shape);
    const std::int64_t fan = count / parameter.shape[0];
    if (parameter.shape.size() < 2 || fan <= kWidth) continue;
    std::vector<float> values = normals(count, stream);
    for (float& value : values) value *= std::sqrt(2.0F / static_cast<float>(fan));
    network.set_parameter(parameter.name, tensor_of<float>(parameter.shape, values).view());
  }
}

}  // namespace fishermask::test
