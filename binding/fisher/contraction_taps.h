// Which positions of the output and of the input meet at one element of a convolution's window.
#pragma once

#include <vector>

#include "core/square_rule.h"

namespace fishermask {

// The first position and the steps from row to row and from column to column, in positions.
struct Walk {
  std::int64_t start = 0, row = 0, col = 0;
};

struct Tap {
  std::int64_t rows = 0, cols = 0;  // positions that meet inside the image; none: 0
  Walk output, input;
};

// (kernel_height · kernel_width) taps, row by row.
[[nodiscard]] std::vector<Tap> contraction_taps(const ContractionForm& form);

}  // namespace fishermask
