// The product of two tiles in shared memory, for the convolutions: C (128 × columns) += A · B over
// `depth`, by FFMA (kF32) or tensor cores (kTf32, kBf16), which round as they read.
//
// Two layouts, by what is contiguous in memory:
//   kDepthInner  A [depth/16][128][16]; B [depth][columns] for f32, [depth/16][columns][16] for the
//                tensor cores
//   kDepthOuter  A [depth][128 + 8], B [depth][columns + 8]
// Both read without bank conflicts. A sum over the depth may run in any order, so a lane of an mma
// takes those 4 of 16 depths that it can read at once: 4t..4t+3 (inner), t, t+4, t+8, t+12 (outer).
// Deterministic: yes. Bound by arithmetic (f32), by shared memory (tensor cores: operands are kept
// in f32).
#pragma once

#include <algorithm>

#include "common/backend.h"
#include "common/mma.cuh"

namespace fishermask::cuda {

enum class TileLayout { kDepthInner, kDepthOuter };

// Chosen by counting, not measured on a GPU: f32 has 64 sums and 16 FFMA per 16-byte read of shared
// memory; three stages hide two tiles' worth of latency; the tensor cores' tiles are deeper, so
// that a barrier is paid by twice the work.
struct ConvTuning {
  static constexpr int kRows = 128;
  static constexpr int kStages = 3;
  static constexpr int kF32Depth = 16;
  static constexpr int kMmaDepth = 32;
  static constexpr int kSkew = 8;  // floats behind a row of kDepthOuter
};

template <Precision kPrecision, int kTileColumns, TileLayout kLayout>
struct ConvTile {
  static constexpr bool kMma = kPrecision != Precision::kF32;
  static constexpr bool kInner = kLayout == TileLayout::kDepthInner;
  static constexpr int kRows = ConvTuning::kRows;
  static constexpr int kColumns = kTileColumns;
  static constexpr int kStages = ConvTuning::kStages;
  static constexpr int kDepth = kMma ? ConvTuning::kMmaDepth : ConvTuning::kF32Depth;
  static constexpr int kAStride = kRows + ConvTuning::kSkew;  // kDepthOuter
  static constexpr int kBStride = kColumns + ConvTuning::kSkew;
  static constexpr int kA = kDepth * (kInner ? kRows : kAStride);  // floats of a stage
  static constexpr int kB = kDepth * (kInner ? kColumns : kBStride);
  static constexpr int kBFirstByte = kStages * kA * 4;
  static constexpr int kSharedBytes = kBFirstByte + kStages * kB * 4;

  // f32: a thread's part of the tile.
  static constexpr int kThreadRows = kColumns == 16 ? 4 : 8;
  static constexpr int kThreadColumns = kColumns == 64 ? 8 : 4;
  static constexpr int kColumnThreads = kColumns / kThreadColumns;
  static constexpr int kRowThreads = kRows / kThreadRows;
  static constexpr int kColumnFours = kThreadColumns / 4;
  // Tensor cores: a warp's part, in mma tiles of 16 × 8.
  static constexpr int kWarpColumns = kColumns < 64 ? kColumns : 64;
  static constexpr int kTileRowsOfWarp = 2;
  static constexpr int kTileColumnsOfWarp = kWarpColumns / 8;

  static constexpr int kThreads =
      kMma ? kRows / 32 * (kColumns / kWarpColumns) * 32 : kRowThreads * kColumnThreads;
  // Of one processor: what the registers are held to (65536 / (threads · blocks)). TF32's widest
  // tile would spill.
  static constexpr int kLeastBlocks = kThreads == 128 ? 3 : kPrecision == Precision::kBf16 ? 2 : 1;
  static constexpr int kFours =
      kMma ? kTileRowsOfWarp * kTileColumnsOfWarp : kThreadRows * kColumnFours;

  struct Sums {
    float four[kFours][4];
  };

  static __device__ __forceinline__ void clear(Sums& sums) {
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) sums.four[i][j] = 0.0F;
    }
  }

  static __device__ __forceinline__ void multiply(SharedArray<float> a, SharedArray<float> b,
                                                  Sums& sums) {
    if constexpr (!kMma) {
      if constexpr (kInner) {
        multiply_f32_inner(a, b, sums);
      } else {
        multiply_f32_outer(a, b, sums);
      }
    } else {
#pragma unroll 1
      for (int sub = 0; sub < kDepth / 16; ++sub) multiply_mma(a, b, sub, sums);
    }
  }

  // visit(row, column, values, integral_constant of how many) for consecutive columns.
  template <typename Visit>
  static __device__ __forceinline__ void for_each(const Sums& sums, const Visit& visit) {
    const int thread = static_cast<int>(threadIdx.x);
    if constexpr (kMma) {
      const int lane = thread % 32;
      const int row = thread / 32 % 4 * 32 + lane / 4;
      const int column = thread / 128 * 64 + lane % 4 * 2;
#pragma unroll
      for (int i = 0; i < kTileRowsOfWarp; ++i) {
#pragma unroll
        for (int j = 0; j < kTileColumnsOfWarp; ++j) {
          const float(&four)[4] = sums.four[i * kTileColumnsOfWarp + j];
          visit(row + 16 * i, column + 8 * j, &four[0], std::integral_constant<int, 2>());
          visit(row + 16 * i + 8, column + 8 * j, &four[2], std::integral_constant<int, 2>());
        }
      }
    } else {
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
        for (int q = 0; q < kColumnFours; ++q) {
          visit(f32_row(thread, i), f32_column(thread, q), &sums.four[i * kColumnFours + q][0],
                std::integral_constant<int, 4>());
        }
      }
    }
  }

 private:
  static __device__ __forceinline__ int f32_row(int thread, int i) {
    if constexpr (kInner) return thread / kColumnThreads + i * kRowThreads;
    return i / 4 * (kRows / (kThreadRows / 4)) + thread / kColumnThreads * 4 + i % 4;
  }
  static __device__ __forceinline__ int f32_column(int thread, int q) {
    return q * (kColumns / kColumnFours) + thread % kColumnThreads * 4;
  }

  static __device__ __forceinline__ void add_products(const float (&a)[kThreadRows],
                                                      SharedArray<float> b, int b_row, Sums& sums) {
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int q = 0; q < kColumnFours; ++q) {
      const float4 v = load4(b, b_row + f32_column(thread, q));
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) {
        float(&four)[4] = sums.four[i * kColumnFours + q];
        four[0] += a[i] * v.x;
        four[1] += a[i] * v.y;
        four[2] += a[i] * v.z;
        four[3] += a[i] * v.w;
      }
    }
  }

  static __device__ __forceinline__ void multiply_f32_inner(SharedArray<float> a,
                                                            SharedArray<float> b, Sums& sums) {
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int depth = 0; depth < kDepth; depth += 4) {
      float4 four[kThreadRows];
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) four[i] = load4(a, f32_row(thread, i) * 16 + depth);
      float at[kThreadRows];
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) at[i] = four[i].x;
      add_products(at, b, depth * kColumns, sums);
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) at[i] = four[i].y;
      add_products(at, b, (depth + 1) * kColumns, sums);
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) at[i] = four[i].z;
      add_products(at, b, (depth + 2) * kColumns, sums);
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) at[i] = four[i].w;
      add_products(at, b, (depth + 3) * kColumns, sums);
    }
  }

  static __device__ __forceinline__ void multiply_f32_outer(SharedArray<float> a,
                                                            SharedArray<float> b, Sums& sums) {
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int depth = 0; depth < kDepth; ++depth) {
      float at[kThreadRows];
#pragma unroll
      for (int i = 0; i < kThreadRows; i += 4) {
        const float4 v = load4(a, depth * kAStride + f32_row(thread, i));
        at[i] = v.x, at[i + 1] = v.y, at[i + 2] = v.z, at[i + 3] = v.w;
      }
      add_products(at, b, depth * kBStride, sums);
    }
  }

  // This lane's 4 of 16 depths of one row of A or column of B.
  template <int kStride, int kLines>
  static __device__ __forceinline__ float4 four_depths(SharedArray<float> from, int sub, int line) {
    const int t = static_cast<int>(threadIdx.x) % 4;
    if constexpr (kInner) {
      return load4(from, (sub * kLines + line) * 16 + 4 * t);
    } else {
      const int first = (sub * 16 + t) * kStride + line;
      return make_float4(from[first], from[first + 4 * kStride], from[first + 8 * kStride],
                         from[first + 12 * kStride]);
    }
  }

  static __device__ __forceinline__ void multiply_mma(SharedArray<float> a, SharedArray<float> b,
                                                      int sub, Sums& sums) {
    constexpr int kSteps = kPrecision == Precision::kBf16 ? 1 : 2;
    const int thread = static_cast<int>(threadIdx.x);
    const int line = thread % 32 / 4;
    const int row = thread / 32 % 4 * 32 + line;
    const int column = thread / 128 * 64 + line;
    std::uint32_t of_a[kTileRowsOfWarp][kSteps][4];
#pragma unroll
    for (int i = 0; i < kTileRowsOfWarp; ++i) {
      const float4 upper = four_depths<kAStride, kRows>(a, sub, row + 16 * i);
      const float4 lower = four_depths<kAStride, kRows>(a, sub, row + 16 * i + 8);
      if constexpr (kPrecision == Precision::kBf16) {
        of_a[i][0][0] = bf16_pair(upper.x, upper.y);
        of_a[i][0][1] = bf16_pair(lower.x, lower.y);
        of_a[i][0][2] = bf16_pair(upper.z, upper.w);
        of_a[i][0][3] = bf16_pair(lower.z, lower.w);
      } else {
        of_a[i][0][0] = tf32_bits(upper.x), of_a[i][0][1] = tf32_bits(lower.x);
        of_a[i][0][2] = tf32_bits(upper.y), of_a[i][0][3] = tf32_bits(lower.y);
        of_a[i][1][0] = tf32_bits(upper.z), of_a[i][1][1] = tf32_bits(lower.z);
        of_a[i][1][2] = tf32_bits(upper.w), of_a[i][1][3] = tf32_bits(lower.w);
      }
    }
#pragma unroll
    for (int j = 0; j < kTileColumnsOfWarp; ++j) {
      const float4 v = four_depths<kBStride, kColumns>(b, sub, column + 8 * j);
      std::uint32_t of_b[kSteps][2];
      if constexpr (kPrecision == Precision::kBf16) {
        of_b[0][0] = bf16_pair(v.x, v.y), of_b[0][1] = bf16_pair(v.z, v.w);
      } else {
        of_b[0][0] = tf32_bits(v.x), of_b[0][1] = tf32_bits(v.y);
        of_b[1][0] = tf32_bits(v.z), of_b[1][1] = tf32_bits(v.w);
      }
#pragma unroll
      for (int i = 0; i < kTileRowsOfWarp; ++i) {
        float(&four)[4] = sums.four[i * kTileColumnsOfWarp + j];
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          if constexpr (kPrecision == Precision::kBf16) {
            mma_bf16(four, of_a[i][step], of_b[step]);
          } else {
            mma_tf32(four, of_a[i][step], of_b[step]);
          }
        }
      }
    }
  }
};

// Runs load(stage, tile) for tiles in order, kStages − 1 ahead, and multiplies each when it is
// there. load only asks for copies; the block's threads are in step.
template <typename Tile, typename Load>
__device__ __forceinline__ void multiply_tiles(SharedArray<float> a, SharedArray<float> b,
                                               int tiles, const Load& load,
                                               typename Tile::Sums& sums) {
#pragma unroll
  for (int ahead = 0; ahead < Tile::kStages - 1; ++ahead) {
    if (ahead < tiles) load(ahead, ahead);
    cp_async_commit();
  }
  int stage = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    cp_async_wait<Tile::kStages - 2>();
    // Behind this barrier all see this tile, and nobody reads the last one's stage any more.
    __syncthreads();
    const int next = tile + Tile::kStages - 1;
    if (next < tiles) load(stage == 0 ? Tile::kStages - 1 : stage - 1, next);
    cp_async_commit();
    Tile::multiply(a.from(stage * Tile::kA), b.from(stage * Tile::kB), sums);
    stage = stage + 1 == Tile::kStages ? 0 : stage + 1;
  }
  cp_async_wait<0>();
}

}  // namespace fishermask::cuda
