// Walks over several layouts at once: axes with one stride per layout ("lane"), and the offsets of
// every lane at a flat index. Divisions by an axis' size are multiplications while the walk has
// fewer than 2^31 positions. On top of them, the copies of core/strided_map.h (moves.cu).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/backend.h"
#include "common/launch.cuh"
#include "core/strided_map.h"

namespace fishermask::cuda {

// n / divisor for n < 2^31, after T. Granlund and P. Montgomery, "Division by invariant integers
// using multiplication", 1994, figure 4.1.
struct Divider {
  std::uint32_t divisor = 1;
  std::uint32_t multiplier = 1;
  std::uint32_t shift = 0;

  Divider() = default;
  explicit Divider(std::uint32_t by) : divisor(by) {
    while ((std::uint64_t{1} << shift) < by) ++shift;
    const std::uint64_t one = std::uint64_t{1} << 32U;
    multiplier = static_cast<std::uint32_t>(one * ((std::uint64_t{1} << shift) - by) / by + 1);
  }
  [[nodiscard]] __device__ __forceinline__ std::uint32_t quotient(std::uint32_t n) const {
    return (__umulhi(n, multiplier) + n) >> shift;
  }
};

template <int kLanes>
struct WalkAxis {
  std::int64_t size = 1;
  std::int64_t stride[kLanes] = {};
  Divider divider;
};

inline constexpr int kMostWalkAxes = 10;

template <int kLanes>
struct Walk {
  int rank = 0;
  bool small = true;  // fewer than 2^31 positions
  std::int64_t count = 1;
  WalkAxis<kLanes> axes[kMostWalkAxes];

  // Adds an axis inside those that are there. Errors: INTERNAL where there are too many.
  void add(std::int64_t size, const std::array<std::int64_t, kLanes>& strides) {
    if (size == 1) return;
    FM_CHECK(rank < kMostWalkAxes, INTERNAL, "more than ", kMostWalkAxes, " axes in a walk");
    WalkAxis<kLanes>& axis = axes[rank++];
    axis.size = size;
    for (int lane = 0; lane < kLanes; ++lane) {
      axis.stride[lane] = strides[static_cast<std::size_t>(lane)];
    }
    count *= size;
    small = count < (std::int64_t{1} << 31U);
    if (small && size > 0) axis.divider = Divider(static_cast<std::uint32_t>(size));
  }
};

// offset[lane] += how far the lane has moved at position `flat` (the last axis runs fastest).
template <int kLanes>
__device__ __forceinline__ void add_offsets(const Walk<kLanes>& walk, std::int64_t flat,
                                            std::int64_t (&offset)[kLanes]) {
  if (walk.small) {
    auto rest = static_cast<std::uint32_t>(flat);
    for (int d = walk.rank - 1; d > 0; --d) {
      const std::uint32_t quotient = walk.axes[d].divider.quotient(rest);
      const std::uint32_t index = rest - quotient * walk.axes[d].divider.divisor;
      rest = quotient;
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) {
        offset[lane] += static_cast<std::int64_t>(index) * walk.axes[d].stride[lane];
      }
    }
    flat = rest;
  } else {
    for (int d = walk.rank - 1; d > 0; --d) {
      const std::int64_t quotient = flat / walk.axes[d].size;
      const std::int64_t index = flat - quotient * walk.axes[d].size;
      flat = quotient;
#pragma unroll
      for (int lane = 0; lane < kLanes; ++lane) offset[lane] += index * walk.axes[d].stride[lane];
    }
  }
  if (walk.rank > 0) {
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) offset[lane] += flat * walk.axes[0].stride[lane];
  }
}

// Writes, or adds, `batch` samples; the rest of `to` stays as it is. 4-byte elements (f32; others
// are moved alone).
void copy_strided(cudaStream_t stream, const StridedMap& map, std::int64_t batch, const float* from,
                  float* to, bool add);
// Whether a walk can hold the map: at least 9 sizes, more where some lie together.
[[nodiscard]] bool is_walkable(const StridedMap& map);

// The memory of a view of 4-byte elements, to be moved and not computed with.
[[nodiscard]] float* words_of(const TensorView& view);

// The kernel of a Move (binding/ops/move_kernel.h); null where the map is not walkable.
[[nodiscard]] std::unique_ptr<Kernel> make_move_kernel(Move move, const KernelContext& context);

}  // namespace fishermask::cuda
