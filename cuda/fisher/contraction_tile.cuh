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

namespace fishermask::cuda {

// Not measured on a GPU. Chosen by counting. Squares double the registers of a sum, so that 64 sums
// a thread and 256 threads are what a processor holds, in one block or in two; with 64 sums a
// thread reads 16 floats of shared memory for 64 products, which leaves it idle two thirds of the
// time. The larger the tile, the less often operands come from the second-level cache (128 × 128:
// 16 products a byte, which f32 needs half of, and tensor cores twice); the smaller ones are for
// matrices of few rows, where a large one would compute zeros. kWorth weighs the one against the
// other.
struct HugeTile {
  static constexpr int kRows = 128, kColumns = 128, kWarpRows = 4, kWarpColumns = 2;
  static constexpr int kBlocks = 1;  // of one processor at once
  static constexpr double kWorth = 1.0;
};
struct LargeTile {
  static constexpr int kRows = 64, kColumns = 128, kWarpRows = 2, kWarpColumns = 2;
  static constexpr int kBlocks = 2;
  static constexpr double kWorth = 0.9;
};
struct SmallTile {
  static constexpr int kRows = 32, kColumns = 64, kWarpRows = 2, kWarpColumns = 2;
  static constexpr int kBlocks = 4;
  static constexpr double kWorth = 0.7;
};
struct NarrowTile {
  static constexpr int kRows = 16, kColumns = 64, kWarpRows = 1, kWarpColumns = 2;
  static constexpr int kBlocks = 8;
  static constexpr double kWorth = 0.6;
};
struct TilePolicy {
  static constexpr int kDepth = 16;  // positions of a stage
  static constexpr int kStages = 3;
  static constexpr int kPad = 8;  // floats behind a row: the mma's reads then meet every bank once
  // An f32 sum of that many squares (off by 1e-6 at most), and those of the stage in which the
  // count is reached.
  static constexpr int kFlushSamples = 16;
  static constexpr int kVectorRun = 64;  // samples of linear on vectors per f32 sum
  // Positions of a split at the least: writing and adding its partial tile costs as much as
  // reading some hundred positions.
  static constexpr int kLeastPositions = 256;
  static constexpr int kBusyWarps = 8;  // of a processor: two for each of its schedulers
};

template <typename Tile>
constexpr int threads_of() {
  return 32 * Tile::kWarpRows * Tile::kWarpColumns;
}

// Positions that one step of the products takes: a sample's are padded to whole steps.
constexpr int step_of(Precision precision) {
  return precision == Precision::kBf16 ? 16 : precision == Precision::kTf32 ? 8 : 4;
}

template <bool kSquared>
__device__ __forceinline__ float operand(float value) {
  return kSquared ? value * value : value;
}

// A thread's share of the tile: kRowCount × kColumnCount sums at (row(i), column(j)).
template <typename Tile, Precision kPrecision, bool kSquared>
class Products {  // tensor cores
 public:
  static constexpr int kStep = step_of(kPrecision);
  static constexpr int kBlockRows = Tile::kRows / Tile::kWarpRows / 16;          // of 16, per warp
  static constexpr int kBlockColumns = Tile::kColumns / Tile::kWarpColumns / 8;  // of 8
  static constexpr int kRowCount = 2 * kBlockRows, kColumnCount = 2 * kBlockColumns;

  __device__ __forceinline__ Products() {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    group_ = lane / 4;
    member_ = lane % 4;
    first_row_ = warp / Tile::kWarpColumns * (16 * kBlockRows);
    first_column_ = warp % Tile::kWarpColumns * (8 * kBlockColumns);
#pragma unroll
    for (int m = 0; m < kBlockRows; ++m) {
#pragma unroll
      for (int n = 0; n < kBlockColumns; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sums_[m][n][e] = 0.0F;
      }
    }
  }
  __device__ __forceinline__ int row(int i) const { return first_row_ + group_ + 8 * i; }
  __device__ __forceinline__ int column(int j) const {
    return first_column_ + j / 2 * 8 + 2 * member_ + j % 2;
  }
  __device__ __forceinline__ float& at(int i, int j) {
    return sums_[i / 2][j / 2][i % 2 * 2 + j % 2];
  }

  // Positions [k, k + kStep) of a stage.
  __device__ __forceinline__ void step(SharedArray<float> grad, SharedArray<float> input, int k) {
    constexpr int kGradPitch = Tile::kRows + TilePolicy::kPad;
    constexpr int kInputPitch = Tile::kColumns + TilePolicy::kPad;
    const SharedArray<float> grad_at = grad.from((k + member_) * kGradPitch + first_row_ + group_);
    const SharedArray<float> input_at =
        input.from((k + member_) * kInputPitch + first_column_ + group_);
    std::uint32_t a[kBlockRows][4];
#pragma unroll
    for (int m = 0; m < kBlockRows; ++m) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {  // (g, …) (g + 8, …) of the lower, then of the upper half of k
        a[m][r] =
            word(grad_at, (r / 2) * (kStep / 2) * kGradPitch + 16 * m + r % 2 * 8, kGradPitch);
      }
    }
#pragma unroll
    for (int n = 0; n < kBlockColumns; ++n) {
      std::uint32_t b[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        b[r] = word(input_at, r * (kStep / 2) * kInputPitch + 8 * n, kInputPitch);
      }
#pragma unroll
      for (int m = 0; m < kBlockRows; ++m) {
        if constexpr (kPrecision == Precision::kBf16) {
          mma_bf16(sums_[m][n], a[m], b);
        } else {
          mma_tf32(sums_[m][n], a[m], b);
        }
      }
    }
  }

 private:
  // One register of a fragment. The order of the positions inside a step is free, as long as both
  // operands share it: bf16's pair is (t, t + 4) instead of (2t, 2t + 1), which keeps the reads of
  // shared memory free of conflicts.
  __device__ __forceinline__ static std::uint32_t word(SharedArray<float> from, int at, int pitch) {
    if constexpr (kPrecision == Precision::kBf16) {
      return bf16_pair(operand<kSquared>(from[at]), operand<kSquared>(from[at + 4 * pitch]));
    } else {
      return tf32_bits(operand<kSquared>(from[at]));
    }
  }

  int group_, member_, first_row_, first_column_;
  float sums_[kBlockRows][kBlockColumns][4];
};

template <typename Tile, bool kSquared>
class Products<Tile, Precision::kF32, kSquared> {  // FMAs; 16 threads along the columns
 public:
  static constexpr int kStep = step_of(Precision::kF32);
  static constexpr int kThreadRows = threads_of<Tile>() / 16;
  static constexpr int kRowCount = Tile::kRows / kThreadRows, kColumnCount = Tile::kColumns / 16;
  static_assert(kRowCount % 4 == 0 && kColumnCount % 4 == 0);

  __device__ __forceinline__ Products() {
    const int thread = static_cast<int>(threadIdx.x);
    first_row_ = thread / 16 * 4;
    first_column_ = thread % 16 * 4;
#pragma unroll
    for (int i = 0; i < kRowCount; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnCount; ++j) sums_[i][j] = 0.0F;
    }
  }
  __device__ __forceinline__ int row(int i) const {
    return first_row_ + i / 4 * (4 * kThreadRows) + i % 4;
  }
  __device__ __forceinline__ int column(int j) const { return first_column_ + j / 4 * 64 + j % 4; }
  __device__ __forceinline__ float& at(int i, int j) { return sums_[i][j]; }

  __device__ __forceinline__ void step(SharedArray<float> grad, SharedArray<float> input, int k) {
    constexpr int kGradPitch = Tile::kRows + TilePolicy::kPad;
    constexpr int kInputPitch = Tile::kColumns + TilePolicy::kPad;
#pragma unroll
    for (int kk = 0; kk < kStep; ++kk) {
      float a[kRowCount];
      float b[kColumnCount];
#pragma unroll
      for (int i = 0; i < kRowCount; i += 4) read(grad, (k + kk) * kGradPitch + row(i), a + i);
#pragma unroll
      for (int j = 0; j < kColumnCount; j += 4) {
        read(input, (k + kk) * kInputPitch + column(j), b + j);
      }
#pragma unroll
      for (int i = 0; i < kRowCount; ++i) {
#pragma unroll
        for (int j = 0; j < kColumnCount; ++j) sums_[i][j] = fmaf(a[i], b[j], sums_[i][j]);
      }
    }
  }

 private:
  __device__ __forceinline__ static void read(SharedArray<float> from, int at, float* to) {
    const float4 four = load4(from, at);
    to[0] = operand<kSquared>(four.x);
    to[1] = operand<kSquared>(four.y);
    to[2] = operand<kSquared>(four.z);
    to[3] = operand<kSquared>(four.w);
  }

  int first_row_, first_column_;
  float sums_[kRowCount][kColumnCount];
};

// Where the rows of a stage begin in memory: two stages of them, as one is written while the other
// is read.
struct StageRows {
  SharedArray<long long> grad;   // first element of the row; −1: no such position
  SharedArray<long long> input;  // of the position that tap (0, 0) meets, inside the image or not
  SharedArray<int> y, x;         // that position
};

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

// Copies the stages of one block from global to shared memory.
template <typename Tile>
class Stager {
 public:
  static constexpr int kThreads = threads_of<Tile>(), kDepth = TilePolicy::kDepth;
  static constexpr int kGradPitch = Tile::kRows + TilePolicy::kPad;
  static constexpr int kInputPitch = Tile::kColumns + TilePolicy::kPad;
  static constexpr int kStageFloats = kDepth * (kGradPitch + kInputPitch);

  __device__ __forceinline__ Stager(const TileProblem& problem, SharedArray<float> stages,
                                    StageRows rows, int group, int first_o, int first_column,
                                    std::int64_t first_sample, int rows_in_split)
      : problem_(problem),
        stages_(stages),
        rows_(rows),
        first_sample_(first_sample),
        rows_in_split_(rows_in_split) {
    const int thread = static_cast<int>(threadIdx.x);
    grad_column_ = problem.wide_grad ? thread % (Tile::kRows / 4) * 4 : thread % Tile::kRows;
    grad_valid_ = first_o + grad_column_ < problem.group_out;
    grad_channel_ = group * problem.group_out + first_o + grad_column_;
    input_column_ =
        problem.wide_input ? thread % (Tile::kColumns / 4) * 4 : thread % Tile::kColumns;
    input_valid_ = first_column + input_column_ < problem.columns;
    const int column = input_valid_ ? first_column + input_column_ : 0;
    const int tap = problem.by_group_in.quotient(column);
    const int tap_row = problem.by_kernel_width.quotient(tap);
    tap_y_ = tap_row * problem.dilation_height;
    tap_x_ = (tap - tap_row * problem.kernel_width) * problem.dilation_width;
    input_offset_ =
        (static_cast<std::int64_t>(tap_y_) * problem.in_width + tap_x_) * problem.in_channels +
        group * problem.group_in + column - tap * problem.group_in;
  }

  // Where stage s's rows begin. Read a barrier later.
  __device__ __forceinline__ void locate(int s) const {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread >= kDepth) return;
    constexpr int kNowhere = -(1 << 30);
    const int slot = s % 2 * kDepth + thread;
    const int row = s * kDepth + thread;
    const int number = problem_.by_padded.quotient(row);
    const int p = row - number * problem_.padded_positions;
    const std::int64_t sample = first_sample_ + number;
    const std::int64_t grad_row = sample * problem_.positions + p;
    const bool exists =
        row < rows_in_split_ && p < problem_.positions && grad_row < problem_.grad_rows;
    const int out_y = problem_.by_out_width.quotient(p);
    const int out_x = p - out_y * problem_.out_width;
    const int y = out_y * problem_.stride_height - problem_.pad_top;
    const int x = out_x * problem_.stride_width - problem_.pad_left;
    rows_.grad[slot] = exists ? grad_row * problem_.out_channels : -1;
    rows_.y[slot] = exists ? y : kNowhere;
    rows_.x[slot] = x;
    rows_.input[slot] = ((sample * problem_.in_height + y) * problem_.in_width + x) *
                        static_cast<std::int64_t>(problem_.in_channels);
  }

  // Asks for stage s; its rows have been located.
  __device__ __forceinline__ void request(int s) const {
    const SharedArray<float> grad = grad_stage(s);
    const SharedArray<float> input = input_stage(s);
    const int slot = s % 2 * kDepth;
    if (problem_.wide_grad) {
      copy_grad<4>(grad, slot);
    } else {
      copy_grad<1>(grad, slot);
    }
    if (problem_.wide_input) {
      copy_input<4>(input, slot);
    } else {
      copy_input<1>(input, slot);
    }
  }

  __device__ __forceinline__ SharedArray<float> grad_stage(int s) const {
    return stages_.from(s % TilePolicy::kStages * kStageFloats);
  }
  __device__ __forceinline__ SharedArray<float> input_stage(int s) const {
    return grad_stage(s).from(kDepth * kGradPitch);
  }

 private:
  template <int kWidth>
  __device__ __forceinline__ static void copy(SharedArray<float> to, int at, const float* from,
                                              bool valid) {
    if constexpr (kWidth == 4) {
      cp_async16(to, at, from, valid);
    } else {
      cp_async4(to, at, from, valid);
    }
  }

  template <int kWidth>
  __device__ __forceinline__ void copy_grad(SharedArray<float> to, int slot) const {
    constexpr int kPerRow = Tile::kRows / kWidth;
    constexpr int kRowStep = kThreads / kPerRow;
    int row = static_cast<int>(threadIdx.x) / kPerRow;
#pragma unroll
    for (int u = 0; u < (kDepth + kRowStep - 1) / kRowStep; ++u, row += kRowStep) {
      if (kDepth % kRowStep != 0 && row >= kDepth) break;
      const std::int64_t first = rows_.grad[slot + row];
      const bool valid = grad_valid_ && first >= 0;
      const float* const from = problem_.grad_output + (valid ? first + grad_channel_ : 0);
      copy<kWidth>(to, row * kGradPitch + grad_column_, from, valid);
    }
  }

  template <int kWidth>
  __device__ __forceinline__ void copy_input(SharedArray<float> to, int slot) const {
    constexpr int kPerRow = Tile::kColumns / kWidth;
    constexpr int kRowStep = kThreads / kPerRow;
    int row = static_cast<int>(threadIdx.x) / kPerRow;
#pragma unroll
    for (int u = 0; u < (kDepth + kRowStep - 1) / kRowStep; ++u, row += kRowStep) {
      if (kDepth % kRowStep != 0 && row >= kDepth) break;
      const int y = rows_.y[slot + row] + tap_y_;
      const int x = rows_.x[slot + row] + tap_x_;
      const bool valid = input_valid_ &&
                         static_cast<unsigned>(y) < static_cast<unsigned>(problem_.in_height) &&
                         static_cast<unsigned>(x) < static_cast<unsigned>(problem_.in_width);
      const float* const from =
          problem_.input + (valid ? rows_.input[slot + row] + input_offset_ : 0);
      copy<kWidth>(to, row * kInputPitch + input_column_, from, valid);
    }
  }

  const TileProblem& problem_;
  SharedArray<float> stages_;
  StageRows rows_;
  std::int64_t first_sample_;
  int rows_in_split_;
  int grad_column_, grad_channel_, input_column_, tap_y_, tap_x_;
  bool grad_valid_, input_valid_;
  std::int64_t input_offset_;
};

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
