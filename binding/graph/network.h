// A graph with its parameters' values, and the executors made for it so far.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>

#include "graph/executor.h"

namespace fishermask {

struct NetworkOptions {
  DType real = DType::kF32;
  bool reference = false;                    // reference kernels only
  std::shared_ptr<Device> device = nullptr;  // where parameters and passes live; null: the CPU
};

class Network {
 public:
  // Parameters start at 0. Errors: as Graph::parse, OUT_OF_MEMORY.
  Network(std::string_view graph_json, NetworkOptions options);

  [[nodiscard]] const Graph& graph() const noexcept { return graph_; }
  [[nodiscard]] const ParameterValues& parameters() const noexcept { return parameters_; }
  [[nodiscard]] DType real() const noexcept { return options_.real; }
  [[nodiscard]] Device* device() const noexcept { return options_.device.get(); }

  // Copies `values` (f32 or f64, PyTorch layout) in. Errors: ARGUMENT (unknown name), SHAPE (wrong
  // count), NON_FINITE naming the parameter and the first bad index; the parameter is unchanged
  // then.
  void set_parameter(const std::string& name, const TensorView& values);
  // A copy in f32. Errors: ARGUMENT.
  [[nodiscard]] std::vector<float> parameter_f32(int index) const;

  // The executor for these options, made or found again. Lives until the next call of executor().
  Executor& executor(const ExecutorOptions& options);

 private:
  struct Cached {
    ExecutorOptions options;
    std::unique_ptr<Executor> executor;
  };
  Graph graph_;
  NetworkOptions options_;
  ParameterValues parameters_;
  std::list<Cached> cache_;  // most recently used first
};

}  // namespace fishermask
