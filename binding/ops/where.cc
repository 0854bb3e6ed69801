// where: y = a where the condition is not 0, else b; elementwise.
// Shapes:     condition, a and b broadcast to y (NumPy's broadcasting over the sample's sizes).
// Gradients:  to the operand that was taken; the condition gets 0.
// Deterministic: yes.
#include "core/binary_formulas.h"
#include "graph/op.h"
#include "ops/broadcast_kernel.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  Shape output = node.inputs[0].shape;
  for (std::size_t k = 1; k < node.inputs.size(); ++k) {
    std::optional<Shape> joined = broadcast_shapes(output, node.inputs[k].shape);
    if (!joined.has_value()) {
      node.check(false, "expected inputs that broadcast but input ", k, " is ",
                 shape_text(node.inputs[k].shape), " and those before it ", shape_text(output));
      return {};
    }
    output = std::move(*joined);
  }
  node.check(output.size() <= kMostRank, "expected at most ", kMostRank, " sizes but received ",
             shape_text(output));
  return {{output, node.inputs[0].dtype}};
}

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  if (dtype == DType::kF64)
    return std::make_unique<BroadcastKernel<double, formula::Where<double>>>(node);
  return std::make_unique<BroadcastKernel<float, formula::Where<float>>>(node);
}

OpDefinition where() {
  OpDefinition op;
  op.name = "where";
  op.min_inputs = op.max_inputs = 3;
  op.backward_needs_inputs = true;
  op.nonlinear = true;
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {
      {.name = "one shape", .inputs = {{5, 7}, {5, 7}, {5, 7}}},
      {.name = "a scalar for b", .inputs = {{3, 4, 5}, {3, 4, 5}, {}}, .batch = 2},
      {.name = "condition along the rows", .inputs = {{4, 1}, {4, 6}, {4, 6}}, .batch = 1},
      {.name = "all three repeated", .inputs = {{3, 1, 1}, {4, 1}, {5}}},
      {.name = "condition alone has the shape", .inputs = {{2, 70}, {1}, {2, 1}}},
  };
  return op;
}

FM_REGISTER_OP(where())

}  // namespace
}  // namespace fishermask
