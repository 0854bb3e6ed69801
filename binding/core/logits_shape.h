// How logits (N, …, C) are read by the loss, on every device.
#pragma once

#include <cstdint>

namespace fishermask {

constexpr std::int32_t kNotCounted = -1;

struct LogitsShape {
  std::int64_t batch = 0;
  std::int64_t positions = 1;  // per sample
  std::int64_t classes = 1;
};

struct PredictionCounts {
  std::int64_t counted = 0;
  std::int64_t correct = 0;  // of the counted positions, where the prediction is the label
};

}  // namespace fishermask
