#include "core/norm_sizes.h"

#include <algorithm>

namespace fishermask {

Shape normalised_shape(const NodeSpec& node) {
  const Shape& input = node.inputs[0].shape;
  const std::int64_t dims = node.attributes.integer("dims", 1);
  node.check(dims >= 1 && dims <= static_cast<std::int64_t>(input.size()), "expected dims in [1, ",
             input.size(), "] for an input of ", shape_text(input), " but received ", dims);
  return {input.end() - dims, input.end()};
}

NormSizes norm_sizes(const NodeSpec& node) {
  NormSizes sizes;
  sizes.width = element_count(normalised_shape(node));
  sizes.rows = element_count(node.inputs[0].shape) / std::max<std::int64_t>(sizes.width, 1);
  sizes.epsilon = node.attributes.number("epsilon", 1e-5);
  sizes.centred = node.op == "layer_norm";
  return sizes;
}

}  // namespace fishermask
