// One axis of a sample: how far apart its elements lie, and how many runs along it there are.
#pragma once

#include <cstdint>

#include "core/kernel.h"

namespace fishermask {

struct AxisRuns {
  std::int64_t outer = 1;   // per sample: the product of the sizes before the axis
  std::int64_t length = 1;  // along the axis
  std::int64_t inner = 1;   // the step from one element of a run to the next

  // Where run r begins; runs of one outer step lie side by side.
  [[nodiscard]] std::int64_t start(std::int64_t run) const noexcept {
    return run / inner * length * inner + run % inner;
  }
  [[nodiscard]] std::int64_t runs(std::int64_t batch) const noexcept {
    return batch * outer * inner;
  }
};

// The runs along the node's attribute `axis` (negative from the end; `fallback` where it is left
// out). Errors: GRAPH where the first input has no such axis.
inline AxisRuns axis_runs(const NodeSpec& node, std::optional<std::int64_t> fallback = {}) {
  const Shape& shape = node.inputs[0].shape;
  const auto rank = static_cast<std::int64_t>(shape.size());
  const std::int64_t axis = node.attributes.integer("axis", fallback);
  node.check(axis >= -rank && axis < rank, "expected an axis in [", -rank, ", ", rank,
             ") but received ", axis);
  const auto at = static_cast<std::ptrdiff_t>(axis < 0 ? axis + rank : axis);
  return {.outer = element_count({shape.begin(), shape.begin() + at}),
          .length = shape[static_cast<std::size_t>(at)],
          .inner = element_count({shape.begin() + at + 1, shape.end()})};
}

}  // namespace fishermask
