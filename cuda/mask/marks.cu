// place_marks: the two marks that the last masked unit lies between almost surely, from a sample.
// Math:          as binding/mask/top_k_sample.h: order statistics at rank ± (6 σ + 8) of the
//                sample; σ from the counts per stratum (a stratum's units are neighbours and so
//                correlated), but never below the binomial one. A mark misses at most 1 masking in
//                5e8; a miss costs passes (top_k.cu), never a result.
// Source:        Floyd and Rivest 1975, CACM 18 (bracketing by order statistics of a sample).
// Shapes:        sample (strata · 32,) of 48 bits: ~key, then the ordinal; all ones: no unit.
// Deterministic: yes. One block; 8 histograms over at most 32768 values in L2.
#include <algorithm>

#include "common/launch.cuh"
#include "mask/find.cuh"
#include "mask/kernels.h"
#include "mask/sample_plan.h"

namespace fishermask::cuda {
namespace {

constexpr int kDigitBits = 12;  // four of them
constexpr int kBuckets = 1 << kDigitBits;
constexpr int kPerThread = kBuckets / kFindThreads;
constexpr double kSigmas = 6.0;
constexpr double kSlack = 8.0;  // for counts too small to be normal

struct Pair {
  std::uint64_t first = 0, second = 0;
};

// The values of two ranks. bins: 2 · kBuckets.
__device__ __forceinline__ Pair values_at(const std::uint64_t* sample, int count,
                                          Counter first_rank, Counter second_rank,
                                          SharedArray<std::uint32_t> bins,
                                          SharedArray<Counter> scratch) {
  const int thread = static_cast<int>(threadIdx.x);
  Pair found;
  for (int shift = 3 * kDigitBits; shift >= 0; shift -= kDigitBits) {
    for (int i = thread; i < 2 * kBuckets; i += kFindThreads) bins[i] = 0;
    __syncthreads();
    for (int i = thread; i < count; i += kFindThreads) {
      const std::uint64_t value = sample[i];
      const std::uint64_t prefix = value >> (shift + kDigitBits);
      const int digit = static_cast<int>(value >> shift & (kBuckets - 1));
      if (prefix == found.first) atomic_add(bins, digit, std::uint32_t{1});
      if (prefix == found.second) atomic_add(bins, kBuckets + digit, std::uint32_t{1});
    }
    __syncthreads();
    Counter first[kPerThread];
    Counter second[kPerThread];
    for (int i = 0; i < kPerThread; ++i) {
      first[i] = std::uint32_t(bins[thread * kPerThread + i]);
      second[i] = std::uint32_t(bins[kBuckets + thread * kPerThread + i]);
    }
    const FoundBucket a = find_bucket(first, first_rank, scratch);
    const FoundBucket b = find_bucket(second, second_rank, scratch);
    first_rank = a.rank;
    second_rank = b.rank;
    found.first = found.first << kDigitBits | static_cast<std::uint64_t>(a.bucket);
    found.second = found.second << kDigitBits | static_cast<std::uint64_t>(b.bucket);
  }
  return found;
}

__device__ __forceinline__ MaskMark mark_of(std::uint64_t value, std::int64_t words, int strata) {
  const int ordinal = static_cast<int>(value & 0xFFFFU);
  const std::int64_t word =
      sampled_word(words, strata, ordinal / 32,
                   philox_word_at(kJitter, static_cast<std::uint64_t>(ordinal / 32)));
  return {~static_cast<std::uint32_t>(value >> 16U), word * 32 + ordinal % 32};
}

enum Count { kValid, kEligible, kSquares, kBefore, kCountsEnd };

__global__ void __launch_bounds__(kFindThreads, 1)
    place_marks_kernel(const MaskWorkspace workspace, int strata, double share) {
  FM_SHARED(std::uint32_t, bins, 2 * kBuckets);
  FM_SHARED(Counter, scratch, kFindScratch);
  FM_SHARED(int, counts, kCountsEnd);
  const std::uint64_t* const sample = workspace.sample;
  const int thread = static_cast<int>(threadIdx.x);
  const int count = strata * 32;  // whole warps
  if (thread < kCountsEnd) counts[thread] = 0;
  __syncthreads();
  for (int i = thread; i < count; i += kFindThreads) {
    const std::uint64_t value = sample[i];
    const bool valid = value != ~std::uint64_t{0};
    const bool eligible = valid && ~static_cast<std::uint32_t>(value >> 16U) > kNotEligibleKey;
    const unsigned valid_lanes = __ballot_sync(kAllLanes, valid);
    const unsigned eligible_lanes = __ballot_sync(kAllLanes, eligible);
    if (lane_of() == 0) {
      atomic_add(counts, static_cast<int>(kValid), __popc(valid_lanes));
      atomic_add(counts, static_cast<int>(kEligible), __popc(eligible_lanes));
    }
  }
  __syncthreads();
  const double size = int(counts[kValid]);
  const double eligible = int(counts[kEligible]);
  const double rank = fmin(share * size, eligible);
  const auto pivot_rank = static_cast<Counter>(fmin(rank, size - 1.0));
  const std::uint64_t pivot = values_at(sample, count, pivot_rank, pivot_rank, bins, scratch).first;
  for (int i = thread; i < count; i += kFindThreads) {
    const int before = __popc(__ballot_sync(kAllLanes, sample[i] < pivot));
    if (lane_of() == 0) {
      atomic_add(counts, static_cast<int>(kSquares), before * before);
      atomic_add(counts, static_cast<int>(kBefore), before);
    }
  }
  __syncthreads();
  const double squares = int(counts[kSquares]);
  const double total = int(counts[kBefore]);
  const double spread = sqrt(fmax(squares - total * total / strata, rank * (1.0 - rank / size)));
  const double margin = kSigmas * spread + kSlack;
  const double low_rank = rank + margin;
  const double high_rank = rank - margin;
  const Pair found =
      values_at(sample, count, static_cast<Counter>(fmax(fmin(high_rank, size - 1.0), 0.0)),
                static_cast<Counter>(fmin(low_rank, size - 1.0)), bins, scratch);
  if (thread != 0) return;
  MaskMarks marks;
  if (high_rank >= 0.0) marks.high = mark_of(found.first, workspace.words, strata);
  if (low_rank < eligible) marks.low = mark_of(found.second, workspace.words, strata);
  workspace.state->marks = marks;
}

}  // namespace

void place_marks(cudaStream_t stream, const MaskWorkspace& workspace, int strata, double share) {
  launch("mask_place_marks", stream, {dim3(1), dim3(kFindThreads), 0}, place_marks_kernel,
         workspace, strata, share);
}

}  // namespace fishermask::cuda
