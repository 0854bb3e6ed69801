// slice: y[i_0, i_1, …] = x[starts_0 + i_0·steps_0, starts_1 + i_1·steps_1, …].
// Shapes:     x (N, s…), y (N, sizes…), one rank.
// Attributes: starts, steps (not 0; negative walks backwards), sizes: one of each per size of x.
// Accumulate: grad x as asked; 0 where nothing was taken.   Deterministic: yes.
#include "core/moved_shape.h"
#include "core/window.h"
#include "graph/op.h"
#include "ops/move_kernel.h"

namespace fishermask {
namespace {

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  check_no_empty_input(node);
  return {{slice_cut(node).sizes, node.inputs[0].dtype}};
}

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  return make_move_kernel(slice_move(node), dtype);
}

SampleCase row(const char* name, const Shape& input, const Shape& starts, const Shape& steps,
               const Shape& sizes, std::int64_t batch = 3) {
  return {.name = name,
          .inputs = {input},
          .attributes = {{"starts", starts}, {"steps", steps}, {"sizes", sizes}},
          .batch = batch};
}

OpDefinition slice() {
  OpDefinition op;
  op.name = "slice";
  op.attributes = {"starts", "steps", "sizes"};
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {
      row("channels", {5, 4, 17}, {0, 0, 3}, {1, 1, 1}, {5, 4, 9}),
      row("one token", {7, 6}, {6, 0}, {1, 1}, {1, 6}, 2),
      row("every second, both axes", {9, 8, 3}, {0, 1, 0}, {2, 2, 1}, {5, 4, 3}),
      row("backwards, batch of one", {6, 5}, {5, 4}, {-1, -2}, {6, 3}, 1),
      row("all of it", {4, 3}, {0, 0}, {1, 1}, {4, 3}),
      row("flipped rows", {4, 3, 2}, {3, 0, 0}, {-1, 1, 1}, {4, 3, 2}),
      row("one element with a long step", {5}, {2}, {1'000'000}, {1}, 4),
      row("scalar", {}, {}, {}, {}),
      row("several blocks", {80, 90, 5}, {3, 1, 1}, {1, 2, 1}, {70, 44, 3}),
  };
  return op;
}

FM_REGISTER_OP(slice())

}  // namespace
}  // namespace fishermask
