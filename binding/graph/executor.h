// Runs a graph at one batch size: forward, then the reverse pass (gradients, squared gradients or
// both). All memory but the kernels' own scratch is planned and taken once, in the constructor.
// On a device that records, a pass that comes again with the same request is replayed
// (repeated_pass.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "core/device.h"
#include "graph/graph.h"
#include "graph/memory_plan.h"
#include "graph/repeated_pass.h"

namespace fishermask {

// The parameters' values, by parameter index, in the real type of the executors that use them.
using ParameterValues = std::vector<Tensor>;

struct ExecutorOptions {
  std::int64_t batch = 1;
  DType real = DType::kF32;
  bool reference = false;        // reference kernels even where a fast one exists (always with f64)
  bool training = false;         // batch statistics, dropout
  bool backward = false;         // plan for the reverse pass
  bool repeatable = false;       // several reverse passes after one forward: activations stay
  bool squares = false;          // the reverse pass may be asked for squares
  bool input_gradients = false;  // the reverse pass goes down to the graph's inputs
  std::vector<std::string> keep;  // values to keep readable after forward
  Device* device = nullptr;  // outlives the executor; null: the CPU. Its tensors are that device's
};

struct BackwardRequest {
  // By parameter index: the gradient summed over the batch is added (+=). An empty list or view:
  // not wanted.
  std::vector<TensorView> grad_parameters;
  // By parameter index: Σ_n (∂ℓ_n/∂θ)² is added (+=) in f64. An empty list or null: not wanted.
  std::vector<double*> square_sums;
  // Takes the forms of square_rule.h; null: every parameter goes the generic way, one sample at a
  // time.
  SquareSink* sink = nullptr;
};

class Executor {
 public:
  // graph and parameters must outlive the executor. Errors: OUT_OF_MEMORY, STATE (squares in
  // training mode), UNSUPPORTED naming a node that the device has no kernel for.
  Executor(const Graph& graph, const ParameterValues& parameters, ExecutorOptions options);

  [[nodiscard]] std::int64_t batch() const noexcept { return options_.batch; }
  [[nodiscard]] Device* device() const noexcept { return options_.device; }
  [[nodiscard]] std::int64_t arena_bytes() const noexcept { return arena_bytes_; }
  // Nodes whose forward their producer does.
  [[nodiscard]] std::int64_t fused_nodes() const noexcept {
    return std::count_if(states_.begin(), states_.end(),
                         [](const NodeState& state) { return state.fused; });
  }

  // Write the batch here before forward.
  [[nodiscard]] const TensorView& input(int index = 0) const;
  void forward(PhiloxKey rng = {});
  [[nodiscard]] const TensorView& output(int index = 0) const;
  // A value named in options.keep, an input or an output. Errors: ARGUMENT, STATE when it was not
  // kept.
  [[nodiscard]] const TensorView& value(const std::string& name) const;

  // Write ∂loss/∂output here before backward; the loss depends on the first output alone.
  [[nodiscard]] const TensorView& output_gradient() const;
  void backward(const BackwardRequest& request);
  // With options.input_gradients, after backward.
  [[nodiscard]] const TensorView& input_gradient(int index = 0) const;

 private:
  struct NodeState {
    std::unique_ptr<Kernel> kernel;
    std::unique_ptr<Kernel> single;  // batch 1, for the generic rule; made when first needed
    NodeIo io;                       // forward and backward buffers of the whole batch
    bool has_backward = false;
    bool fused = false;  // its producer does its forward
    SavedSpec saved;
  };

  // Reverse passes are the same while all that they write lies where it lay.
  struct RequestedPass {
    std::vector<std::byte*> gradients;
    std::vector<double*> square_sums;
    SquareSink* sink = nullptr;
    RepeatedPass pass;

    explicit RequestedPass(const BackwardRequest& request);
    [[nodiscard]] bool serves(const RequestedPass& other) const;
  };

  void plan();
  void bind();
  void make_kernels();
  [[nodiscard]] std::unique_ptr<Kernel> make_kernel(std::size_t node, std::int64_t batch) const;
  void fuse_epilogues();
  void fuse_into_producer(std::size_t node);
  [[nodiscard]] bool taken_over(int value, std::size_t consumer) const;
  void prepare(std::size_t node, bool recorded);
  void forget();
  [[nodiscard]] RepeatedPass& backward_pass(const BackwardRequest& request);
  void backward_step(std::size_t step, const BackwardRequest& request);
  void backward_node(std::size_t index, const BackwardRequest& request);
  void square_node(std::size_t index, const BackwardRequest& request);
  void square_shared(const BackwardRequest& request);
  bool square_shared_fused(const Parameter& parameter, SquareSink& sink, double* sums);
  void square_generic(const Parameter& parameter, double* sums);
  Kernel& single_kernel(std::size_t index);
  [[nodiscard]] NodeIo sample_io(const NodeState& state, std::int64_t n) const;
  [[nodiscard]] bool wants_gradient(int value) const;
  [[nodiscard]] bool is_shared(const Parameter& parameter) const {
    return parameter.uses.size() > 1;
  }
  [[nodiscard]] int backward_time(std::size_t node) const;

  const Graph& graph_;
  const ParameterValues& parameters_;
  ExecutorOptions options_;
  std::vector<NodeState> states_;
  std::vector<TensorView> values_;     // by value index; null once planned away
  std::vector<TensorView> gradients_;  // by value index
  std::vector<bool> readable_;         // value survives forward
  std::vector<PlannedBuffer> buffers_;
  std::vector<int> value_buffer_;     // value -> buffer (aliased values share one)
  std::vector<int> gradient_buffer_;  // value -> buffer or -1
  std::vector<int> saved_buffer_;     // node -> buffer or -1
  std::vector<int> saved_fixed_buffer_;
  std::int64_t arena_bytes_ = 0;
  std::shared_ptr<std::byte> arena_;
  Tensor sample_gradient_;  // scratch of the generic rule
  PhiloxKey step_key_;      // of the last forward
  bool recording_ = false;  // the step that runs is being recorded
  RepeatedPass forward_pass_;
  std::list<RequestedPass> backward_passes_;  // most recently used first
};

}  // namespace fishermask
