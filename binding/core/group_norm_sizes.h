// The sizes and constants of group_norm, from a node.
#pragma once

#include <cstdint>

#include "core/kernel.h"

namespace fishermask {

struct GroupNormSizes {
  std::int64_t positions = 1;  // per sample
  std::int64_t channels = 1;
  std::int64_t groups = 1;
  double epsilon = 1e-5;

  [[nodiscard]] std::size_t group_of(std::int64_t channel) const {
    return static_cast<std::size_t>(channel / (channels / groups));
  }
  [[nodiscard]] double count() const {  // values that are normalised together
    const std::int64_t values = positions * (channels / groups);
    return static_cast<double>(values);
  }
};

// Errors: GRAPH for a scalar input.
inline GroupNormSizes group_norm_sizes(const NodeSpec& node) {
  const Shape& input = node.inputs[0].shape;
  node.check(!input.empty(), "expected an input (…, C) but received a scalar");
  GroupNormSizes sizes;
  sizes.channels = input.back();
  sizes.positions = element_count({input.begin(), input.end() - 1});
  sizes.groups = node.attributes.integer("groups");
  sizes.epsilon = node.attributes.number("epsilon", 1e-5);
  return sizes;
}

}  // namespace fishermask
