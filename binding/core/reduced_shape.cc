#include "core/reduced_shape.h"

namespace fishermask {

std::vector<bool> reduced_axes(const NodeSpec& node) {
  const auto rank = static_cast<std::int64_t>(node.inputs[0].shape.size());
  const auto axes = node.attributes.integers("axes", -1, std::vector<std::int64_t>{});
  std::vector<bool> reduced(static_cast<std::size_t>(rank), axes.empty());
  for (const std::int64_t axis : axes) {
    node.check(axis >= -rank && axis < rank, "expected axes in [", -rank, ", ", rank,
               ") but received ", axis);
    const auto at = static_cast<std::size_t>(axis < 0 ? axis + rank : axis);
    node.check(!reduced[at], "expected each axis once but received axis ", axis, " again");
    reduced[at] = true;
  }
  return reduced;
}

Shape kept_shape(const NodeSpec& node) {
  Shape shape = node.inputs[0].shape;
  const std::vector<bool> reduced = reduced_axes(node);
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (reduced[d]) shape[d] = 1;
  }
  return shape;
}

}  // namespace fishermask
