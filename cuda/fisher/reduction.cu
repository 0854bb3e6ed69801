// Squares of per-sample gradients in reduction form (reduction.h), in two steps:
//   reduce_positions  a block sums a share of one sample's positions, for up to kThreads channels;
//                     with fewer channels, threads side by side take several positions, so that
//                     memory is read in runs whatever C is;
//   square_samples    adds a sample's shares up, squares, and adds over the samples.
// Few positions (kFewPositions) go into the second step directly.
// Bound by memory: δ (and the input) are read once. Deterministic: every sum has one fixed order.
#include <algorithm>

#include "common/launch.cuh"
#include "common/shared.cuh"
#include "fisher/reduction.h"

namespace fishermask::cuda {
namespace {

// Not measured on a GPU.
struct Policy {
  static constexpr int kThreads = 256;
  static constexpr int kRun = 64;  // positions of one thread per f32 sum
  static constexpr int kFewPositions = 4;
  static constexpr std::int64_t kBlocksPerProcessor = 16;
  static constexpr std::int64_t kLeastPositions = 16;  // of a thread, before a sample is shared out
  static constexpr int kSquareLanes = 32, kSquareRanks = 8;
};

// With and without the weighing by the normalised input, as wanted.
struct Gradients {
  double weighted = 0.0, plain = 0.0;
};

// The positions of a sample cut into `shares` of `share_positions`.
struct Shares {
  std::int64_t shares = 1, share_positions = 1;
  std::int64_t channel_tiles = 1;
  double* weighted = nullptr;  // (N, shares, C); null: not wanted
  double* plain = nullptr;
};

template <bool kWeighted, bool kPlain>
__global__ void __launch_bounds__(Policy::kThreads)
    reduce_positions(const ReductionForm form, const Shares work) {
  FM_SHARED(double, weighted_lanes, kWeighted ? Policy::kThreads : 1);
  FM_SHARED(double, plain_lanes, kPlain ? Policy::kThreads : 1);
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t tile = blockIdx.x % work.channel_tiles;
  const std::int64_t share = blockIdx.x / work.channel_tiles % work.shares;
  const std::int64_t n = blockIdx.x / work.channel_tiles / work.shares;
  const std::int64_t first_channel = tile * Policy::kThreads;
  const std::int64_t channels_left = form.channels - first_channel;
  const int width =
      static_cast<int>(channels_left < Policy::kThreads ? channels_left : Policy::kThreads);
  const int lanes = Policy::kThreads / width;
  const int lane = thread / width;
  const std::int64_t c = first_channel + thread % width;
  const std::int64_t begin = share * work.share_positions;
  const std::int64_t share_end = begin + work.share_positions;
  const std::int64_t end = share_end < form.positions ? share_end : form.positions;

  Gradients total;
  if (lane < lanes) {
    const float mean = kWeighted ? form.mean[c] : 0.0F;
    const std::int64_t sample = n * form.positions;
    std::int64_t p = begin + lane;
    while (p < end) {
      float weighted = 0.0F;
      float plain = 0.0F;
#pragma unroll 4
      for (int run = 0; run < Policy::kRun; ++run, p += lanes) {
        if (p >= end) break;
        const std::int64_t at = (sample + p) * form.channels + c;
        const float grad = form.grad_output[at];
        if (kPlain) plain += grad;
        if (kWeighted) weighted = fmaf(grad, form.input[at] - mean, weighted);
      }
      total.plain += static_cast<double>(plain);
      total.weighted += static_cast<double>(weighted);
    }
  }
  if (kWeighted) weighted_lanes[thread] = total.weighted;
  if (kPlain) plain_lanes[thread] = total.plain;
  __syncthreads();
  if (thread >= width) return;
  Gradients sum;
  for (int other = 0; other < lanes; ++other) {
    if (kWeighted) sum.weighted += weighted_lanes[other * width + thread];
    if (kPlain) sum.plain += plain_lanes[other * width + thread];
  }
  const std::int64_t to = (n * work.shares + share) * form.channels + c;
  if (kWeighted) work.weighted[to] = sum.weighted * static_cast<double>(form.inv_std[c]);
  if (kPlain) work.plain[to] = sum.plain;
}

// G_n[c] from the shares of reduce_positions.
template <bool kWeighted, bool kPlain>
struct FromShares {
  Shares work;
  std::int64_t channels;
  __device__ __forceinline__ Gradients operator()(std::int64_t n, std::int64_t c) const {
    Gradients sum;
    for (std::int64_t share = 0; share < work.shares; ++share) {
      const std::int64_t at = (n * work.shares + share) * channels + c;
      if (kWeighted) sum.weighted += work.weighted[at];
      if (kPlain) sum.plain += work.plain[at];
    }
    return sum;
  }
};

// G_n[c] from the operands.
template <bool kWeighted, bool kPlain>
struct FromPositions {
  ReductionForm form;
  __device__ __forceinline__ Gradients operator()(std::int64_t n, std::int64_t c) const {
    Gradients sum;
    for (std::int64_t p = 0; p < form.positions; ++p) {
      const std::int64_t at = (n * form.positions + p) * form.channels + c;
      const auto grad = static_cast<double>(form.grad_output[at]);
      if (kPlain) sum.plain += grad;
      if (kWeighted) sum.weighted += grad * static_cast<double>(form.input[at] - form.mean[c]);
    }
    if (kWeighted) sum.weighted *= static_cast<double>(form.inv_std[c]);
    return sum;
  }
};

template <typename Source, bool kWeighted, bool kPlain>
__global__ void __launch_bounds__(Policy::kSquareLanes* Policy::kSquareRanks)
    square_samples(const Source source, std::int64_t batch, std::int64_t channels,
                   double* weighted_sums, double* plain_sums) {
  constexpr int kLanes = Policy::kSquareLanes, kRanks = Policy::kSquareRanks;
  FM_SHARED(double, weighted_ranks, kWeighted ? kLanes* kRanks : 1);
  FM_SHARED(double, plain_ranks, kPlain ? kLanes* kRanks : 1);
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * kLanes + thread % kLanes;
  Gradients sum;
  for (std::int64_t n = thread / kLanes; n < batch && c < channels; n += kRanks) {
    const Gradients gradient = source(n, c);
    sum.weighted += gradient.weighted * gradient.weighted;
    sum.plain += gradient.plain * gradient.plain;
  }
  if (kWeighted) weighted_ranks[thread] = sum.weighted;
  if (kPlain) plain_ranks[thread] = sum.plain;
  __syncthreads();
  if (thread >= kLanes || c >= channels) return;
  Gradients total;
  for (int rank = 0; rank < kRanks; ++rank) {
    if (kWeighted) total.weighted += weighted_ranks[rank * kLanes + thread];
    if (kPlain) total.plain += plain_ranks[rank * kLanes + thread];
  }
  if (kWeighted) weighted_sums[c] += total.weighted;
  if (kPlain) plain_sums[c] += total.plain;
}

unsigned grid_of(std::int64_t blocks) {
  FM_CHECK(blocks < std::int64_t{1} << 31U, UNSUPPORTED, "squares of a reduction in ", blocks,
           " blocks are beyond the CUDA backend");
  return static_cast<unsigned>(blocks);
}

template <bool kWeighted, bool kPlain, typename Source>
void square(Backend& backend, const ReductionForm& form, const Source& source, double* weighted,
            double* plain) {
  constexpr int kThreads = Policy::kSquareLanes * Policy::kSquareRanks;
  const std::int64_t blocks = (form.channels + Policy::kSquareLanes - 1) / Policy::kSquareLanes;
  launch("square_samples", backend.stream(), {dim3(grid_of(blocks)), dim3(kThreads)},
         square_samples<Source, kWeighted, kPlain>, source, form.batch, form.channels, weighted,
         plain);
}

Shares share_out(const Backend& backend, const ReductionForm& form) {
  Shares work;
  work.channel_tiles = (form.channels + Policy::kThreads - 1) / Policy::kThreads;
  const std::int64_t lanes =
      Policy::kThreads / std::min<std::int64_t>(form.channels, Policy::kThreads);
  const std::int64_t wanted = Policy::kBlocksPerProcessor * backend.device_info().processors;
  const std::int64_t most =
      std::max<std::int64_t>(form.positions / (lanes * Policy::kLeastPositions), 1);
  const std::int64_t shares =
      std::clamp<std::int64_t>(wanted / (form.batch * work.channel_tiles), 1, most);
  work.share_positions = (form.positions + shares - 1) / shares;
  work.shares = (form.positions + work.share_positions - 1) / work.share_positions;
  return work;
}

template <bool kWeighted, bool kPlain>
void accumulate(Backend& backend, const ReductionForm& form, double* weighted, double* plain) {
  if (form.batch == 0 || form.positions == 0 || form.channels == 0) return;
  if (form.positions <= Policy::kFewPositions) {
    square<kWeighted, kPlain>(backend, form, FromPositions<kWeighted, kPlain>{form}, weighted,
                              plain);
    return;
  }
  Shares work = share_out(backend, form);
  const std::int64_t count = form.batch * work.shares * form.channels;
  auto* const memory = reinterpret_cast<double*>(
      backend.scratch(2 * count * static_cast<std::int64_t>(sizeof(double))));
  if (kWeighted) work.weighted = memory;
  if (kPlain) work.plain = memory + count;
  launch("reduce_positions", backend.stream(),
         {dim3(grid_of(form.batch * work.shares * work.channel_tiles)), dim3(Policy::kThreads)},
         reduce_positions<kWeighted, kPlain>, form, work);
  square<kWeighted, kPlain>(backend, form, FromShares<kWeighted, kPlain>{work, form.channels},
                            weighted, plain);
}

}  // namespace

void accumulate_reduction(Backend& backend, const ReductionForm& form, double* sums) {
  if (form.input == nullptr) {
    accumulate<false, true>(backend, form, nullptr, sums);
  } else {
    accumulate<true, false>(backend, form, sums, nullptr);
  }
}

void accumulate_reduction_pair(Backend& backend, const ReductionForm& normalised,
                               double* scale_sums, double* shift_sums) {
  accumulate<true, true>(backend, normalised, scale_sums, shift_sums);
}

}  // namespace fishermask::cuda
