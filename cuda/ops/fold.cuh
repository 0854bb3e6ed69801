// Folds: a number of values for each of `kept` results, combined in a fixed order, so that results
// are deterministic and the same on every device. Gradients of repeated operands and reductions are
// folds. A fold is
//   struct F {
//     using State;                                             // up to 16 bytes
//     using Last;                                              // F, or a base without term()
//     static State identity();
//     static State combine(State a, State b);
//     State term(const std::int64_t (&offset)[4], std::int64_t result) const;
//     void finish(std::int64_t result, State state) const;     // writes
//   };
// where offset are the places of the walk's four lanes for one value of result `result`.
// Folds that share a Last share the kernel that combines slices.
// Shapes:     kept and repeated walks, core/broadcast.h; results lie one after the other.
// Workspace:  the backend's scratch, one State for every result and slice, where the values are cut
//             into slices for want of results to keep the device busy.
// Order:      thread r of a result's R threads takes values r, r + R, …; threads are combined as a
//             tree, slices after that. It depends on the sizes alone.
// Bound by memory.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/backend.h"
#include "common/launch.cuh"
#include "common/shared.cuh"
#include "core/broadcast.h"
#include "ops/strided_map.cuh"

namespace fishermask::cuda {

inline constexpr int kBroadcastLanes = static_cast<int>(kMostOperands) + 1;
static_assert(kBroadcastLanes == 4);
using BroadcastWalk = Walk<kBroadcastLanes>;

[[nodiscard]] inline BroadcastWalk walk_of(const BroadcastDims& dims) {
  BroadcastWalk walk;
  for (const BroadcastDim& dim : dims) walk.add(dim.size, dim.stride);
  return walk;
}

// Not measured on a GPU: blocks of 256 threads; up to kFewTerms values need no second thread; a
// warp across results reads whole lines where results lie side by side; slices are made until
// there are about kEnoughBlocks blocks, each thread keeping kLeastTerms values.
struct FoldTuning {
  static constexpr int kThreads = 256;
  static constexpr int kWarp = 32;
  static constexpr std::int64_t kFewTerms = 8;
  static constexpr std::int64_t kShortRun = 512;
  static constexpr std::int64_t kEnoughBlocks = 1024;
  static constexpr std::int64_t kLeastTerms = 16;
};

// A block's threads: `results` results with `rows` threads each.
struct FoldBlock {
  int results = FoldTuning::kThreads;
  int rows = 1;
  bool results_adjacent = true;  // neighbouring threads: other results; else other values
  std::int64_t kept = 1;
  std::int64_t terms = 1;
  std::int64_t slices = 1;
  std::int64_t slice_terms = 1;
};

// The block for `terms` values of each of `kept` results, and its slices.
[[nodiscard]] inline FoldBlock fold_block(std::int64_t kept, std::int64_t terms,
                                          bool results_adjacent) {
  using Tuning = FoldTuning;
  FoldBlock block;
  block.kept = kept;
  block.terms = terms;
  if (terms > Tuning::kFewTerms) {
    if (results_adjacent) {
      block.results = 1;
      while (block.results < Tuning::kWarp && block.results < kept) block.results *= 2;
    } else {
      block.results = terms > Tuning::kShortRun ? 1 : Tuning::kThreads / Tuning::kWarp;
    }
    block.results_adjacent = results_adjacent;
    block.rows = Tuning::kThreads / block.results;
  }
  const std::int64_t groups = (kept + block.results - 1) / block.results;
  const std::int64_t wanted = Tuning::kEnoughBlocks / groups;
  const std::int64_t possible = terms / (block.rows * Tuning::kLeastTerms);
  block.slices = std::max<std::int64_t>(std::min(wanted, possible), 1);
  block.slice_terms = (terms + block.slices - 1) / block.slices;
  block.slices = (terms + block.slice_terms - 1) / block.slice_terms;
  return block;
}

// Combines term(result, i) over a slice for the block's results, and hands them to store(result,
// state) in one thread each. All threads of the block call it.
template <typename Fold, typename Term, typename Store>
__device__ __forceinline__ void fold_slice(const FoldBlock& block, std::int64_t slice,
                                           const Term& term, const Store& store) {
  using State = typename Fold::State;
  FM_SHARED(State, states, FoldTuning::kThreads);
  const int thread = static_cast<int>(threadIdx.x);
  const int own = block.results_adjacent ? thread % block.results : thread / block.rows;
  const int row = block.results_adjacent ? thread / block.results : thread % block.rows;
  const std::int64_t begin = slice * block.slice_terms;
  const std::int64_t end =
      begin + block.slice_terms < block.terms ? begin + block.slice_terms : block.terms;
  const std::int64_t groups = (block.kept + block.results - 1) / block.results;
  for (std::int64_t group = blockIdx.x; group < groups; group += gridDim.x) {
    const std::int64_t result = group * block.results + own;
    State state = Fold::identity();
    if (result < block.kept) {
#pragma unroll 4
      for (std::int64_t i = begin + row; i < end; i += block.rows) {
        state = Fold::combine(state, term(result, i));
      }
    }
    if (block.rows > 1) {
      const int place = row * block.results + own;
      __syncthreads();  // the group before this one has been read
      states[place] = state;
      for (int half = block.rows / 2; half > 0; half /= 2) {
        __syncthreads();
        if (row < half) {
          state = Fold::combine(state, State(states[place + half * block.results]));
          states[place] = state;
        }
      }
    }
    if (row == 0 && result < block.kept) store(result, state);
  }
}

template <typename Fold>
__global__ void __launch_bounds__(FoldTuning::kThreads, 1)
    fold_terms(const __grid_constant__ Fold fold, const __grid_constant__ BroadcastWalk kept,
               const __grid_constant__ BroadcastWalk repeated, FoldBlock block,
               typename Fold::State* partials) {
  const std::int64_t slice = blockIdx.y;
  const auto term = [&](std::int64_t result, std::int64_t i) {
    std::int64_t offset[kBroadcastLanes] = {};
    add_offsets(kept, result, offset);
    add_offsets(repeated, i, offset);
    return fold.term(offset, result);
  };
  const auto store = [&](std::int64_t result, typename Fold::State state) {
    if (partials == nullptr) {
      fold.finish(result, state);
    } else {
      partials[slice * block.kept + result] = state;
    }
  };
  fold_slice<Fold>(block, slice, term, store);
}

// The slices of every result.
template <typename Last>
__global__ void __launch_bounds__(FoldTuning::kThreads, 1)
    fold_partials(const __grid_constant__ Last fold, FoldBlock block,
                  const typename Last::State* partials) {
  fold_slice<Last>(
      block, 0,
      [&](std::int64_t result, std::int64_t i) { return partials[i * block.kept + result]; },
      [&](std::int64_t result, typename Last::State state) { fold.finish(result, state); });
}

[[nodiscard]] inline LaunchShape fold_shape(const FoldBlock& block) {
  const std::int64_t groups = (block.kept + block.results - 1) / block.results;
  return {dim3(static_cast<unsigned>(std::min(groups, kMostBlocks)),
               static_cast<unsigned>(block.slices)),
          dim3(FoldTuning::kThreads), 0};
}

// A sum in f64 that is written, or added, in f32.
struct SumInto {
  using State = double;
  using Last = SumInto;
  float* to;
  bool add;

  __device__ __forceinline__ static double identity() { return 0.0; }
  __device__ __forceinline__ static double combine(double a, double b) { return a + b; }
  __device__ __forceinline__ void finish(std::int64_t result, double sum) const {
    to[result] = static_cast<float>(add ? static_cast<double>(to[result]) + sum : sum);
  }
};

// Folds over the dims along which `lane` is repeated. Takes the backend's scratch.
template <typename Fold>
void fold_lane(const char* name, const KernelContext& context, const Fold& fold,
               const BroadcastDims& dims, std::size_t lane) {
  using State = typename Fold::State;
  const SplitDims split = split_dims(dims, lane);
  const BroadcastWalk kept = walk_of(split.kept);
  const BroadcastWalk repeated = walk_of(split.repeated);
  FoldBlock block = fold_block(kept.count, repeated.count, dims.back().stride[lane] != 0);
  if (block.slices == 1) {
    launch(name, context.stream, fold_shape(block), fold_terms<Fold>, fold, kept, repeated, block,
           nullptr);
    return;
  }
  const std::int64_t states = block.slices * block.kept;
  auto* partials = reinterpret_cast<State*>(
      context.backend->scratch(states * static_cast<std::int64_t>(sizeof(State))));
  launch(name, context.stream, fold_shape(block), fold_terms<Fold>, fold, kept, repeated, block,
         partials);
  FoldBlock rest = fold_block(block.kept, block.slices, true);
  rest.slices = 1;
  rest.slice_terms = rest.terms;
  launch("fold_partials", context.stream, fold_shape(rest), fold_partials<typename Fold::Last>,
         static_cast<const typename Fold::Last&>(fold), rest, partials);
}

}  // namespace fishermask::cuda
