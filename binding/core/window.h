// The sliding window that convolution and pooling share: geometry from the attributes, checked
// once. Attributes: stride [2], padding [top, left, bottom, right], dilation [2]; each (rows,
// columns).
#pragma once

#include <cstdint>

#include "core/kernel.h"

namespace fishermask {

struct WindowAxis {
  std::int64_t in = 1;
  std::int64_t out = 1;
  std::int64_t kernel = 1;
  std::int64_t stride = 1;
  std::int64_t pad_before = 0;
  std::int64_t pad_after = 0;
  std::int64_t dilation = 1;

  // Position in the input of tap k of window o; outside [0, in) it lies in the padding.
  [[nodiscard]] std::int64_t at(std::int64_t o, std::int64_t k) const noexcept {
    return o * stride - pad_before + k * dilation;
  }
  [[nodiscard]] bool inside(std::int64_t position) const noexcept {
    return position >= 0 && position < in;
  }
};

struct Window {
  WindowAxis rows;
  WindowAxis columns;
};

// Throws GRAPH unless every input holds real numbers (not indices).
void check_real_inputs(const NodeSpec& node);

// The window of a (height, width) kernel over node.inputs[0], an image (H, W, C). Without a
// `stride` attribute the stride is `default_stride`. Errors: GRAPH where the input is no image, an
// attribute is out of range, or the window does not fit.
[[nodiscard]] Window window_of(const NodeSpec& node, std::int64_t height, std::int64_t width,
                               const std::vector<std::int64_t>& default_stride);

// For pooling: the kernel is an attribute and is the default stride, as in PyTorch. Also GRAPH
// where a window would see nothing but padding.
[[nodiscard]] Window pool_window_of(const NodeSpec& node);

}  // namespace fishermask
