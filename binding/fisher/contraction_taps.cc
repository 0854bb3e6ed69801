#include "fisher/contraction_taps.h"

#include <algorithm>

namespace fishermask {
namespace {

std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// The outputs along one axis whose window element k lies inside the image: [first, last).
struct ValidRange {
  std::int64_t first;
  std::int64_t last;
};
ValidRange valid_outputs(std::int64_t out, std::int64_t in, std::int64_t stride, std::int64_t pad,
                         std::int64_t offset) {
  const std::int64_t shift = offset - pad;  // in = out · stride + shift
  const std::int64_t first = shift >= 0 ? 0 : ceil_divide(-shift, stride);
  const std::int64_t last = in - shift <= 0 ? 0 : ceil_divide(in - shift, stride);
  return {std::min(first, out), std::max(std::min(last, out), std::min(first, out))};
}

}  // namespace

std::vector<Tap> contraction_taps(const ContractionForm& f) {
  std::vector<Tap> taps;
  for (std::int64_t kh = 0; kh < f.kernel_height; ++kh) {
    const ValidRange rows = valid_outputs(f.out_height, f.in_height, f.stride_height, f.pad_top,
                                          kh * f.dilation_height);
    for (std::int64_t kw = 0; kw < f.kernel_width; ++kw) {
      const ValidRange cols =
          valid_outputs(f.out_width, f.in_width, f.stride_width, f.pad_left, kw * f.dilation_width);
      Tap tap;
      tap.rows = rows.last - rows.first;
      tap.cols = tap.rows > 0 ? cols.last - cols.first : 0;
      tap.output = {rows.first * f.out_width + cols.first, f.out_width, 1};
      const std::int64_t row = rows.first * f.stride_height - f.pad_top + kh * f.dilation_height;
      const std::int64_t col = cols.first * f.stride_width - f.pad_left + kw * f.dilation_width;
      tap.input = {row * f.in_width + col, f.stride_height * f.in_width, f.stride_width};
      taps.push_back(tap);
    }
  }
  return taps;
}

}  // namespace fishermask
