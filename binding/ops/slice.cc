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

struct Cut {
  std::vector<std::int64_t> starts;
  std::vector<std::int64_t> steps;
  Shape sizes;
};

// The last position taken lies inside; the product may be too large for an integer.
bool ends_inside(std::int64_t start, std::int64_t step, std::int64_t size, std::int64_t length) {
  std::int64_t way = 0;
  std::int64_t last = 0;
  return !__builtin_mul_overflow(size - 1, step, &way) &&
         !__builtin_add_overflow(start, way, &last) && last >= 0 && last < length;
}

Cut cut_of(const NodeSpec& node) {
  const Shape& input = node.inputs[0].shape;
  const auto rank = static_cast<std::int64_t>(input.size());
  Cut cut = {node.attributes.integers("starts", rank), node.attributes.integers("steps", rank),
             sizes_attribute(node, "sizes")};
  node.check(cut.sizes.size() == input.size(), "expected ", rank, " sizes but received ",
             shape_text(cut.sizes));
  for (std::size_t d = 0; d < input.size(); ++d) {
    node.check(cut.steps[d] != 0, "expected steps other than 0 but received ",
               shape_text(cut.steps));
    node.check(cut.starts[d] >= 0 && cut.starts[d] < input[d] &&
                   ends_inside(cut.starts[d], cut.steps[d], cut.sizes[d], input[d]),
               "expected a slice inside ", shape_text(input), " but axis ", d, " takes ",
               cut.sizes[d], " from ", cut.starts[d], " in steps of ", cut.steps[d]);
  }
  return cut;
}

std::vector<ValueSpec> infer(const NodeSpec& node) {
  check_real_inputs(node);
  check_no_empty_input(node);
  return {{cut_of(node).sizes, node.inputs[0].dtype}};
}

std::unique_ptr<Kernel> make_reference(const NodeSpec& node, DType dtype) {
  const Shape& input = node.inputs[0].shape;
  const Cut cut = cut_of(node);
  const std::vector<std::int64_t> from = strides_of(input);
  const std::vector<std::int64_t> to = strides_of(cut.sizes);
  std::vector<StridedAxis> axes;
  std::int64_t offset = 0;
  for (std::size_t d = 0; d < input.size(); ++d) {
    // An axis of one position takes no step, and its step may be of any size.
    const std::int64_t step = cut.sizes[d] > 1 ? cut.steps[d] : 1;
    axes.push_back({cut.sizes[d], from[d] * step, to[d]});
    offset += cut.starts[d] * from[d];
  }
  const std::int64_t from_count = element_count(input);
  const std::int64_t to_count = element_count(cut.sizes);
  return make_move_kernel({.map = StridedMap(std::move(axes), offset, from_count, 0, to_count),
                           .partial = to_count < from_count},
                          dtype);
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
