// The sizes and constants of lrn, from a node.
#pragma once

#include <cstdint>

#include "core/kernel.h"

namespace fishermask {

struct LrnSizes {
  std::int64_t positions = 1;  // per sample
  std::int64_t channels = 1;
  std::int64_t before = 0;  // channels of the window on either side
  std::int64_t after = 0;
  double factor = 0;  // alpha/size
  double beta = 0.75;
  double bias = 1;
};

// Errors: GRAPH for a scalar input or a size below 1.
inline LrnSizes lrn_sizes(const NodeSpec& node) {
  const Shape& input = node.inputs[0].shape;
  node.check(!input.empty(), "expected an input (…, C) but received a scalar");
  const std::int64_t size = node.attributes.integer("size");
  node.check(size >= 1, "expected a size of at least 1 but received ", size);
  LrnSizes sizes;
  sizes.channels = input.back();
  sizes.positions = element_count({input.begin(), input.end() - 1});
  sizes.before = (size - 1) / 2;
  sizes.after = size - 1 - sizes.before;
  sizes.factor = node.attributes.number("alpha", 1e-4) / static_cast<double>(size);
  sizes.beta = node.attributes.number("beta", 0.75);
  sizes.bias = node.attributes.number("bias", 1.0);
  return sizes;
}

}  // namespace fishermask
