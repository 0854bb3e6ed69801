#include "core/strided_map.h"

#include "core/axis.h"
#include "core/moved_shape.h"

namespace fishermask {
namespace {

// The last position taken lies inside; the product may be too large for an integer.
bool ends_inside(std::int64_t start, std::int64_t step, std::int64_t size, std::int64_t length) {
  std::int64_t way = 0;
  std::int64_t last = 0;
  return !__builtin_mul_overflow(size - 1, step, &way) &&
         !__builtin_add_overflow(start, way, &last) && last >= 0 && last < length;
}

}  // namespace

std::vector<StridedAxis> joined_axes(const std::vector<StridedAxis>& axes) {
  std::vector<StridedAxis> joined;
  for (const StridedAxis& axis : axes) {
    if (axis.size == 1) continue;
    if (!joined.empty() && joined.back().from == axis.from * axis.size &&
        joined.back().to == axis.to * axis.size) {
      joined.back() = {joined.back().size * axis.size, axis.from, axis.to};
    } else {
      joined.push_back(axis);
    }
  }
  return joined;
}

StridedMap StridedMap::reversed() const {
  std::vector<StridedAxis> back = axes;
  for (StridedAxis& axis : back) std::swap(axis.from, axis.to);
  return {std::move(back), to_offset, to_count, from_offset, from_count};
}

std::vector<StridedAxis> StridedMap::batched_axes(std::int64_t batch) const {
  std::vector<StridedAxis> all = {{batch, from_count, to_count}};
  all.insert(all.end(), axes.begin(), axes.end());
  return joined_axes(all);
}

std::vector<std::size_t> transpose_order(const NodeSpec& node) {
  const Shape& input = node.inputs[0].shape;
  const std::vector<std::int64_t> perm = node.attributes.integers("perm", -1);
  const auto rank = static_cast<std::int64_t>(input.size());
  node.check(perm.size() == input.size(), "expected ", rank, " axes for 'perm' but received ",
             shape_text(perm));
  std::vector<bool> seen(input.size());
  std::vector<std::size_t> order;
  for (const std::int64_t axis : perm) {
    node.check(axis >= -rank && axis < rank, "expected axes in [", -rank, ", ", rank,
               ") for 'perm' but received ", shape_text(perm));
    order.push_back(static_cast<std::size_t>(axis < 0 ? axis + rank : axis));
    node.check(!seen[order.back()], "expected each axis once for 'perm' but received ",
               shape_text(perm));
    seen[order.back()] = true;
  }
  return order;
}

Move transpose_move(const NodeSpec& node) {
  const Shape& input = node.inputs[0].shape;
  const std::vector<std::size_t> order = transpose_order(node);
  Shape output;
  for (const std::size_t axis : order) output.push_back(input[axis]);
  const std::vector<std::int64_t> from = strides_of(input);
  const std::vector<std::int64_t> to = strides_of(output);
  std::vector<StridedAxis> axes;
  axes.reserve(order.size());
  for (std::size_t d = 0; d < order.size(); ++d) {
    axes.push_back({output[d], from[order[d]], to[d]});
  }
  const std::int64_t count = element_count(input);
  return {.map = {std::move(axes), 0, count, 0, count}};
}

SliceCut slice_cut(const NodeSpec& node) {
  const Shape& input = node.inputs[0].shape;
  const auto rank = static_cast<std::int64_t>(input.size());
  SliceCut cut = {node.attributes.integers("starts", rank), node.attributes.integers("steps", rank),
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

Move slice_move(const NodeSpec& node) {
  const Shape& input = node.inputs[0].shape;
  const SliceCut cut = slice_cut(node);
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
  return {.map = {std::move(axes), offset, from_count, 0, to_count},
          .partial = to_count < from_count};
}

Shape padded_shape(const NodeSpec& node) {
  Shape output = node.inputs[0].shape;
  const auto rank = static_cast<std::int64_t>(output.size());
  const std::vector<std::int64_t> before = node.attributes.integers("before", rank);
  const std::vector<std::int64_t> after = node.attributes.integers("after", rank);
  for (std::size_t d = 0; d < output.size(); ++d) {
    node.check(before[d] >= 0 && after[d] >= 0 &&
                   !__builtin_add_overflow(output[d], before[d], &output[d]) &&
                   !__builtin_add_overflow(output[d], after[d], &output[d]),
               "expected padding of 0 or more that fits 63 bits but received before ",
               shape_text(before), " and after ", shape_text(after));
  }
  (void)element_count(output);
  return output;
}

Move pad_move(const NodeSpec& node) {
  const Shape& input = node.inputs[0].shape;
  const Shape output = padded_shape(node);
  const std::vector<std::int64_t> before = node.attributes.integers("before", -1);
  const std::vector<std::int64_t> from = strides_of(input);
  const std::vector<std::int64_t> to = strides_of(output);
  std::vector<StridedAxis> axes;
  std::int64_t offset = 0;
  for (std::size_t d = 0; d < input.size(); ++d) {
    axes.push_back({input[d], from[d], to[d]});
    offset += before[d] * to[d];
  }
  const std::int64_t from_count = element_count(input);
  const std::int64_t to_count = element_count(output);
  Move move = {.map = {std::move(axes), 0, from_count, offset, to_count}};
  if (to_count > from_count) move.elsewhere = node.attributes.number("value", 0.0);
  return move;
}

StridedMap expand_map(const NodeSpec& node) {
  const Shape& input = node.inputs[0].shape;
  const Shape output = node.attributes.integers("shape", -1);
  const std::vector<std::int64_t> from = strides_of(input);
  const std::vector<std::int64_t> to = strides_of(output);
  std::vector<StridedAxis> axes;
  const std::size_t front = output.size() - input.size();
  for (std::size_t d = 0; d < output.size(); ++d) {
    const bool kept = d >= front && input[d - front] == output[d];
    axes.push_back({output[d], kept ? from[d - front] : 0, to[d]});
  }
  return {std::move(axes), 0, element_count(input), 0, element_count(output)};
}

StridedMap concat_map(const NodeSpec& node, std::size_t k) {
  const AxisRuns runs = axis_runs(node, -1);
  std::int64_t total = 0;
  std::int64_t before = 0;
  for (std::size_t j = 0; j < node.inputs.size(); ++j) {
    if (j == k) before = total;
    total += element_count(node.inputs[j].shape) / runs.outer;
  }
  const std::int64_t count = element_count(node.inputs[k].shape);
  const std::int64_t length = count / runs.outer;
  return {{{runs.outer, length, total}, {length, 1, 1}}, 0, count, before, runs.outer * total};
}

StridedMap flatten_map(const NodeSpec& node) {
  const Shape& input = node.inputs[0].shape;
  const std::int64_t count = element_count(input);
  if (input.size() != 3) return {{{count, 1, 1}}, 0, count, 0, count};
  const std::int64_t positions = input[0] * input[1];
  return {{{positions, input[2], 1}, {input[2], 1, positions}}, 0, count, 0, count};
}

}  // namespace fishermask
