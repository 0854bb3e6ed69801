// The sizes and constants of batch_norm, from a node.
#pragma once

#include <cstdint>

#include "core/kernel.h"

namespace fishermask {

struct BatchNormSizes {
  std::int64_t positions = 1;  // per sample
  std::int64_t channels = 1;
  double epsilon = 1e-5;
  double momentum = 0.1;
  bool affine = false;
};

// The caller has checked that the input is no scalar.
inline BatchNormSizes batch_norm_sizes(const NodeSpec& node) {
  const Shape& input = node.inputs[0].shape;
  BatchNormSizes sizes;
  sizes.channels = input.back();
  sizes.positions = element_count({input.begin(), input.end() - 1});
  sizes.epsilon = node.attributes.number("epsilon", 1e-5);
  sizes.momentum = node.attributes.number("momentum", 0.1);
  sizes.affine = node.has_parameter("weight");
  return sizes;
}

}  // namespace fishermask
