#include "core/linear_sizes.h"

#include <algorithm>

namespace fishermask {

LinearSizes linear_sizes(const NodeSpec& node) {
  const Shape& weight = node.parameters.at("weight");
  return {element_count(node.inputs[0].shape) / std::max<std::int64_t>(weight[1], 1), weight[1],
          weight[0]};
}

}  // namespace fishermask
