// What the convolution kernels are told: a gather of source positions by taps. A convolution reads
// its input at position·stride − pad + tap·dilation. The transposed direction (the input gradient,
// and conv_transpose2d) is gathers too: the destinations that agree modulo the stride (a phase) see
// the same taps, at consecutive source positions. So nothing is ever scattered, and no work is done
// for taps that cannot meet.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <numeric>
#include <vector>

#include "core/conv_sizes.h"
#include "ops/aligned.h"

namespace fishermask::cuda {

// n / divisor for 0 <= n < 2^31 by one multiplication. Source: Granlund, Montgomery, "Division by
// invariant integers using multiplication", PLDI 1994.
struct FastDivisor {
  unsigned divisor = 1;
  unsigned multiplier = 0;
  unsigned shift = 0;

  FastDivisor() = default;
  explicit FastDivisor(std::int64_t by) : divisor(static_cast<unsigned>(by)) {
    unsigned log = 0;  // rounded up
    while ((std::uint64_t{1} << log) < divisor) ++log;
    if (log == 0) return;
    multiplier = static_cast<unsigned>(((std::uint64_t{1} << (31U + log)) + divisor - 1) / divisor);
    shift = log - 1;
  }
  __device__ __forceinline__ int operator()(int n) const {
    const auto u = static_cast<unsigned>(n);
    return static_cast<int>(divisor == 1 ? u : __umulhi(u, multiplier) >> shift);
  }
};

// One axis. Grid position p with tap j reads source p·step + offset + j·offset_step and belongs to
// destination dest_first + p·dest_step; tap j is kernel position first_tap + j·tap_step.
struct GatherAxis {
  int source = 1;
  int positions = 1;
  int step = 1;
  int taps = 1;
  int offset = 0;
  int offset_step = 1;
  int first_tap = 0;
  int tap_step = 1;
  int dest = 1;
  int dest_first = 0;
  int dest_step = 1;
};

inline GatherAxis forward_axis(const WindowAxis& axis) {
  GatherAxis gather;
  gather.source = static_cast<int>(axis.in);
  gather.positions = gather.dest = static_cast<int>(axis.out);
  gather.step = static_cast<int>(axis.stride);
  gather.taps = static_cast<int>(axis.kernel);
  gather.offset = -static_cast<int>(axis.pad_before);
  gather.offset_step = static_cast<int>(axis.dilation);
  return gather;
}

// The destinations phase, phase + stride, …; phase < min(stride, in). No taps: nothing reaches
// them.
inline GatherAxis transposed_axis(const WindowAxis& axis, std::int64_t phase) {
  const std::int64_t period = axis.stride / std::gcd(axis.dilation, axis.stride);
  const auto distance = [&](std::int64_t tap) {
    return phase + axis.pad_before - tap * axis.dilation;
  };
  std::int64_t first = 0;
  while (first < period && distance(first) % axis.stride != 0) ++first;
  GatherAxis gather;
  gather.source = static_cast<int>(axis.out);
  gather.positions = static_cast<int>((axis.in - phase + axis.stride - 1) / axis.stride);
  gather.dest = static_cast<int>(axis.in);
  gather.dest_first = static_cast<int>(phase);
  gather.dest_step = static_cast<int>(axis.stride);
  gather.tap_step = static_cast<int>(period);
  gather.first_tap = static_cast<int>(first);
  gather.taps = 0;
  if (first == period || first >= axis.kernel) return gather;
  gather.taps = static_cast<int>((axis.kernel - 1 - first) / period + 1);
  gather.offset = static_cast<int>(distance(first) / axis.stride);
  gather.offset_step = -static_cast<int>(period * axis.dilation / axis.stride);
  return gather;
}

// dest[n, p, g·per_group + o] = bias + Σ_(tap, s) source[n, at(p, tap), g·per_group + s] ·
// packed[tap, s, o]
struct ConvGather {
  const float* source = nullptr;  // (N, rows.source, columns.source, source_channels)
  const float* packed = nullptr;
  const float* bias = nullptr;      // (dest_channels,) or null
  const float* residual = nullptr;  // of dest's shape, or null: added
  float* dest = nullptr;            // (N, rows.dest, columns.dest, dest_channels)
  float* partial = nullptr;         // (splits, positions, dest_channels) where the depth is split
  GatherAxis rows, columns;
  int positions = 0;  // of all samples: N · rows.positions · columns.positions
  int groups = 1;
  int source_channels = 1, source_per_group = 1;
  int dest_channels = 1, dest_per_group = 1;
  int depth = 0;                             // taps · source_per_group
  int packed_depth = 0, packed_columns = 0;  // of one group, padded
  FastDivisor by_source_channel, by_tap_column, by_sample, by_row;
  bool vector_source = false;  // 16 bytes at a time
  bool vector_dest = false;
  bool add = false;
  bool relu = false;  // last
  int tiles_per_split = 0;

  void finish(std::int64_t batch) {
    const int per_sample = rows.positions * columns.positions;
    positions = static_cast<int>(batch) * per_sample;
    depth = rows.taps * columns.taps * source_per_group;
    by_source_channel = FastDivisor(source_per_group);
    by_tap_column = FastDivisor(columns.taps > 0 ? columns.taps : 1);
    by_sample = FastDivisor(per_sample);
    by_row = FastDivisor(columns.positions);
  }
};

// Where a position of the grid reads and writes.
struct GridPosition {
  int sample, row, column;
};
__device__ __forceinline__ GridPosition grid_position(int position, int per_sample,
                                                      int row_positions, FastDivisor by_sample,
                                                      FastDivisor by_row) {
  GridPosition at;
  at.sample = by_sample(position);
  const int rest = position - at.sample * per_sample;
  at.row = by_row(rest);
  at.column = rest - at.row * row_positions;
  return at;
}

}  // namespace fishermask::cuda
