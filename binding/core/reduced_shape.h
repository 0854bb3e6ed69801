// Which axes a reduction takes together, and the shape that is left.
#pragma once

#include <vector>

#include "core/kernel.h"

namespace fishermask {

// Attribute "axes" over the sizes of input 0: whether each is reduced; all where it is left out or
// empty. Errors: GRAPH.
[[nodiscard]] std::vector<bool> reduced_axes(const NodeSpec& node);

// The output with its reduced axes of size 1.
[[nodiscard]] Shape kept_shape(const NodeSpec& node);

}  // namespace fishermask
