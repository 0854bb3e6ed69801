// From candidates to the last masked unit: its key digit by digit, then its place among the units
// of equal key.
// Math:          radix selection: a histogram of a digit of ~key over the keys that begin with the
//                prefix known so far finds the bucket that holds the rank. Ties go by place: how
//                many each strip has says which strip holds the last.
// Shapes:        at most 1/8 of the units + 131072 candidates of 4 bytes, read four times.
// Deterministic: yes; integer counts, whatever order the candidates lie in.
// Bound by:      launches for few candidates, memory for many.
#include <algorithm>

#include "common/launch.cuh"
#include "mask/find.cuh"
#include "mask/kernels.h"

namespace fishermask::cuda {
namespace {

__global__ void judge_kernel(MaskState* state, std::int64_t capacity) {
  if (threadIdx.x != 0) return;
  const Counter masked = state->asked < state->eligible ? state->asked : state->eligible;
  state->masked = masked;
  if (state->nan_count > 0) return;
  if (masked == 0) {
    state->decided = state->certain == 0 ? 1 : 0;
    return;
  }
  if (state->certain >= masked || masked > state->certain + state->inside ||
      state->inside > static_cast<Counter>(capacity)) {
    return;
  }
  state->rank = masked - state->certain - 1;
  state->decided = 1;
  state->searching = 1;
}

__global__ void begin_exact_kernel(MaskState* state) {
  if (threadIdx.x != 0) return;
  state->decided = 1;
  state->searching = state->masked > 0 ? 1 : 0;
  state->rank = state->masked - 1;
  state->prefix = 0;
}

__global__ void mark_threshold_kernel(MaskState* state) {
  if (threadIdx.x != 0) return;
  state->eligible = 0;
  state->certain = 0;
  state->inside = 0;
  const std::uint32_t key = state->threshold;
  state->marks.low = {key, kEverywhere};
  state->marks.high = key == 0xFFFFFFFFU ? kBeforeAll : MaskMark{key + 1U, kEverywhere};
}

__global__ void __launch_bounds__(kThreads)
    count_candidates_kernel(const MaskWorkspace workspace, const KeyDigit digit) {
  FM_SHARED(std::uint32_t, counts, kDigitBuckets);
  if (workspace.state->searching == 0) return;
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < kDigitBuckets; i += kThreads) counts[i] = 0;
  __syncthreads();
  const auto candidates = static_cast<std::int64_t>(workspace.state->inside);
  const std::uint32_t prefix = workspace.state->prefix;
  for (std::int64_t i = first_item(); i < candidates; i += item_step()) {
    const std::uint32_t inverted = ~workspace.candidates[i];
    if (has_prefix(inverted, digit, prefix)) {
      atomic_add(counts, digit_of(inverted, digit), std::uint32_t{1});
    }
  }
  __syncthreads();
  for (int i = thread; i < kDigitBuckets; i += kThreads) {
    const std::uint32_t count = counts[i];
    if (count > 0) atomicAdd(workspace.histogram + i, Counter{count});
  }
}

constexpr int kPerThread = kDigitBuckets / kFindThreads;

__global__ void __launch_bounds__(kFindThreads, 1)
    take_digit_kernel(MaskState* state, Counter* histogram, const KeyDigit digit) {
  FM_SHARED(Counter, scratch, kFindScratch);
  if (state->searching == 0) return;
  const Counter rank = state->rank;
  Counter own[kPerThread];
  for (int i = 0; i < kPerThread; ++i) {
    Counter& count = histogram[static_cast<int>(threadIdx.x) * kPerThread + i];
    own[i] = count;
    count = 0;
  }
  const FoundBucket found = find_bucket(own, rank, scratch);
  if (threadIdx.x != 0) return;
  const std::uint32_t prefix =
      state->prefix << digit.bits | static_cast<std::uint32_t>(found.bucket);
  state->prefix = prefix;
  state->rank = found.rank;
  if (digit.shift == 0) state->threshold = ~prefix;
}

__global__ void __launch_bounds__(kThreads) count_ties_kernel(const MaskWorkspace workspace) {
  if (workspace.state->searching == 0) return;
  const std::uint32_t threshold = workspace.state->threshold;
  for (std::int64_t strip = first_strip_of_warp(); strip < workspace.table.strips;
       strip += strip_step()) {
    const std::uint32_t count = workspace.strip_count[strip];
    const std::uint32_t* const keys = workspace.candidates + workspace.strip_first[strip];
    int ties = 0;
    for (std::uint32_t first = 0; first < count; first += 32) {
      const std::uint32_t i = first + static_cast<std::uint32_t>(lane_of());
      ties += __popc(__ballot_sync(kAllLanes, i < count && keys[i] == threshold));
    }
    if (lane_of() == 0) workspace.strip_ties[strip] = static_cast<std::uint32_t>(ties);
  }
}

__global__ void __launch_bounds__(kFindThreads, 1)
    find_last_strip_kernel(MaskState* state, const std::uint32_t* strip_ties, std::int64_t strips) {
  FM_SHARED(Counter, scratch, kFindScratch);
  FM_SHARED(Counter, sums, kFindThreads);
  if (state->searching == 0) return;
  Counter rank = state->rank;
  std::int64_t begin = 0;
  std::int64_t end = strips;
  while (true) {
    // The range in kFindThreads parts; a warp sums every 32nd.
    const std::int64_t part = (end - begin + kFindThreads - 1) / kFindThreads;
    for (int p = warp_of(); p < kFindThreads; p += kFindThreads / 32) {
      Counter sum = 0;
      for (std::int64_t i = begin + p * part + lane_of(); i < begin + (p + 1) * part && i < end;
           i += 32) {
        sum += strip_ties[i];
      }
      for (int delta = 16; delta > 0; delta /= 2) sum += __shfl_xor_sync(kAllLanes, sum, delta);
      if (lane_of() == 0) sums[p] = sum;
    }
    __syncthreads();
    const Counter own[1] = {sums[static_cast<int>(threadIdx.x)]};
    const FoundBucket found = find_bucket(own, rank, scratch);
    rank = found.rank;
    begin += found.bucket * part;
    end = begin + part < end ? begin + part : end;
    if (part == 1) break;
  }
  if (threadIdx.x != 0) return;
  state->last_strip = static_cast<Counter>(begin);
  state->last_tie = rank;
}

}  // namespace

void judge_candidates(cudaStream_t stream, const MaskWorkspace& workspace) {
  launch("mask_judge", stream, {dim3(1), dim3(32), 0}, judge_kernel, workspace.state,
         workspace.capacity);
}

void begin_exact(cudaStream_t stream, const MaskWorkspace& workspace) {
  launch("mask_begin_exact", stream, {dim3(1), dim3(32), 0}, begin_exact_kernel, workspace.state);
}

void mark_threshold(cudaStream_t stream, const MaskWorkspace& workspace) {
  launch("mask_mark_threshold", stream, {dim3(1), dim3(32), 0}, mark_threshold_kernel,
         workspace.state);
}

void count_candidates(cudaStream_t stream, const MaskWorkspace& workspace, KeyDigit digit) {
  // How many there are only the device knows: 16 of the most per thread.
  LaunchShape shape = over((workspace.capacity + 15) / 16, kThreads);
  shape.grid.x = std::min(shape.grid.x, 1024U);
  launch("mask_count_candidates", stream, shape, count_candidates_kernel, workspace, digit);
}

void take_digit(cudaStream_t stream, const MaskWorkspace& workspace, KeyDigit digit) {
  launch("mask_take_digit", stream, {dim3(1), dim3(kFindThreads), 0}, take_digit_kernel,
         workspace.state, workspace.histogram, digit);
}

void count_ties(cudaStream_t stream, const MaskWorkspace& workspace) {
  launch("mask_count_ties", stream, over_strips(workspace.table.strips), count_ties_kernel,
         workspace);
}

void find_last_strip(cudaStream_t stream, const MaskWorkspace& workspace,
                     const std::uint32_t* strip_ties) {
  launch("mask_find_last_strip", stream, {dim3(1), dim3(kFindThreads), 0}, find_last_strip_kernel,
         workspace.state, strip_ties, workspace.table.strips);
}

}  // namespace fishermask::cuda
