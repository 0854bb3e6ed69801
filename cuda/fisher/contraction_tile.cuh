// The implicit-GEMM kernel of contractions.
//
// What:       a block owns a tile of one group's weight matrix (output channels × (taps · input
//             channels)) and walks over its share of the samples. Of each sample the tile of
//             G_n = δ_nᵀ·im2col(a_n) grows in registers (K = positions), is squared and added to
//             f32 sums in registers, which go to f64 memory every kFlushSamples samples. No G_n
//             and no im2col is ever stored.
// Math:       rows o, columns j = tap · group_in + i:
//             G_n[o, j] = Σ_p δ[n, p, o] · a[n, p·stride − pad + tap·dilation, i], 0 outside
// Layout:     operands NHWC, so that runs of both rows and columns are contiguous.
//
//   positions of the samples, each padded to whole steps  (K)
//   … | n: p0 p1 p2 p3 … 0 0 | n+1: p0 …        stages of kDepth cut across samples
//        └ δ (kDepth × rows) and a (kDepth × columns) in shared memory, kStages of them in flight
//
// Where a row of a stage lies in memory is worked out by one thread per row, a stage ahead, and
// read by all from shared memory: index arithmetic would cost more than the products otherwise.
// For linear on vectors (kSquared) a "sample" is a run of samples and the operands are squared as
// they are read, so that the sums are Σ δ²·a² themselves.
// Bound by:   arithmetic where channels are many; else by reading δ and a once per tile.
// Deterministic: yes; splits are added in their order.
// Shared memory: kStages · kDepth · (kRows + kColumns + 16) floats.
#pragma once

#include <algorithm>

#include "common/launch.cuh"
#include "common/mma.cuh"
#include "common/shared.cuh"
#include "fisher/contraction_problem.h"
#include "fisher/contraction_products.cuh"
#include "fisher/contraction_stager.cuh"

namespace fishermask::cuda {

// Which tile and share of the samples a block has; its group.
__device__ __forceinline__ int tile_of(const TileProblem& problem, int* row_tile, int* column_tile,
                                       int* split) {
  const auto tiles = static_cast<unsigned>(problem.tiles());
  const unsigned tile = blockIdx.x % tiles;
  *split = static_cast<int>(blockIdx.x / tiles);
  *column_tile = static_cast<int>(tile % static_cast<unsigned>(problem.column_tiles));
  const unsigned rest = tile / static_cast<unsigned>(problem.column_tiles);
  *row_tile = static_cast<int>(rest % static_cast<unsigned>(problem.row_tiles));
  return static_cast<int>(rest / static_cast<unsigned>(problem.row_tiles));
}

// A thread's squares, summed over samples.
template <typename Tile, Precision kPrecision, bool kSquared>
struct SquareSums {
  using Share = Products<Tile, kPrecision, kSquared>;
  float squares[Share::kRowCount][Share::kColumnCount];

  __device__ __forceinline__ SquareSums() {
#pragma unroll
    for (int i = 0; i < Share::kRowCount; ++i) {
#pragma unroll
      for (int j = 0; j < Share::kColumnCount; ++j) squares[i][j] = 0.0F;
    }
  }

  // The end of a sample: its gradients are complete.
  __device__ __forceinline__ void take(Share& share) {
#pragma unroll
    for (int i = 0; i < Share::kRowCount; ++i) {
#pragma unroll
      for (int j = 0; j < Share::kColumnCount; ++j) {
        float& value = share.at(i, j);
        squares[i][j] = kSquared ? squares[i][j] + value : fmaf(value, value, squares[i][j]);
        value = 0.0F;
      }
    }
  }

  // To f64: the sums themselves, or this block's partial tile (which `first` writes). `place` is
  // read here, from shared memory, so that the compiler cannot work out all of a thread's addresses
  // ahead of the loop over the stages: they would cost it a hundred registers.
  __device__ __forceinline__ void flush(const TileProblem& problem, const Share& share,
                                        SharedArray<int> place, double* partial, bool first) {
    const int group = place[0];
    const int first_o = place[1];
    const int first_column = place[2];
#pragma unroll
    for (int j = 0; j < Share::kColumnCount; ++j) {
      const int column = share.column(j);
      const int at = first_column + column;
      const int tap = problem.by_group_in.quotient(at);
      const std::int64_t weight =
          static_cast<std::int64_t>(at - tap * problem.group_in) * problem.taps + tap;
#pragma unroll
      for (int i = 0; i < Share::kRowCount; ++i) {
        const int row = share.row(i);
        const auto value = static_cast<double>(squares[i][j]);
        squares[i][j] = 0.0F;
        if (partial != nullptr) {
          double* const to = partial + row * Tile::kColumns + column;
          *to = first ? value : *to + value;
        } else if (at < problem.columns && first_o + row < problem.group_out) {
          const std::int64_t o =
              static_cast<std::int64_t>(group) * problem.group_out + first_o + row;
          problem.sums[o * problem.columns + weight] += value;
        }
      }
    }
  }
};

template <typename Tile, Precision kPrecision, bool kSquared>
__global__ void __launch_bounds__(threads_of<Tile>(), Tile::kBlocks)
    contraction_tile(const TileProblem problem) {
  constexpr int kDepth = TilePolicy::kDepth, kStages = TilePolicy::kStages;
  using Share = Products<Tile, kPrecision, kSquared>;
  static_assert(kDepth % Share::kStep == 0);
  FM_DYNAMIC_SHARED(float, stages, 0, kStages* Stager<Tile>::kStageFloats);
  FM_SHARED(long long, grad_rows, 2 * kDepth);
  FM_SHARED(long long, input_rows, 2 * kDepth);
  FM_SHARED(int, row_y, 2 * kDepth);
  FM_SHARED(int, row_x, 2 * kDepth);
  FM_SHARED(int, place, 3);  // group, first output channel in it, first column

  int row_tile = 0;
  int column_tile = 0;
  int split = 0;
  const int group = tile_of(problem, &row_tile, &column_tile, &split);
  const int first_o = row_tile * Tile::kRows;
  const int first_column = column_tile * Tile::kColumns;
  if (threadIdx.x == 0) {
    place[0] = group;
    place[1] = first_o;
    place[2] = first_column;
  }
  const std::int64_t first_sample = split * problem.samples_per_split;
  const std::int64_t left = problem.batch - first_sample;
  const auto samples =
      static_cast<int>(left < problem.samples_per_split ? left : problem.samples_per_split);
  const int rows = samples * problem.padded_positions;
  const int stage_count = (rows + kDepth - 1) / kDepth;
  const Stager<Tile> stager(problem, stages, {grad_rows, input_rows, row_y, row_x}, group, first_o,
                            first_column, first_sample, rows);

  for (int s = 0; s < kStages - 1; ++s) {
    stager.locate(s);
    __syncthreads();
    if (s < stage_count) stager.request(s);
    cp_async_commit();
  }
  stager.locate(kStages - 1);

  Share share;
  SquareSums<Tile, kPrecision, kSquared> sums;
  double* const partial =
      problem.partial == nullptr
          ? nullptr
          : problem.partial + static_cast<std::int64_t>(blockIdx.x) * Tile::kRows * Tile::kColumns;
  const int steps_per_sample = problem.padded_positions / Share::kStep;
  int steps_left = steps_per_sample;
  int unflushed = 0;
  bool first = true;
  for (int s = 0; s < stage_count; ++s) {
    cp_async_wait<kStages - 2>();
    __syncthreads();
    // Into the stage that everybody has left at this barrier.
    if (s + kStages - 1 < stage_count) stager.request(s + kStages - 1);
    cp_async_commit();
    stager.locate(s + kStages);
#pragma unroll
    for (int k = 0; k < kDepth; k += Share::kStep) {
      share.step(stager.grad_stage(s), stager.input_stage(s), k);
      if (--steps_left == 0) {
        steps_left = steps_per_sample;
        ++unflushed;
        sums.take(share);
      }
    }
    if (unflushed >= TilePolicy::kFlushSamples || s + 1 == stage_count) {
      sums.flush(problem, share, place, partial, first);
      first = false;
      unflushed = 0;
    }
  }
}

// Samples of a split at the least.
inline std::int64_t least_samples(const TileProblem& problem) {
  return std::max(TilePolicy::kLeastPositions / problem.positions, 1);
}

template <typename Tile, Precision kPrecision, bool kSquared>
void launch_tile(Backend& backend, TileProblem problem) {
  problem.row_tiles = (problem.group_out + Tile::kRows - 1) / Tile::kRows;
  problem.column_tiles = (problem.columns + Tile::kColumns - 1) / Tile::kColumns;
  constexpr int kStep = step_of(kPrecision);
  problem.padded_positions = (problem.positions + kStep - 1) / kStep * kStep;
  problem.by_padded = FastDivide(problem.padded_positions);
  // Rows of a split are counted in int.
  const std::int64_t most_samples =
      ((std::int64_t{1} << 30U) - 8 * TilePolicy::kDepth) / problem.padded_positions;
  const std::int64_t wanted =
      count_splits(backend, problem.tiles(), Tile::kBlocks, problem.batch, least_samples(problem));
  problem.samples_per_split =
      std::min<std::int64_t>((problem.batch + wanted - 1) / wanted, most_samples);
  const std::int64_t splits =
      (problem.batch + problem.samples_per_split - 1) / problem.samples_per_split;
  const std::int64_t blocks = splits * problem.tiles();
  FM_CHECK(blocks < std::int64_t{1} << 31U, UNSUPPORTED, "squares of a contraction in ", blocks,
           " tiles are beyond the CUDA backend");
  problem.splits = static_cast<int>(splits);
  if (splits > 1) {
    problem.partial = reinterpret_cast<double*>(backend.scratch(
        blocks * Tile::kRows * Tile::kColumns * static_cast<std::int64_t>(sizeof(double))));
  }
  launch("contraction_tile", backend.stream(),
         {dim3(static_cast<unsigned>(blocks)), dim3(threads_of<Tile>()),
          sizeof(float) * TilePolicy::kStages * Stager<Tile>::kStageFloats},
         contraction_tile<Tile, kPrecision, kSquared>, problem);
  if (splits > 1) add_partial_tiles(backend, problem, Tile::kRows, Tile::kColumns);
}

// Products that the tiles compute, zeros included, over what they are worth, and over the part of
// the device that they can keep busy.
template <typename Tile>
double tile_cost(const Backend& backend, const TileProblem& problem) {
  const auto tiles = [](int size, int tile) {
    return static_cast<double>((size + tile - 1) / tile);
  };
  const double count = tiles(problem.group_out, Tile::kRows) *
                       tiles(problem.columns, Tile::kColumns) * problem.groups;
  const std::int64_t splits = std::max<std::int64_t>(problem.batch / least_samples(problem), 1);
  const double warps = count * static_cast<double>(splits) * (threads_of<Tile>() / 32);
  const double busy =
      std::min(warps / (TilePolicy::kBusyWarps * backend.device_info().processors), 1.0);
  return count * Tile::kRows * Tile::kColumns / (Tile::kWorth * busy);
}

template <Precision kPrecision, bool kSquared>
void launch_cheapest(Backend& backend, const TileProblem& problem) {
  const double huge = tile_cost<HugeTile>(backend, problem);
  const double large = tile_cost<LargeTile>(backend, problem);
  const double small = tile_cost<SmallTile>(backend, problem);
  const double narrow = tile_cost<NarrowTile>(backend, problem);
  const double cheapest = std::min({huge, large, small, narrow});
  if (cheapest == huge) {
    launch_tile<HugeTile, kPrecision, kSquared>(backend, problem);
  } else if (cheapest == large) {
    launch_tile<LargeTile, kPrecision, kSquared>(backend, problem);
  } else if (cheapest == small) {
    launch_tile<SmallTile, kPrecision, kSquared>(backend, problem);
  } else {
    launch_tile<NarrowTile, kPrecision, kSquared>(backend, problem);
  }
}

template <bool kSquared>
void launch_tiles(Backend& backend, const TileProblem& problem) {
  switch (backend.matmul_precision()) {
    case Precision::kF32:
      return launch_cheapest<Precision::kF32, kSquared>(backend, problem);
    case Precision::kTf32:
      return launch_cheapest<Precision::kTf32, kSquared>(backend, problem);
    case Precision::kBf16:
      return launch_cheapest<Precision::kBf16, kSquared>(backend, problem);
  }
}

}  // namespace fishermask::cuda
