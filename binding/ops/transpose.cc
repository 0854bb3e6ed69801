// transpose: the sizes in another order, y[i_perm[0], i_perm[1], …] = x[i_0, i_1, …].
// Shapes:     x (N, s_0, s_1, …), y (N, s_perm[0], s_perm[1], …).
// Attributes: perm: each of 0 … rank − 1 once (negative ones from the end).
// Accumulate: grad x as asked.   Deterministic: yes.
#include "core/moved_shape.h"
#include "core/window.h"
#include "graph/op.h"
#include "ops/move_kernel.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  check_no_empty_input(node);
  Shape output;
  for (const std::size_t axis : transpose_order(node)) output.push_back(node.inputs[0].shape[axis]);
  return {{output, node.inputs[0].dtype}};
}

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  return make_move_kernel(transpose_move(node), dtype);
}

SampleCase row(const char* name, const Shape& input, const Shape& perm, std::int64_t batch = 3) {
  return {.name = name, .inputs = {input}, .attributes = {{"perm", perm}}, .batch = batch};
}

OpDefinition transpose() {
  OpDefinition op;
  op.name = "transpose";
  op.attributes = {"perm"};
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {
      row("image to channels first", {5, 7, 19}, {2, 0, 1}),
      row("channels first to image", {19, 5, 7}, {1, 2, 0}, 2),
      row("heads before tokens", {11, 3, 5}, {1, 0, 2}),
      row("matrix, batch of one", {33, 18}, {1, 0}, 1),
      row("negative axes", {3, 4, 5}, {-1, 0, -2}),
      row("five sizes", {2, 3, 1, 4, 5}, {3, 1, 4, 2, 0}, 2),
      row("sizes of one alone", {1, 6, 1}, {2, 1, 0}),
      row("identity", {4, 3}, {0, 1}, 2),
      row("scalar", {}, {}),
      row("several blocks", {70, 3, 90}, {2, 1, 0}),
  };
  return op;
}

FM_REGISTER_OP(transpose())

}  // namespace
}  // namespace fishermask
