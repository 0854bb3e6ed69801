// find_bucket: which of a block's buckets holds the item of a rank, and the rank inside it.
// Shapes:        kBlock threads; thread t brings buckets t · kPerThread and on. rank < their sum.
// Deterministic: yes, integers.
#pragma once

#include <cstdint>

#include "common/shared.cuh"
#include "mask/kernels.h"

namespace fishermask::cuda {

inline constexpr int kFindThreads = 1024;
inline constexpr int kFindScratch = 34;  // counters of shared memory

struct FoundBucket {
  int bucket = 0;
  Counter rank = 0;
};

__device__ __forceinline__ Counter sum_before_lane(Counter value) {
  Counter sum = value;
  for (unsigned delta = 1; delta < 32; delta *= 2) {
    const Counter other = __shfl_up_sync(kAllLanes, sum, delta);
    if (lane_of() >= static_cast<int>(delta)) sum += other;
  }
  return sum - value;
}

template <int kPerThread>
__device__ __forceinline__ FoundBucket find_bucket(const Counter (&own)[kPerThread], Counter rank,
                                                   SharedArray<Counter> scratch) {
  Counter sum = 0;
  for (const Counter count : own) sum += count;
  const Counter before_in_warp = sum_before_lane(sum);
  if (lane_of() == 31) scratch[warp_of()] = before_in_warp + sum;
  __syncthreads();
  if (warp_of() == 0) {
    const Counter total = scratch[lane_of()];
    __syncwarp();
    scratch[lane_of()] = sum_before_lane(total);
  }
  __syncthreads();
  const Counter before = scratch[warp_of()] + before_in_warp;
  if (before <= rank && rank < before + sum) {
    Counter left = rank - before;
    int bucket = 0;
    while (own[bucket] <= left) left -= own[bucket++];
    scratch[32] = static_cast<Counter>(static_cast<int>(threadIdx.x) * kPerThread + bucket);
    scratch[33] = left;
  }
  __syncthreads();
  const FoundBucket found{static_cast<int>(Counter(scratch[32])), scratch[33]};
  __syncthreads();  // before scratch is used again
  return found;
}

}  // namespace fishermask::cuda
