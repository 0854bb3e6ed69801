// pad: a constant around x, along any size.
// Shapes:     x (N, s_0, …), y (N, before_0 + s_0 + after_0, …).
// Attributes: before, after: per size, 0 or more; value (default 0).
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
  (void)node.attributes.number("value", 0.0);
  return {{padded_shape(node), node.inputs[0].dtype}};
}

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  return make_move_kernel(pad_move(node), dtype);
}

SampleCase row(const char* name, const Shape& input, const Shape& before, const Shape& after,
               double value, std::int64_t batch = 3) {
  return {.name = name,
          .inputs = {input},
          .attributes = {{"before", before}, {"after", after}, {"value", value}},
          .batch = batch};
}

OpDefinition pad() {
  OpDefinition op;
  op.name = "pad";
  op.attributes = {"before", "after", "value"};
  op.infer = infer;
  op.make_reference = make_reference;
  op.cases = {
      row("image", {4, 5, 3}, {1, 2, 0}, {3, 0, 0}, 0.0),
      row("channels, with a value", {3, 2, 7}, {0, 0, 1}, {0, 0, 4}, -1.5, 2),
      row("vector, batch of one", {6}, {0}, {5}, 2.0, 1),
      row("nothing", {3, 4}, {0, 0}, {0, 0}, 7.0),
      {.name = "without a value",
       .inputs = {{2, 3}},
       .attributes = {{"before", Shape{1, 0}}, {"after", Shape{0, 1}}}},
      row("scalar", {}, {}, {}, 1.0),
      row("several blocks", {60, 70, 5}, {1, 1, 1}, {2, 2, 2}, 0.5),
  };
  return op;
}

FM_REGISTER_OP(pad())

}  // namespace
}  // namespace fishermask
