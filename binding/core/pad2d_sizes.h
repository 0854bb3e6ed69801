// The sizes of pad2d, from a node.
#pragma once

#include <cstdint>

#include "core/kernel.h"
#include "core/window.h"

namespace fishermask {

struct Pad2dSizes {
  Shape in, out;
  std::int64_t top = 0, left = 0, before = 0;
  std::int64_t step_height = 1, step_width = 1;
  double value = 0;
};

// Errors: GRAPH where the input is no image or an attribute is out of range.
inline Pad2dSizes pad2d_sizes(const NodeSpec& node) {
  check_real_inputs(node);
  Pad2dSizes sizes;
  sizes.in = node.inputs[0].shape;
  node.check(sizes.in.size() == 3, "expected an image (H, W, C) but received ",
             shape_text(sizes.in));
  const auto padding = node.attributes.integers("padding", 4, {{0, 0, 0, 0}});
  const auto channels = node.attributes.integers("channels", 2, {{0, 0}});
  const auto step = node.attributes.integers("step", 2, {{1, 1}});
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  for (const auto& list : {padding, channels}) {
    for (const std::int64_t pad : list) {
      node.check(pad >= 0 && pad < kMost, "expected a padding in [0, ", kMost, ") but received ",
                 pad);
    }
  }
  node.check(step[0] >= 1 && step[1] >= 1, "expected steps of at least 1 but received ", step[0],
             ", ", step[1]);
  sizes.top = padding[0], sizes.left = padding[1], sizes.before = channels[0];
  sizes.step_height = step[0], sizes.step_width = step[1];
  sizes.value = node.attributes.number("value", 0.0);
  const auto taken = [](std::int64_t size, std::int64_t by) {
    return size / by + (size % by != 0);
  };
  sizes.out = {padding[0] + taken(sizes.in[0], step[0]) + padding[2],
               padding[1] + taken(sizes.in[1], step[1]) + padding[3],
               channels[0] + sizes.in[2] + channels[1]};
  return sizes;
}

}  // namespace fishermask
