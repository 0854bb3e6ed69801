// One tile of a matrix product: operands through shared memory by cp.async in a ring of stages,
// sums in registers, f32 by FFMA or TF32 and bf16 by the tensor cores.
//
// Either operand's tile lies in shared memory as it does in global memory, so that all four
// transpositions copy whole rows: "deep" where the inner index k is contiguous (A as it is, B
// transposed), else "wide". Row strides are padded so that no read has bank conflicts: deep rows of
// 16 + 4 floats (float4 reads of 8 rows meet 8 groups of 4 banks), wide rows of kOuter + 8 floats
// (the fragment reads of mma, 4 rows of 8, meet 32 banks).
#pragma once

#include "common/mma.cuh"
#include "common/shared.cuh"
#include "core/device.h"

namespace fishermask::cuda {

inline constexpr int kGemmDepth = 16;  // inner indices of a stage

// Tile sizes as other f32 GEMMs have them: 8 × 8 sums a thread (FFMA), 64 × 32 or 32 × 32 a warp
// (mma). Stages: as many as leave two blocks on a processor with 160 KiB of shared memory. Not
// measured on a GPU.
struct LargeTile {
  static constexpr int kRows = 128, kColumns = 128, kThreads = 256, kBlocksPerProcessor = 2;
  static constexpr int kThreadRows = 16, kThreadColumns = 16;  // FFMA
  static constexpr int kWarpRows = 2, kWarpColumns = 4;        // mma
};
struct SmallTile {
  static constexpr int kRows = 64, kColumns = 64, kThreads = 128, kBlocksPerProcessor = 4;
  static constexpr int kThreadRows = 8, kThreadColumns = 16;
  static constexpr int kWarpRows = 2, kWarpColumns = 2;
};
constexpr int gemm_stages(Precision precision) { return precision == Precision::kF32 ? 3 : 4; }

template <bool kIsDeep, int kOuterSize>
struct StagedOperand {
  static constexpr bool kDeep = kIsDeep;
  static constexpr int kOuter = kOuterSize;
  static constexpr int kRows = kDeep ? kOuter : kGemmDepth;
  static constexpr int kColumns = kDeep ? kGemmDepth : kOuter;
  static constexpr int kStride = kDeep ? kGemmDepth + 4 : kOuter + 8;
  static constexpr int kFloats = kRows * kStride;
};

// A matrix as stored: rows (…, columns) with `stride` between them.
struct StoredMatrix {
  const float* data;
  std::int64_t stride;
  int rows;
  int columns;
};

__device__ __forceinline__ bool aligned_for_16_bytes(const StoredMatrix& matrix) {
  return matrix.stride % 4 == 0 && reinterpret_cast<std::uintptr_t>(matrix.data) % 16 == 0;
}

// The block begins to copy kRows × kColumns values from (first_row, first_column) on to `to`, zeros
// where the matrix ends. kColumns, kStride: multiples of 4.
template <int kRows, int kColumns, int kStride, int kThreads>
__device__ __forceinline__ void begin_copy(SharedArray<float> to, const StoredMatrix& matrix,
                                           bool aligned, int first_row, int first_column) {
  constexpr int kChunks = kColumns / 4;
#pragma unroll
  for (int chunk = static_cast<int>(threadIdx.x); chunk < kRows * kChunks; chunk += kThreads) {
    const int row = first_row + chunk / kChunks;
    const int column = first_column + chunk % kChunks * 4;
    const int at = chunk / kChunks * kStride + chunk % kChunks * 4;
    const int left = row < matrix.rows ? matrix.columns - column : 0;
    const float* const from = matrix.data + row * matrix.stride + column;
    if (aligned && (left >= 4 || left <= 0)) {
      cp_async16(to, at, left > 0 ? from : matrix.data, left > 0);
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        cp_async4(to, at + e, e < left ? from + e : matrix.data, e < left);
    }
  }
}

template <typename Staged, int kThreads>
__device__ __forceinline__ void begin_copy(SharedArray<float> to, const StoredMatrix& matrix,
                                           bool aligned, int first_outer, int first_k) {
  begin_copy<Staged::kRows, Staged::kColumns, Staged::kStride, kThreads>(
      to, matrix, aligned, Staged::kDeep ? first_outer : first_k,
      Staged::kDeep ? first_k : first_outer);
}

// A ring of kStages stages in shared memory: while one is read, kStages − 1 are on their way.
// begin(stage, to) starts the copies of a stage.
template <int kStages, int kStageFloats, typename Begin>
class StageRing {
 public:
  __device__ __forceinline__ StageRing(SharedArray<float> memory, int first, int last,
                                       const Begin& begin)
      : memory_(memory), coming_(first), last_(last), begin_(begin) {
#pragma unroll
    for (int slot = 0; slot < kStages - 1; ++slot) begin_next(slot);
  }

  // The stage after the last one; the whole block calls it. What the block wrote to shared memory
  // before can be read then.
  __device__ __forceinline__ SharedArray<float> next() {
    cp_async_wait<kStages - 2>();
    __syncthreads();  // this stage is there, and the slot before it has been read
    begin_next(slot_ == 0 ? kStages - 1 : slot_ - 1);
    const SharedArray<float> stage = memory_.from(slot_ * kStageFloats);
    slot_ = slot_ + 1 == kStages ? 0 : slot_ + 1;
    return stage;
  }

  // No copy is on its way, and no thread reads a stage.
  __device__ __forceinline__ void finish() {
    cp_async_wait<0>();
    __syncthreads();
  }

 private:
  __device__ __forceinline__ void begin_next(int slot) {
    if (coming_ < last_) begin_(coming_++, memory_.from(slot * kStageFloats));
    cp_async_commit();
  }

  SharedArray<float> memory_;
  int coming_;
  int last_;
  int slot_ = 0;
  const Begin& begin_;
};

// FFMA: each thread of kThreadRows × kThreadColumns sums kRows/kThreadRows ×
// kColumns/kThreadColumns values. A warp is 4 × 8 threads.
template <typename Tile, typename A, typename B>
class PlainSums {
 public:
  __device__ __forceinline__ PlainSums() {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    constexpr int kAcross = Tile::kThreadColumns / 8;
    row_ = warp / kAcross * 4 + lane / 8;
    column_ = warp % kAcross * 8 + lane % 8;
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int j = 0; j < kJ; ++j) sums_[i][j] = 0.0F;
    }
  }

  __device__ __forceinline__ void add(SharedArray<float> a, SharedArray<float> b) {
#pragma unroll kUnrolled
    for (int k = 0; k < kGemmDepth; k += 4) {
      float right[4][kJ];
      load<B, kJ, Tile::kThreadColumns>(b, column_, k, right);
      if constexpr (A::kDeep && B::kDeep) {
        // One row of A at a time: both fragments whole would not fit the registers.
#pragma unroll
        for (int i = 0; i < kI; ++i) {
          float left[4][1];
          load<A, 1, 1>(a, outer_at<A, Tile::kThreadRows>(row_, i), k, left);
#pragma unroll
          for (int e = 0; e < 4; ++e) add_row(left[e][0], right[e], sums_[i]);
        }
      } else {
        float left[4][kI];
        load<A, kI, Tile::kThreadRows>(a, row_, k, left);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
#pragma unroll
          for (int i = 0; i < kI; ++i) add_row(left[e][i], right[e], sums_[i]);
        }
      }
    }
  }

  // body(row, column, sum), within the tile; a body may take the sum by reference.
  template <typename Body>
  __device__ __forceinline__ void for_each(const Body& body) {
    for_each_with(*this, [&](int row, int column, float& sum, float) { body(row, column, sum); });
  }
  // body(row, column, sum, other's sum).
  template <typename Body>
  __device__ __forceinline__ void for_each_with(PlainSums& other, const Body& body) {
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        body(outer_at<A, Tile::kThreadRows>(row_, i), outer_at<B, Tile::kThreadColumns>(column_, j),
             sums_[i][j], other.sums_[i][j]);
      }
    }
  }

 private:
  static constexpr int kI = Tile::kRows / Tile::kThreadRows;
  static constexpr int kJ = Tile::kColumns / Tile::kThreadColumns;
  // Two deep operands: unrolled, the loads of the next step would not fit the registers.
  static constexpr int kUnrolled = A::kDeep && B::kDeep ? 1 : kGemmDepth / 4;

  __device__ __forceinline__ static void add_row(float left, const float (&right)[kJ],
                                                 float (&sums)[kJ]) {
#pragma unroll
    for (int j = 0; j < kJ; ++j) sums[j] = fmaf(left, right[j], sums[j]);
  }

  // Value c of thread `at` of kAcross: neighbours in a deep operand take neighbouring rows, in a
  // wide one groups of four columns.
  template <typename Staged, int kAcross>
  __device__ __forceinline__ static int outer_at(int at, int c) {
    if constexpr (Staged::kDeep) return at + kAcross * c;
    return c / 4 * (4 * kAcross) + at * 4 + c % 4;
  }

  template <typename Staged, int kCount, int kAcross>
  __device__ __forceinline__ static void load(SharedArray<float> from, int at, int k,
                                              float (&values)[4][kCount]) {
    if constexpr (Staged::kDeep) {
#pragma unroll
      for (int c = 0; c < kCount; ++c) {
        const float4 four = load4(from, outer_at<Staged, kAcross>(at, c) * Staged::kStride + k);
        values[0][c] = four.x;
        values[1][c] = four.y;
        values[2][c] = four.z;
        values[3][c] = four.w;
      }
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
#pragma unroll
        for (int c = 0; c < kCount; c += 4) {
          const float4 four =
              load4(from, (k + e) * Staged::kStride + outer_at<Staged, kAcross>(at, c));
          values[e][c] = four.x;
          values[e][c + 1] = four.y;
          values[e][c + 2] = four.z;
          values[e][c + 3] = four.w;
        }
      }
    }
  }

  int row_;
  int column_;
  float sums_[kI][kJ];
};

// Tensor cores: each warp sums kRows/kWarpRows × kColumns/kWarpColumns values in fragments of
// 16 × 8. A product does not mind in which order inner indices come as long as both operands agree:
// lane t of four takes the indices k_at(t, 0..3) of a stage, which for two deep operands are one
// float4.
template <typename Tile, typename A, typename B, Precision kPrecision>
class TensorSums {
 public:
  __device__ __forceinline__ TensorSums() {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    g_ = lane / 4;
    t_ = lane % 4;
    row_ = warp / Tile::kWarpColumns * (kI * 16);
    column_ = warp % Tile::kWarpColumns * (kJ * 8);
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sums_[i][j][e] = 0.0F;
      }
    }
  }

  __device__ __forceinline__ void add(SharedArray<float> a, SharedArray<float> b) {
    std::uint32_t right[kJ][kSteps][2];
#pragma unroll
    for (int j = 0; j < kJ; ++j) {
      const float4 v = load<B>(b, column_ + j * 8 + g_);
      if constexpr (kPrecision == Precision::kBf16) {
        right[j][0][0] = bf16_pair(v.x, v.y);
        right[j][0][1] = bf16_pair(v.z, v.w);
      } else {
        right[j][0][0] = tf32_bits(v.x);
        right[j][0][1] = tf32_bits(v.y);
        right[j][1][0] = tf32_bits(v.z);
        right[j][1][1] = tf32_bits(v.w);
      }
    }
#pragma unroll
    for (int i = 0; i < kI; ++i) {
      const float4 v = load<A>(a, row_ + i * 16 + g_);
      const float4 w = load<A>(a, row_ + i * 16 + g_ + 8);
      if constexpr (kPrecision == Precision::kBf16) {
        const std::uint32_t left[4] = {bf16_pair(v.x, v.y), bf16_pair(w.x, w.y),
                                       bf16_pair(v.z, v.w), bf16_pair(w.z, w.w)};
#pragma unroll
        for (int j = 0; j < kJ; ++j) mma_bf16(sums_[i][j], left, right[j][0]);
      } else {
        const std::uint32_t first[4] = {tf32_bits(v.x), tf32_bits(w.x), tf32_bits(v.y),
                                        tf32_bits(w.y)};
        const std::uint32_t second[4] = {tf32_bits(v.z), tf32_bits(w.z), tf32_bits(v.w),
                                         tf32_bits(w.w)};
#pragma unroll
        for (int j = 0; j < kJ; ++j) {
          mma_tf32(sums_[i][j], first, right[j][0]);
          mma_tf32(sums_[i][j], second, right[j][1]);
        }
      }
    }
  }

  template <typename Body>
  __device__ __forceinline__ void for_each(const Body& body) {
    for_each_with(*this, [&](int row, int column, float& sum, float) { body(row, column, sum); });
  }
  template <typename Body>
  __device__ __forceinline__ void for_each_with(TensorSums& other, const Body& body) {
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          body(row_ + i * 16 + g_ + e / 2 * 8, column_ + j * 8 + t_ * 2 + e % 2, sums_[i][j][e],
               other.sums_[i][j][e]);
        }
      }
    }
  }

 private:
  static constexpr int kI = Tile::kRows / Tile::kWarpRows / 16;
  static constexpr int kJ = Tile::kColumns / Tile::kWarpColumns / 8;
  static constexpr int kSteps = kPrecision == Precision::kBf16 ? 1 : 2;
  static constexpr bool kBothDeep = A::kDeep && B::kDeep;
  static_assert(kGemmDepth == 16, "a stage is one step of mma_bf16 or two of mma_tf32");

  __device__ __forceinline__ int k_at(int e) const { return kBothDeep ? t_ * 4 + e : t_ + e * 4; }

  template <typename Staged>
  __device__ __forceinline__ float4 load(SharedArray<float> from, int outer) const {
    if constexpr (kBothDeep) return load4(from, outer * Staged::kStride + k_at(0));
    constexpr int kOuterStep = Staged::kDeep ? Staged::kStride : 1;
    constexpr int kDepthStep = Staged::kDeep ? 1 : Staged::kStride;
    const int at = outer * kOuterStep;
    return make_float4(from[at + k_at(0) * kDepthStep], from[at + k_at(1) * kDepthStep],
                       from[at + k_at(2) * kDepthStep], from[at + k_at(3) * kDepthStep]);
  }

  int g_, t_;
  int row_;
  int column_;
  float sums_[kI][kJ][4];
};

template <typename Tile, typename A, typename B, Precision kPrecision>
struct SumsOf {
  using Type = TensorSums<Tile, A, B, kPrecision>;
};
template <typename Tile, typename A, typename B>
struct SumsOf<Tile, A, B, Precision::kF32> {
  using Type = PlainSums<Tile, A, B>;
};

}  // namespace fishermask::cuda
