// The tiles of the kernel of contraction_tile.cuh, and how a thread multiplies its share of one: by
// FMAs in f32, by tensor cores in TF32 and bf16 (rounded as they leave shared memory), with f32
// sums.
#pragma once

#include "common/mma.cuh"
#include "common/shared.cuh"
#include "core/device.h"

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

}  // namespace fishermask::cuda
