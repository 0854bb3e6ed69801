// One node's computation on a device: what a node is, its memory for one batch, and the kernel that
// runs it. The CPU's kernels (binding/ops) and the CUDA backend's (cuda/ops) have this one
// interface; views then hold the memory of the kernel's device.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/attributes.h"
#include "core/square_rule.h"
#include "core/step_rng.h"
#include "core/tensor.h"

namespace fishermask {

// A value as one sample sees it, without the batch.
struct ValueSpec {
  Shape shape;
  DType dtype = DType::kF32;  // kF32 stands for "the executor's real type" (f32 or f64)
};

// What an op knows of a node: its inputs, its parameters' shapes by slot, its attributes.
struct NodeSpec {
  std::string name;
  std::string op;
  std::vector<ValueSpec> inputs;
  std::map<std::string, Shape> parameters;  // slot, e.g. "weight" -> (64, 3, 3, 3)
  Attributes attributes;
  std::vector<ValueSpec> outputs;  // filled by the shape rule

  [[nodiscard]] bool has_parameter(const std::string& slot) const {
    return parameters.contains(slot);
  }
  // Throws GRAPH, naming the node and its op, unless cond holds.
  template <typename... Parts>
  void check(bool cond, const Parts&... parts) const {
    if (!cond) fail(ErrorCode::kGRAPH, "node '", name, "' (", op, "): ", parts...);
  }
};

// Memory that a kernel writes in forward and reads in backward (e.g. the arg-max of a pool).
struct SavedSpec {
  std::int64_t bytes_per_sample =
      0;                         // laid out sample after sample, so that one sample can be cut out
  std::int64_t bytes_fixed = 0;  // only used in training mode (e.g. batch statistics)
};

// One node's memory for one batch. Which members are set depends on the call.
struct NodeIo {
  std::int64_t batch = 0;
  bool training = false;  // batch norm uses batch statistics, dropout drops
  StepRng rng;            // this step's stream for this node
  std::vector<TensorView> inputs;
  std::vector<TensorView> outputs;  // forward: written; backward: only if the op needs them
  TensorView residual;              // forward, after fuse({.add = true}): of the output's shape
  std::map<std::string, TensorView> parameters;
  std::byte* saved_per_sample = nullptr;
  std::byte* saved_fixed = nullptr;

  std::vector<TensorView> grad_outputs;
  // A null view: not wanted. accumulate[i]: add to grad_inputs[i] instead of overwriting it.
  std::vector<TensorView> grad_inputs;
  std::vector<bool> accumulate;
  // Slot -> where the gradient, summed over the batch, is added (+=). Absent: not wanted. Never a
  // buffer slot.
  std::map<std::string, TensorView> grad_parameters;

  [[nodiscard]] TensorView parameter(const std::string& slot) const {
    const auto found = parameters.find(slot);
    return found == parameters.end() ? TensorView{} : found->second;
  }
  [[nodiscard]] TensorView grad_parameter(const std::string& slot) const {
    const auto found = grad_parameters.find(slot);
    return found == grad_parameters.end() ? TensorView{} : found->second;
  }
};

// What a kernel may do to its output as it writes it, in this order: the nodes that follow then
// have nothing left to do in forward, and their values are never written in between.
struct Epilogue {
  bool add = false;   // adds NodeIo::residual
  bool relu = false;  // max(y, 0)
};

// One node's computation at one batch size. May cache primitives, packed weights, scratch; owned by
// one executor and called from one thread (inside, parallel_for).
class Kernel {
 public:
  Kernel() = default;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  virtual ~Kernel() = default;

  virtual void forward(const NodeIo& io) = 0;
  // Takes over what the following nodes do in forward, from now on; false where it cannot. Backward
  // stays what it was.
  [[nodiscard]] virtual bool fuse(const Epilogue& epilogue);
  // Writes (or adds to) the wanted grad_inputs and adds to the wanted grad_parameters.
  virtual void backward(const NodeIo& io) = 0;

  // What the kernel made of values that it read in earlier calls (packed weights) is to be made
  // anew at its next use. Called before its launches are recorded and whenever some were replayed:
  // the host's notes on what the device holds are then out of step with it.
  virtual void forget() {}

  // The squared-gradient rule, in evaluation mode: this node's parameter gradients in a form that a
  // fused kernel squares and sums (square_rule.h), reading io.grad_outputs, io.inputs and
  // io.parameters. Pointers live until the next call. A slot that is not described takes the
  // generic rule: backward on one sample at a time.
  [[nodiscard]] virtual std::vector<SquareProblem> square_rule(const NodeIo& io);
};

}  // namespace fishermask
