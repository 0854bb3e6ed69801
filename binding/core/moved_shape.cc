#include "core/moved_shape.h"

namespace fishermask {

Shape sizes_attribute(const NodeSpec& node, const std::string& key) {
  Shape sizes = node.attributes.integers(key, -1);
  for (const std::int64_t size : sizes) {
    node.check(size >= 1, "expected sizes of at least 1 for '", key, "' but received ",
               shape_text(sizes));
  }
  (void)element_count(sizes);
  return sizes;
}

std::size_t axis_attribute(const NodeSpec& node, std::size_t rank) {
  const auto sizes = static_cast<std::int64_t>(rank);
  const std::int64_t axis = node.attributes.integer("axis");
  node.check(axis >= -sizes && axis < sizes, "expected an axis in [", -sizes, ", ", sizes,
             ") but received ", axis);
  return static_cast<std::size_t>(axis < 0 ? axis + sizes : axis);
}

std::vector<std::int64_t> places_attribute(const NodeSpec& node, std::int64_t least,
                                           std::int64_t places) {
  std::vector<std::int64_t> index = node.attributes.integers("index", -1);
  for (std::size_t i = 0; i < index.size(); ++i) {
    node.check(index[i] >= least && index[i] < places, "expected places in [", least, ", ", places,
               ") for 'index' but element ", i, " is ", index[i]);
  }
  return index;
}

void check_no_empty_input(const NodeSpec& node) {
  for (std::size_t k = 0; k < node.inputs.size(); ++k) {
    node.check(element_count(node.inputs[k].shape) > 0, "expected sizes of at least 1 but input ",
               k, " is ", shape_text(node.inputs[k].shape));
  }
}

std::vector<std::int64_t> strides_of(const Shape& shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t d = shape.size(); d > 1; --d) strides[d - 2] = strides[d - 1] * shape[d - 1];
  return strides;
}

AxisSplit split_at(const Shape& shape, std::size_t axis) {
  const auto at = shape.begin() + static_cast<std::ptrdiff_t>(axis);
  return {element_count({shape.begin(), at}), *at, element_count({at + 1, shape.end()})};
}

}  // namespace fishermask
