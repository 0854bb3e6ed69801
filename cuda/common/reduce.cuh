// Reductions over a warp or a block, and teams: the threads that share a row.
// Deterministic: the order of every sum follows from the launch alone, and every thread of a team
// gets the same bits. All threads of a team must call; values travel by shuffles and through one
// word of shared memory a warp.
#pragma once

#include <cuda_runtime.h>

#include <climits>
#include <cmath>
#include <cstdint>
#include <utility>

#include "common/launch.cuh"
#include "common/shared.cuh"

namespace fishermask::cuda {

inline constexpr unsigned kAllLanes = 0xFFFFFFFFU;
inline constexpr int kWarpThreads = 32;

// --- what is reduced
// -----------------------------------------------------------------------------

// Two sums at once.
struct Pair {
  double first, second;
};
__device__ __forceinline__ Pair operator+(Pair a, Pair b) {
  return {a.first + b.first, a.second + b.second};
}

// A value and where it stands.
struct Located {
  float value;
  int index;
};

template <typename T>
__device__ __forceinline__ T shuffle_xor(T value, int bits) {
  return __shfl_xor_sync(kAllLanes, value, bits);
}
__device__ __forceinline__ Pair shuffle_xor(Pair value, int bits) {
  return {shuffle_xor(value.first, bits), shuffle_xor(value.second, bits)};
}
__device__ __forceinline__ Located shuffle_xor(Located value, int bits) {
  return {shuffle_xor(value.value, bits), shuffle_xor(value.index, bits)};
}

// The ways to join two values; none: what changes nothing. All commute, so that the lanes of a
// butterfly agree to the bit.
template <typename T>
struct Sum {
  static __device__ __forceinline__ T none() { return T{}; }
  static __device__ __forceinline__ T join(T a, T b) { return a + b; }
};
// NaN is never larger.
struct Most {
  static __device__ __forceinline__ float none() { return -HUGE_VALF; }
  static __device__ __forceinline__ float join(float a, float b) { return a < b ? b : a; }
};
// The first among equals. NaN must stay outside.
struct FirstMost {
  static __device__ __forceinline__ Located none() { return {-HUGE_VALF, INT_MAX}; }
  static __device__ __forceinline__ Located join(Located a, Located b) {
    return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a;
  }
};

// --- warps and blocks
// ----------------------------------------------------------------------------

template <typename Way, typename T>
__device__ __forceinline__ T warp_reduce(T value) {
#pragma unroll
  for (int bits = kWarpThreads / 2; bits > 0; bits /= 2) {
    value = Way::join(value, shuffle_xor(value, bits));
  }
  return value;
}

// Two barriers. Blocks of whole warps, one-dimensional.
template <typename Way, typename T>
__device__ __forceinline__ T block_reduce(T value) {
  FM_SHARED(T, parts, kWarpThreads);
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warps = static_cast<int>(blockDim.x) / kWarpThreads;
  value = warp_reduce<Way>(value);
  if (lane == 0) parts[static_cast<int>(threadIdx.x) / kWarpThreads] = value;
  __syncthreads();
  value = lane < warps ? static_cast<T>(parts[lane]) : Way::none();
  __syncthreads();  // the next reduction may write
  return warp_reduce<Way>(value);
}

// --- columns
// -------------------------------------------------------------------------------------

// A block for sums of columns: 32 columns by kRowLanes lanes, which share the rows.
inline constexpr int kRowLanes = 8;
inline constexpr int kColumnThreads = kRowLanes * kWarpThreads;

// The sum of the block's row lanes, in their order; valid in lane 0. Two barriers.
template <typename T>
__device__ __forceinline__ T sum_of_lanes(T value) {
  FM_SHARED(T, lanes, kRowLanes * kWarpThreads);
  const int column = static_cast<int>(threadIdx.x) % kWarpThreads;
  lanes[static_cast<int>(threadIdx.x)] = value;
  __syncthreads();
  T sum = T{};
  if (static_cast<int>(threadIdx.x) < kWarpThreads) {
    for (int lane = 0; lane < kRowLanes; ++lane) sum += lanes[lane * kWarpThreads + column];
  }
  __syncthreads();
  return sum;
}

// --- teams
// ---------------------------------------------------------------------------------------

enum class Team { kWarp, kBlock };

// Widths up to kWarpWidth are a warp's; rows of more than kBlockWidth take the largest blocks, so
// that few long rows (a vocabulary's logits) still keep the memory busy. Not measured on a GPU:
// 1024 leaves a lane 32 values, which hides the latency of a warp's loads.
struct TeamTuning {
  static constexpr std::int64_t kWarpWidth = 1024;
  static constexpr std::int64_t kBlockWidth = 8192;
  static constexpr int kThreads = 256;
  static constexpr int kMostThreads = 1024;
};

[[nodiscard]] inline Team team_for(std::int64_t width) {
  return width <= TeamTuning::kWarpWidth ? Team::kWarp : Team::kBlock;
}
[[nodiscard]] inline LaunchShape over_rows(std::int64_t rows, std::int64_t width) {
  const int threads =
      width > TeamTuning::kBlockWidth ? TeamTuning::kMostThreads : TeamTuning::kThreads;
  const std::int64_t rows_per_block =
      team_for(width) == Team::kWarp ? TeamTuning::kThreads / kWarpThreads : 1;
  const std::int64_t blocks =
      std::clamp<std::int64_t>((rows + rows_per_block - 1) / rows_per_block, 1, kMostBlocks);
  return {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads)), 0};
}

// for (row = first_row<kTeam>(); row < rows; row += row_step<kTeam>()): the same row for a team.
template <Team kTeam>
__device__ __forceinline__ std::int64_t first_row() {
  return kTeam == Team::kWarp ? first_item() / kWarpThreads : static_cast<std::int64_t>(blockIdx.x);
}
template <Team kTeam>
__device__ __forceinline__ std::int64_t row_step() {
  return kTeam == Team::kWarp ? item_step() / kWarpThreads : static_cast<std::int64_t>(gridDim.x);
}
// for (i = team_rank<kTeam>(); i < width; i += team_size<kTeam>()).
template <Team kTeam>
__device__ __forceinline__ int team_rank() {
  return static_cast<int>(kTeam == Team::kWarp ? threadIdx.x % kWarpThreads : threadIdx.x);
}
template <Team kTeam>
__device__ __forceinline__ int team_size() {
  return kTeam == Team::kWarp ? kWarpThreads : static_cast<int>(blockDim.x);
}
template <Team kTeam, typename Way, typename T>
__device__ __forceinline__ T team_reduce(T value) {
  if constexpr (kTeam == Team::kWarp) {
    return warp_reduce<Way>(value);
  } else {
    return block_reduce<Way>(value);
  }
}
template <Team kTeam, typename T>
__device__ __forceinline__ T team_sum(T value) {
  return team_reduce<kTeam, Sum<T>>(value);
}

// Launches the warps' or the blocks' version of a kernel over rows of `width`. Both are declared
// with __launch_bounds__(TeamTuning::kMostThreads, 1): the largest block has registers, and no
// second one a processor is bought by spilling them.
template <typename... Parameters, typename... Arguments>
void launch_rows(const char* name, cudaStream_t stream, std::int64_t rows, std::int64_t width,
                 void (*warps)(Parameters...), void (*blocks)(Parameters...),
                 Arguments&&... arguments) {
  launch(name, stream, over_rows(rows, width), team_for(width) == Team::kWarp ? warps : blocks,
         std::forward<Arguments>(arguments)...);
}

}  // namespace fishermask::cuda
