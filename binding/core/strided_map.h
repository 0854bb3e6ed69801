// A copy between two layouts of the same sizes, as a plan: to[Σ i_k·to_k] = from[Σ i_k·from_k],
// sample by sample. Transpose, slice, pad, concat and expand are such copies, and so are most of
// their gradients. ops/strided.h and the CUDA backend run it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/kernel.h"

namespace fishermask {

// Strides in elements; 0 repeats, a negative one walks backwards.
struct StridedAxis {
  std::int64_t size = 1;
  std::int64_t from = 0;
  std::int64_t to = 0;
};

// Without axes of size 1, and with neighbours joined that are one walk in both layouts.
[[nodiscard]] std::vector<StridedAxis> joined_axes(const std::vector<StridedAxis>& axes);

// Axes of one sample, outermost first; no two positions may share a place in `to`. The offsets are
// those of position (0, 0, …), the counts the elements of a whole sample on either side.
struct StridedMap {
  std::vector<StridedAxis> axes;
  std::int64_t from_offset = 0;
  std::int64_t from_count = 1;
  std::int64_t to_offset = 0;
  std::int64_t to_count = 1;

  // The same map the other way. Only where no place of `from` is used twice.
  [[nodiscard]] StridedMap reversed() const;
  // Joined, with the batch as the outermost axis.
  [[nodiscard]] std::vector<StridedAxis> batched_axes(std::int64_t batch) const;
};

// An op that only moves values: y takes x's elements by a map and holds a constant elsewhere; the
// gradient goes the same way back, and is 0 where y does not look.
struct Move {
  StridedMap map = {};  // x to y, no element of x twice
  // What y holds where the map writes nothing; unset: there is no such place.
  std::optional<double> elsewhere = std::nullopt;
  bool partial = false;  // some elements of x go nowhere
};

// The moves of the ops of these names. Errors: GRAPH where the node's attributes do not fit.
[[nodiscard]] Move transpose_move(const NodeSpec& node);
[[nodiscard]] Move slice_move(const NodeSpec& node);
[[nodiscard]] Move pad_move(const NodeSpec& node);
// Repeats elements of x: it has no way back.
[[nodiscard]] StridedMap expand_map(const NodeSpec& node);
// Input k of concat, along its attribute `axis` (default −1).
[[nodiscard]] StridedMap concat_map(const NodeSpec& node, std::size_t k);
// An image (H, W, C) in the order (C, H, W); any other shape as it lies.
[[nodiscard]] StridedMap flatten_map(const NodeSpec& node);

// What those ops read of their attributes, checked: also the shape rules' part. Errors: GRAPH.
[[nodiscard]] std::vector<std::size_t> transpose_order(const NodeSpec& node);
[[nodiscard]] Shape padded_shape(const NodeSpec& node);
struct SliceCut {
  std::vector<std::int64_t> starts;
  std::vector<std::int64_t> steps;
  Shape sizes;
};
[[nodiscard]] SliceCut slice_cut(const NodeSpec& node);

}  // namespace fishermask
