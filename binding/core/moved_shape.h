// Attributes that the ops which move values share: sizes, axes and flat places, checked against the
// graph before a kernel trusts them.
#pragma once

#include <string>
#include <vector>

#include "core/kernel.h"

namespace fishermask {

// Attribute `key` as the sizes of a value. Errors: GRAPH where a size is below 1, SHAPE on
// overflow.
[[nodiscard]] Shape sizes_attribute(const NodeSpec& node, const std::string& key);

// Attribute "axis" over `rank` sizes, counted from the end when negative. Errors: GRAPH.
[[nodiscard]] std::size_t axis_attribute(const NodeSpec& node, std::size_t rank);

// Attribute "index": flat places in [least, places). Errors: GRAPH naming the first that is
// outside.
[[nodiscard]] std::vector<std::int64_t> places_attribute(const NodeSpec& node, std::int64_t least,
                                                         std::int64_t places);

// Throws GRAPH unless every size of every input is 1 or more.
void check_no_empty_input(const NodeSpec& node);

// Row-major strides in elements.
[[nodiscard]] std::vector<std::int64_t> strides_of(const Shape& shape);

// What lies before, at and after one axis.
struct AxisSplit {
  std::int64_t outer = 1;
  std::int64_t length = 1;
  std::int64_t inner = 1;
};
[[nodiscard]] AxisSplit split_at(const Shape& shape, std::size_t axis);

}  // namespace fishermask
