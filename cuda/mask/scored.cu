// The kernels of a masking that read its tensors, for every score program.
//   draw_sample: 32 neighbouring units per stratum (sample_plan.h), one warp each.
//   scan:        the one pass: scores every unit, writes a bit for what is masked for certain and
//                one for candidates, and stages the candidates' keys in shared memory. A strip then
//                reserves its part of the candidate buffer with one atomic: where it lies differs
//                from run to run, what it holds and every result does not.
//   count_keys:  a digit's histogram over the eligible keys, where the sample misled.
// Shapes:        strips.cuh. Workspace: kernels.h.
// Deterministic: results are; integer atomics alone.
// Bound by:      memory: each input once per pass. Not measured on a GPU.
#include <algorithm>
#include <array>

#include "common/launch.cuh"
#include "mask/kernels.h"
#include "mask/sample_plan.h"

namespace fishermask::cuda {
namespace {

static_assert(kUnitStripWords * 32 + kMeanScratch <= kStripWords * 32,
              "the tile of means lies behind the staged keys of such a strip");

__device__ __forceinline__ Counter sum_of_lanes(Counter value) {
  for (int delta = 16; delta > 0; delta /= 2) value += __shfl_xor_sync(kAllLanes, value, delta);
  return value;
}

template <typename Score>
__global__ void __launch_bounds__(kThreads, 1)
    draw_sample_kernel(const ScoreArguments arguments, const MaskWorkspace workspace, int strata) {
  FM_SHARED(std::uint32_t, scratch, kWarps* kMeanScratch);
  const int lane = lane_of();
  const int stratum = static_cast<int>(first_strip_of_warp());
  if (stratum >= strata) return;
  const std::int64_t word =
      sampled_word(workspace.words, strata, stratum,
                   philox_word_at(kJitter, static_cast<std::uint64_t>(stratum)));
  const MaskTensor tensor = workspace.table.tensors[tensor_at(
      workspace.table, word, [](const MaskTensor& one) { return one.first_word; })];
  const Strip strip = strip_from(tensor, word - tensor.first_word, 1);
  score_strip<Score, false>(arguments, tensor, strip, scratch.from(warp_of() * kMeanScratch),
                            [&](int /*row*/, float score) {
                              // Ascending in the order of the ranking; units that are not there
                              // come last.
                              const int ordinal = stratum * 32 + lane;
                              const std::uint64_t place = std::uint64_t{~score_key(score)} << 16U |
                                                          static_cast<std::uint64_t>(ordinal);
                              workspace.sample[ordinal] =
                                  lane < strip.units ? place : ~std::uint64_t{0};
                            });
}

// What one warp has seen.
struct WarpCounts {
  Counter eligible = 0;  // by this lane
  Counter certain = 0;   // by the warp
};

template <typename Score, bool kSingles>
__device__ __forceinline__ void scan_strip(const ScoreArguments& arguments,
                                           const MaskWorkspace& workspace, std::int64_t number,
                                           const MaskMarks& marks, bool collect,
                                           SharedArray<std::uint32_t> staged, WarpCounts& counts) {
  const int lane = lane_of();
  const unsigned before_lane = (1U << lane) - 1U;
  const int tensor_index = tensor_of_strip(workspace.table, number);
  const MaskTensor tensor = workspace.table.tensors[tensor_index];
  const Strip strip = strip_of(tensor, number);
  const float high = marks.high.score_at(strip.first_word * 32);
  const float low = marks.low.score_at(strip.first_word * 32);
  unsigned own_certain = 0;  // of the word of row `lane`
  unsigned own_inside = 0;
  unsigned inside_count = 0;
  unsigned nan_count = 0;
  unsigned eligible = 0;
  score_strip<Score, kSingles>(
      arguments, tensor, strip, staged.from(kUnitStripWords * 32), [&](int row, float score) {
        nan_count += score != score ? 1 : 0;
        eligible += score >= kLowestScore ? 1 : 0;
        const bool is_certain = score >= high;
        const bool is_inside = score >= low && !is_certain;
        const unsigned certain = __ballot_sync(kAllLanes, is_certain);
        const unsigned inside = __ballot_sync(kAllLanes, is_inside);
        if (lane == row) {
          own_certain = certain;
          own_inside = inside;
        }
        if (collect && is_inside) {
          const auto at = inside_count + static_cast<unsigned>(__popc(inside & before_lane));
          staged[static_cast<int>(at)] = score_key(score);
        }
        inside_count += static_cast<unsigned>(__popc(inside));
        counts.certain += static_cast<unsigned>(__popc(certain));
      });
  counts.eligible += eligible;
  if (lane < strip.words) {
    workspace.keep[strip.first_word + lane] = own_certain;
    workspace.inside[strip.first_word + lane] = own_inside;
  }
  if (__any_sync(kAllLanes, nan_count != 0)) {
    const Counter nans = sum_of_lanes(nan_count);
    if (lane == 0) {
      atomicAdd(&workspace.counts[tensor_index].nan_count, nans);
      atomicAdd(&workspace.state->nan_count, nans);
    }
  }
  Counter first = 0;
  if (lane == 0) {
    if (inside_count > 0) first = atomicAdd(&workspace.state->inside, Counter{inside_count});
    workspace.strip_count[number] = inside_count;
    workspace.strip_first[number] = static_cast<std::uint32_t>(first);
  }
  first = __shfl_sync(kAllLanes, first, 0);
  // Beyond the capacity nothing is remembered: judge_candidates sees it in state->inside.
  if (collect && first + inside_count <= static_cast<Counter>(workspace.capacity)) {
    for (unsigned i = static_cast<unsigned>(lane); i < inside_count; i += 32) {
      workspace.candidates[first + i] = staged[static_cast<int>(i)];
    }
  }
  __syncwarp();  // before the next strip is staged
}

template <typename Score, bool kSingles>
__global__ void __launch_bounds__(kThreads, 1)
    scan_kernel(const ScoreArguments arguments, const MaskWorkspace workspace, bool collect) {
  FM_SHARED(std::uint32_t, staged, kWarps* kStripWords * 32);
  const MaskMarks marks = workspace.state->marks;
  WarpCounts counts;
  for (std::int64_t strip = first_strip_of_warp(); strip < workspace.table.strips;
       strip += strip_step()) {
    scan_strip<Score, kSingles>(arguments, workspace, strip, marks, collect,
                                staged.from(warp_of() * kStripWords * 32), counts);
  }
  const Counter eligible = sum_of_lanes(counts.eligible);
  if (lane_of() == 0) {
    if (eligible > 0) atomicAdd(&workspace.state->eligible, eligible);
    if (counts.certain > 0) atomicAdd(&workspace.state->certain, counts.certain);
  }
}

// counts[bucket] += 1 for the lanes with `counted`. Scores that are all alike would queue up at one
// bucket: one lane counts for them.
__device__ __forceinline__ void count_bucket(SharedArray<std::uint32_t> counts, int bucket,
                                             bool counted) {
  const unsigned lanes = __ballot_sync(kAllLanes, counted);
  if (lanes == 0) return;
  const int leader = __ffs(static_cast<int>(lanes)) - 1;
  const int first = __shfl_sync(kAllLanes, bucket, leader);
  if (__all_sync(kAllLanes, !counted || bucket == first)) {
    if (lane_of() == leader) {
      atomic_add(counts, bucket, static_cast<std::uint32_t>(__popc(lanes)));
    }
  } else if (counted) {
    atomic_add(counts, bucket, std::uint32_t{1});
  }
}

template <typename Score>
__global__ void __launch_bounds__(kThreads, 1)
    count_keys_kernel(const ScoreArguments arguments, const MaskWorkspace workspace,
                      const KeyDigit digit) {
  FM_SHARED(std::uint32_t, counts, kDigitBuckets);
  FM_SHARED(std::uint32_t, scratch, kWarps* kMeanScratch);
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < kDigitBuckets; i += kThreads) counts[i] = 0;
  __syncthreads();
  const std::uint32_t prefix = workspace.state->prefix;
  for (std::int64_t number = first_strip_of_warp(); number < workspace.table.strips;
       number += strip_step()) {
    const MaskTensor tensor = workspace.table.tensors[tensor_of_strip(workspace.table, number)];
    score_strip<Score, false>(
        arguments, tensor, strip_of(tensor, number), scratch.from(warp_of() * kMeanScratch),
        [&](int /*row*/, float score) {
          const std::uint32_t inverted = ~score_key(score);
          count_bucket(counts, digit_of(inverted, digit),
                       score >= kLowestScore && has_prefix(inverted, digit, prefix));
        });
  }
  __syncthreads();
  for (int i = thread; i < kDigitBuckets; i += kThreads) {
    const std::uint32_t count = counts[i];
    if (count > 0) atomicAdd(workspace.histogram + i, Counter{count});
  }
}

template <typename Score>
struct Launchers {
  static void draw_sample(cudaStream_t stream, const ScoreArguments& arguments,
                          const MaskWorkspace& workspace, int strata) {
    launch("mask_draw_sample", stream, over_strips(strata), draw_sample_kernel<Score>, arguments,
           workspace, strata);
  }
  static void scan(cudaStream_t stream, const ScoreArguments& arguments,
                   const MaskWorkspace& workspace, bool collect) {
    launch("mask_scan", stream, over_strips(workspace.table.strips),
           workspace.table.singles ? scan_kernel<Score, true> : scan_kernel<Score, false>,
           arguments, workspace, collect);
  }
  static void count_keys(cudaStream_t stream, const ScoreArguments& arguments,
                         const MaskWorkspace& workspace, KeyDigit digit, int processors) {
    // Fewer blocks, since each adds a whole histogram in the end.
    LaunchShape shape = over_strips(workspace.table.strips);
    shape.grid.x = std::min(shape.grid.x, static_cast<unsigned>(processors) * 8U);
    launch("mask_count_keys", stream, shape, count_keys_kernel<Score>, arguments, workspace, digit);
  }
  static ScoredKernels all(bool fused) { return {draw_sample, scan, count_keys, fused}; }
};

template <ScoreOp... kOps>
bool has_ops(const std::vector<ScoreInstruction>& program) {
  constexpr std::array ops = {kOps...};
  return std::equal(program.begin(), program.end(), ops.begin(), ops.end(),
                    [](const ScoreInstruction& a, ScoreOp b) { return a.op == b; });
}

}  // namespace

LaunchShape over_strips(std::int64_t strips) {
  const std::int64_t blocks =
      std::clamp<std::int64_t>((strips + kWarps - 1) / kWarps, 1, kMostBlocks);
  return {dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0};
}

ScoredKernels scored_kernels(const std::vector<ScoreInstruction>& program) {
  using enum ScoreOp;
#define FM_FUSED_CRITERION(constant, name, ...) \
  if (has_ops<__VA_ARGS__>(program)) return Launchers<FusedScore<__VA_ARGS__>>::all(true);
#include "core/fused_criteria.def"
#undef FM_FUSED_CRITERION
  return Launchers<InterpretedScore>::all(false);
}

}  // namespace fishermask::cuda
