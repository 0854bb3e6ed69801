// What layer_norm and rms_norm normalise together, and what a normalised row keeps for backward;
// the same on every device.
#pragma once

#include <cstdint>

#include "core/kernel.h"

namespace fishermask {

struct RowStatistics {
  double mean = 0;  // 0 where the row is not centred
  double inv_std = 0;
};

struct NormSizes {
  std::int64_t rows = 1;   // per sample
  std::int64_t width = 1;  // values that are normalised together
  double epsilon = 1e-5;
  bool centred = true;  // layer_norm
};

// The last `dims` sizes of the input. Errors: GRAPH where it has not that many.
[[nodiscard]] Shape normalised_shape(const NodeSpec& node);
[[nodiscard]] NormSizes norm_sizes(const NodeSpec& node);

}  // namespace fishermask
