// The op interface: what one file in binding/ops must provide, and nothing else in the engine
// knows.
//
// An op is a definition (shape rule, parameter slots, what backward needs) plus kernels. Every op
// has a plain reference kernel for f32 and f64, on which gradcheck runs; a fast f32 kernel is
// optional and is held against the reference by the same table of cases. Registration:
// FM_REGISTER_OP in the op's own file.
//
// Layout: every value is contiguous with the batch first. Images are (N, H, W, C). Parameters keep
// PyTorch's layout, conv weights (C_out, C_in/groups, K_h, K_w), linear weights (out, in):
// gradients, Fisher sums, masks and optimiser state share it, so flat indices mean the same
// everywhere. A kernel that likes another layout converts inside.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/rng.h"
#include "core/tensor.h"
#include "graph/attributes.h"
#include "graph/square_rule.h"

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
  PhiloxKey rng;          // this step's stream for this node
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

  // The squared-gradient rule, in evaluation mode: this node's parameter gradients in a form that a
  // fused kernel squares and sums (square_rule.h), reading io.grad_outputs, io.inputs and
  // io.parameters. Pointers live until the next call. A slot that is not described takes the
  // generic rule: backward on one sample at a time.
  [[nodiscard]] virtual std::vector<SquareProblem> square_rule(const NodeIo& io);
};

struct ParameterSlot {
  std::string name;
  bool required = true;
  bool buffer =
      false;  // state, not trained (running statistics); forward in training mode may write it
};

// How the values of one input of a case are drawn: uniform in [low, high), as whole numbers (i32)
// where `integer` says so. Without a range (low == high) from a seeded normal distribution.
struct InputDraw {
  double low = 0;
  double high = 0;
  bool integer = false;
};

// One row of the op table: gradcheck, fast-against-reference, the Fisher's three ways and parity
// with PyTorch all run from it.
struct SampleCase {
  std::string name;                              // "stride 2, groups 2"
  std::vector<Shape> inputs;                     // per sample
  std::map<std::string, Shape> parameters = {};  // slot -> shape
  std::map<std::string, Attribute> attributes = {};
  std::int64_t batch = 3;
  bool training = false;
  std::vector<InputDraw> draws = {};  // by input; those that are missing are normal
};

struct OpDefinition {
  std::string name;
  std::vector<ParameterSlot> slots;
  int min_inputs = 1;
  int max_inputs = 1;
  std::vector<std::string> attributes;  // the known keys
  bool backward_needs_inputs = false;
  bool backward_needs_outputs = false;
  // Forward may write its output over inputs[0] when nobody else needs that input any more.
  bool in_place = false;
  // What this op does to its first input, where a producer could do it in its stead.
  Epilogue epilogue = {};
  // The classifier head is found from the graph: a nonlinear op ends the search.
  bool nonlinear = false;
  // Output specs of a node; checks input and parameter shapes and attributes. Errors: GRAPH, SHAPE.
  std::vector<ValueSpec> (*infer)(const NodeSpec& node) = nullptr;
  SavedSpec (*saved)(const NodeSpec& node, std::int64_t batch,
                     bool training) = nullptr;  // null: none
  // dtype kF32 or kF64.
  std::unique_ptr<Kernel> (*make_reference)(const NodeSpec& node, DType dtype) = nullptr;
  // Null, or may return null for attributes that it does not cover: the reference then serves.
  std::unique_ptr<Kernel> (*make_fast)(const NodeSpec& node, std::int64_t batch) = nullptr;
  std::vector<SampleCase> cases;
};

// Registration at static-initialisation time. A name registered twice is INTERNAL at the first
// look-up.
int register_op(OpDefinition definition);
[[nodiscard]] const OpDefinition& find_op(
    const std::string& name);                       // Errors: GRAPH, listing the known ops
[[nodiscard]] std::vector<std::string> op_names();  // sorted

#define FM_REGISTER_OP(definition)                                                     \
  namespace {                                                                          \
  [[maybe_unused]] const int fm_registered_op = ::fishermask::register_op(definition); \
  }

}  // namespace fishermask
