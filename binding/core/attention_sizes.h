// The sizes of attention, and which columns a row sees (ops/attention.cc says what it computes).
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/kernel.h"

namespace fishermask {

struct AttentionSizes {
  std::int64_t rows = 1;     // T
  std::int64_t columns = 1;  // S
  std::int64_t heads = 1;
  std::int64_t kv_heads = 1;
  std::int64_t key = 1;        // d, values of one head
  std::int64_t value = 1;      // e
  std::int64_t mask_rows = 0;  // 0 without a mask, 1 for one of (S), T for one of (T, S)
  bool causal = false;
  double scale = 1;

  // Row t sees the columns below this.
  [[nodiscard]] std::int64_t visible(std::int64_t t) const noexcept {
    return causal ? std::clamp<std::int64_t>(t + 1 + columns - rows, 0, columns) : columns;
  }
  [[nodiscard]] std::int64_t kv_head(std::int64_t head) const noexcept {
    return head / (heads / kv_heads);
  }
};

// A row of scores without one above this sees nothing: masks say so with −1e9 or −∞.
constexpr double kSeesNothing = -5e8;

// Errors: GRAPH where heads, shapes or the mask do not fit together.
[[nodiscard]] AttentionSizes attention_sizes(const NodeSpec& node);

}  // namespace fishermask
