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

#include "core/kernel.h"

namespace fishermask {

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
