// NumPy's broadcasting over the sample's sizes, as a walk over memory: which sizes there are, and
// how far each operand moves along each of them (0 where it is repeated). Neighbouring sizes along
// which every operand moves evenly are one, so that equal shapes are a single run over the whole
// batch and a bias along the last sizes is one run for each repetition.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/tensor.h"

namespace fishermask {

inline constexpr std::size_t kMostOperands = 3;
// Operands first, then the output.
inline constexpr std::size_t kOutputLane = kMostOperands;
using LaneOffsets = std::array<std::int64_t, kMostOperands + 1>;

struct BroadcastDim {
  std::int64_t size = 1;
  LaneOffsets stride{};
};
using BroadcastDims = std::vector<BroadcastDim>;  // from the outermost; never empty

struct BroadcastOperand {
  Shape shape;          // per sample
  bool batched = true;  // false: a parameter, the same for every sample
};

// A sample may have as many sizes; the walk then has one more, the batch.
inline constexpr std::size_t kMostRank = 8;

// The shape that `a` and `b` broadcast to; none where two sizes differ and neither is 1.
[[nodiscard]] std::optional<Shape> broadcast_shapes(const Shape& a, const Shape& b);

// The walk of `operands` (at most kMostOperands, each of which broadcasts to `output`) over `batch`
// samples.
[[nodiscard]] BroadcastDims broadcast_dims(const std::vector<BroadcastOperand>& operands,
                                           const Shape& output, std::int64_t batch);

// The dims along which an operand moves, and those along which it is repeated, in order.
struct SplitDims {
  BroadcastDims kept;
  BroadcastDims repeated;
};
[[nodiscard]] SplitDims split_dims(const BroadcastDims& dims, std::size_t lane);

[[nodiscard]] std::int64_t dims_count(const BroadcastDims& dims);

// How far every lane has moved at the place of this flat index.
[[nodiscard]] LaneOffsets offsets_at(const BroadcastDims& dims, std::int64_t flat);

// Calls row(offsets, at, count) for the runs along the innermost size that cover the flat range
// [begin, end): `offsets` is where each lane stands at flat index `at`.
template <typename Row>
void for_each_row(const BroadcastDims& dims, std::int64_t begin, std::int64_t end, Row&& row) {
  if (begin >= end) return;
  const BroadcastDim& inner = dims.back();
  std::array<std::int64_t, kMostRank + 1> index{};
  std::int64_t column = begin % inner.size;
  std::int64_t rest = begin / inner.size;
  LaneOffsets offsets{};
  for (std::size_t d = dims.size() - 1; d-- > 0;) {
    index[d] = rest % dims[d].size;
    rest /= dims[d].size;
    for (std::size_t k = 0; k < offsets.size(); ++k) offsets[k] += index[d] * dims[d].stride[k];
  }
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t count = std::min(inner.size - column, end - at);
    LaneOffsets start = offsets;
    for (std::size_t k = 0; k < start.size(); ++k) start[k] += column * inner.stride[k];
    row(start, at, count);
    at += count;
    column = 0;
    for (std::size_t d = dims.size() - 1; d-- > 0;) {
      const bool carry = ++index[d] == dims[d].size;
      const std::int64_t steps = carry ? 1 - dims[d].size : 1;
      for (std::size_t k = 0; k < offsets.size(); ++k) offsets[k] += steps * dims[d].stride[k];
      if (!carry) break;
      index[d] = 0;
    }
  }
}

}  // namespace fishermask
