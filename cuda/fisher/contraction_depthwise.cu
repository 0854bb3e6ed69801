// Squares of per-sample gradients of depthwise convolutions, and of groups of few channels.
//
// What:       lanes run along the output channels, so that both operands are read in runs; a
//             thread keeps kTaps weights of its channel and walks over every kRanks-th position of
//             a sample; the ranks' sums meet in shared memory, are squared and added to f64
//             registers. Blocks share out channels, weights of a channel, and samples.
// Math:       G_n[o, j] = Σ_p δ[n, p, o] · a[n, p·stride − pad + tap(j)·dilation, channel(o, j)],
//             j = i · taps + tap: a channel's weights in the parameter's own order
// Accuracy:   f32 always, whatever the device's precision: there is no matrix product in this. A
//             sample's positions in f32, squares in f64.
// Workspace:  8 bytes per weight and share of the samples; one share: none.
// Bound by:   the first-level cache: a load for each product.
// Deterministic: yes.
#include <algorithm>

#include "common/launch.cuh"
#include "common/shared.cuh"
#include "fisher/contraction.h"
#include "fisher/contraction_problem.h"

namespace fishermask::cuda {
namespace {

// Not measured on a GPU: nine taps are a 3 × 3 kernel in one go, and 8 ranks of a warp each share
// 49 positions (7 × 7 images) with little waste.
struct Policy {
  static constexpr int kLanes = 32, kRanks = 8, kThreads = kLanes * kRanks;
  static constexpr int kTaps = 9;
  static constexpr int kBlocks = 2;            // of one processor at once
  static constexpr int kLeastPositions = 128;  // of a split
};

struct FewChannels {
  TileProblem form;
  int channel_tiles = 1, weight_runs = 1;
  FastDivide by_taps, by_group_out;
};

// One weight of a thread's channel.
struct Weight {
  int y = 0, x = 0;  // what is added to the position of tap (0, 0)
  int offset = 0;    // in elements, with the channel
};

__device__ __forceinline__ Weight weight_of(const FewChannels& problem, int o, int j) {
  const TileProblem& form = problem.form;
  const int i = problem.by_taps.quotient(j);
  const int tap = j - i * form.taps;
  const int tap_row = form.by_kernel_width.quotient(tap);
  Weight weight;
  weight.y = tap_row * form.dilation_height;
  weight.x = (tap - tap_row * form.kernel_width) * form.dilation_width;
  const int channel = problem.by_group_out.quotient(o) * form.group_in + i;
  weight.offset = (weight.y * form.in_width + weight.x) * form.in_channels + channel;
  return weight;
}

// sums[k] = Σ over the rank's positions of sample n.
__device__ __forceinline__ void walk_sample(const FewChannels& problem, std::int64_t n, int rank,
                                            int o, int count,
                                            const Weight (&weights)[Policy::kTaps],
                                            float (&sums)[Policy::kTaps]) {
  const TileProblem& form = problem.form;
#pragma unroll
  for (int k = 0; k < Policy::kTaps; ++k) sums[k] = 0.0F;
  const float* grad = form.grad_output + n * form.positions * form.out_channels + o;
  for (int p = rank; p < form.positions; p += Policy::kRanks) {
    const int out_y = form.by_out_width.quotient(p);
    const int y = out_y * form.stride_height - form.pad_top;
    const int x = (p - out_y * form.out_width) * form.stride_width - form.pad_left;
    const float* const input =
        form.input + ((n * form.in_height + y) * form.in_width + x) * form.in_channels;
    const float value = grad[static_cast<std::int64_t>(p) * form.out_channels];
#pragma unroll
    for (int k = 0; k < Policy::kTaps; ++k) {
      const bool inside =
          k < count &&
          static_cast<unsigned>(y + weights[k].y) < static_cast<unsigned>(form.in_height) &&
          static_cast<unsigned>(x + weights[k].x) < static_cast<unsigned>(form.in_width);
      if (inside) sums[k] = fmaf(value, input[weights[k].offset], sums[k]);
    }
  }
}

__global__ void __launch_bounds__(Policy::kThreads, Policy::kBlocks)
    contraction_few_channels(const FewChannels problem) {
  constexpr int kLanes = Policy::kLanes, kRanks = Policy::kRanks, kTaps = Policy::kTaps;
  constexpr int kItems = kTaps * kLanes;  // (tap, lane), each the total of one thread
  constexpr int kTotals = (kItems + Policy::kThreads - 1) / Policy::kThreads;
  FM_SHARED(float, ranks, 2 * kRanks * kItems);  // of this sample and of the last
  const TileProblem& form = problem.form;
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kLanes;
  const int rank = thread / kLanes;
  unsigned rest = blockIdx.x;
  const int first_o =
      static_cast<int>(rest % static_cast<unsigned>(problem.channel_tiles)) * kLanes;
  rest /= static_cast<unsigned>(problem.channel_tiles);
  const int first_j = static_cast<int>(rest % static_cast<unsigned>(problem.weight_runs)) * kTaps;
  const int split = static_cast<int>(rest / static_cast<unsigned>(problem.weight_runs));
  const int o = first_o + lane;
  const int left = form.columns - first_j;
  const int count = o < form.out_channels ? (left < kTaps ? left : kTaps) : 0;

  Weight weights[kTaps];
#pragma unroll
  for (int k = 0; k < kTaps; ++k) {
    if (k < count) weights[k] = weight_of(problem, o, first_j + k);
  }
  double totals[kTotals] = {};
  const std::int64_t first = split * form.samples_per_split;
  const std::int64_t end = first + form.samples_per_split;
  for (std::int64_t n = first; n < end && n < form.batch; ++n) {
    const SharedArray<float> mine = ranks.from(static_cast<int>(n % 2) * kRanks * kItems);
    float sums[kTaps];
    walk_sample(problem, n, rank, count > 0 ? o : 0, count, weights, sums);
#pragma unroll
    for (int k = 0; k < kTaps; ++k) mine[(k * kRanks + rank) * kLanes + lane] = sums[k];
    // One barrier a sample: whoever writes the other half next has passed it.
    __syncthreads();
#pragma unroll
    for (int u = 0; u < kTotals; ++u) {
      const int item = thread + u * Policy::kThreads;
      if (item >= kItems) break;
      float gradient = 0.0F;
#pragma unroll
      for (int r = 0; r < kRanks; ++r) {
        gradient += mine[(item / kLanes * kRanks + r) * kLanes + item % kLanes];
      }
      totals[u] += static_cast<double>(gradient) * static_cast<double>(gradient);
    }
  }

#pragma unroll
  for (int u = 0; u < kTotals; ++u) {
    const int item = thread + u * Policy::kThreads;
    const int j = first_j + item / kLanes;
    if (item >= kItems || j >= form.columns || o >= form.out_channels) break;
    const std::int64_t weight = static_cast<std::int64_t>(o) * form.columns + j;
    if (form.partial == nullptr) {
      form.sums[weight] += totals[u];
    } else {
      form.partial[static_cast<std::int64_t>(split) * form.out_channels * form.columns + weight] =
          totals[u];
    }
  }
}

__global__ void add_splits(const double* partial, int splits, std::int64_t count, double* sums) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    double sum = 0.0;
    for (int split = 0; split < splits; ++split) sum += partial[split * count + i];
    sums[i] += sum;
  }
}

}  // namespace

void accumulate_contraction_depthwise(Backend& backend, const ContractionForm& form, double* sums) {
  if (form.batch == 0) return;
  FewChannels problem;
  problem.form = describe_contraction(form, sums);
  TileProblem& described = problem.form;
  FM_CHECK((form.kernel_height * form.dilation_height + 1) * form.in_width * form.in_channels <
               std::int64_t{1} << 31U,
           UNSUPPORTED,
           "squares of a depthwise contraction with windows of 2^31 elements are "
           "beyond the CUDA backend");
  problem.channel_tiles = (described.out_channels + Policy::kLanes - 1) / Policy::kLanes;
  problem.weight_runs = (described.columns + Policy::kTaps - 1) / Policy::kTaps;
  problem.by_taps = FastDivide(described.taps);
  problem.by_group_out = FastDivide(described.group_out);
  const std::int64_t items = static_cast<std::int64_t>(problem.channel_tiles) * problem.weight_runs;
  const std::int64_t least = std::max(Policy::kLeastPositions / described.positions, 1);
  const std::int64_t wanted = count_splits(backend, items, Policy::kBlocks, form.batch, least);
  described.samples_per_split = (form.batch + wanted - 1) / wanted;
  described.splits = static_cast<int>((form.batch + described.samples_per_split - 1) /
                                      described.samples_per_split);
  const std::int64_t blocks = items * described.splits;
  FM_CHECK(blocks < std::int64_t{1} << 31U, UNSUPPORTED, "squares of a contraction in ", blocks,
           " blocks are beyond the CUDA backend");
  const std::int64_t weights =
      static_cast<std::int64_t>(described.out_channels) * described.columns;
  if (described.splits > 1) {
    described.partial = reinterpret_cast<double*>(
        backend.scratch(described.splits * weights * static_cast<std::int64_t>(sizeof(double))));
  }
  launch("contraction_few_channels", backend.stream(),
         {dim3(static_cast<unsigned>(blocks)), dim3(Policy::kThreads)}, contraction_few_channels,
         problem);
  if (described.splits > 1) {
    launch("add_splits", backend.stream(), over(weights), add_splits, described.partial,
           described.splits, weights, sums);
  }
}

}  // namespace fishermask::cuda
