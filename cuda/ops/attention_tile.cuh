// What attention's kernels share: the task, its tiles, and the stages of their products.
//
// A block takes 64 queries or 64 keys at a time. Scores of 64 × 64 are sums in registers, as matrix
// products have them (gemm_tile.cuh); weights go through shared memory, in slices of 16 columns, to
// be the left operand of the product that follows. Head sizes are padded with zeros to kHead.
#pragma once

#include <limits>

#include "core/attention_sizes.h"
#include "ops/gemm_tile.cuh"

namespace fishermask::cuda {

inline constexpr int kAttentionTile = 64;
inline constexpr int kAttentionThreads = 256;
inline constexpr int kAttentionStages = 3;  // not measured on a GPU
inline constexpr int kLargestHead = 256;

// One call. Null gradients are not wanted. Shapes as in attention.cu.
struct AttentionTask {
  const float *q, *k, *v, *mask, *grad_output;
  float* y;
  float *grad_q, *grad_k, *grad_v, *grad_mask;
  bool add_q, add_k, add_v, add_mask;
  float* statistics;  // (N, H, T, 3), by backward: RowStatistics
  std::int64_t batch;
  int rows, columns, heads, kv_heads, key, value, mask_rows;
  bool causal;
  float scale;

  // Row t sees the columns below this.
  __device__ __forceinline__ int visible(int t) const {
    return causal ? std::max(0, std::min(columns, t + 1 + columns - rows)) : columns;
  }
  [[nodiscard]] __host__ __device__ int row_tiles() const {
    return (rows + kAttentionTile - 1) / kAttentionTile;
  }
  [[nodiscard]] __host__ __device__ int column_tiles() const {
    return (columns + kAttentionTile - 1) / kAttentionTile;
  }
  __device__ __forceinline__ int key_stages() const { return (key + kGemmDepth - 1) / kGemmDepth; }
  __device__ __forceinline__ int value_stages() const {
    return (value + kGemmDepth - 1) / kGemmDepth;
  }

  // One head of one sample.
  __device__ __forceinline__ std::int64_t query_at(std::int64_t sample, int head) const {
    return (sample * rows * heads + head) * key;
  }
  __device__ __forceinline__ std::int64_t output_at(std::int64_t sample, int head) const {
    return (sample * rows * heads + head) * value;
  }
  __device__ __forceinline__ std::int64_t key_at(std::int64_t sample, int kv_head) const {
    return (sample * columns * kv_heads + kv_head) * key;
  }
  __device__ __forceinline__ std::int64_t value_at(std::int64_t sample, int kv_head) const {
    return (sample * columns * kv_heads + kv_head) * value;
  }
  __device__ __forceinline__ StoredMatrix queries(std::int64_t sample, int head) const {
    return {q + query_at(sample, head), std::int64_t{heads} * key, rows, key};
  }
  __device__ __forceinline__ StoredMatrix keys(std::int64_t sample, int kv_head) const {
    return {k + key_at(sample, kv_head), std::int64_t{kv_heads} * key, columns, key};
  }
  __device__ __forceinline__ StoredMatrix values(std::int64_t sample, int kv_head) const {
    return {v + value_at(sample, kv_head), std::int64_t{kv_heads} * value, columns, value};
  }
  __device__ __forceinline__ StoredMatrix output_gradients(std::int64_t sample, int head) const {
    return {grad_output + output_at(sample, head), std::int64_t{heads} * value, rows, value};
  }
  __device__ __forceinline__ float* statistics_of(std::int64_t sample, int head, int t) const {
    return statistics + ((sample * heads + head) * rows + t) * 3;
  }

  __device__ __forceinline__ float score(std::int64_t sample, int t, int s, float product) const {
    const float scaled = scale * product;
    if (mask == nullptr) return scaled;
    return scaled + mask[(sample * mask_rows + (mask_rows > 1 ? t : 0)) * columns + s];
  }
};

// P = exp(score − largest) · inverse, and the mean of the weights' gradient under P. A row that
// sees nothing has zeros.
struct RowStatistics {
  float largest, inverse, mean;
};

using AttentionOperand = StagedOperand<true, kAttentionTile>;
struct ScoreTile {
  static constexpr int kRows = kAttentionTile, kColumns = kAttentionTile;
  static constexpr int kThreads = kAttentionThreads;
  static constexpr int kThreadRows = 16, kThreadColumns = 16;
  static constexpr int kWarpRows = 2, kWarpColumns = 4;
};
template <int kHead>
struct HeadTile : ScoreTile {
  static constexpr int kColumns = kHead;
};
template <Precision kPrecision>
using ScoreSums = typename SumsOf<ScoreTile, AttentionOperand, AttentionOperand, kPrecision>::Type;
template <int kHead, Precision kPrecision>
using HeadSums = typename SumsOf<HeadTile<kHead>, AttentionOperand, StagedOperand<false, kHead>,
                                 kPrecision>::Type;

// 64 × 64 weights as left operands of four stages.
inline constexpr int kWeightSlices = kAttentionTile / kGemmDepth;
inline constexpr int kWeightFloats = kWeightSlices * AttentionOperand::kFloats;
__device__ __forceinline__ int weight_at(int row, int column) {
  return column / kGemmDepth * AttentionOperand::kFloats + row * AttentionOperand::kStride +
         column % kGemmDepth;
}

template <int kHead>
struct AttentionStage {
  static constexpr int kScore = 2 * AttentionOperand::kFloats;
  static constexpr int kRows = StagedOperand<false, kHead>::kFloats;
  static constexpr int kFloats = kScore > kRows ? kScore : kRows;
  static constexpr int kRingFloats = kAttentionStages * kFloats;
};

// A stage of 64 rows of x times 64 rows of y, both along their columns.
__device__ __forceinline__ void begin_score_stage(SharedArray<float> to, const StoredMatrix& x,
                                                  int first_x, const StoredMatrix& y, int first_y,
                                                  int stage) {
  const int depth = stage * kGemmDepth;
  begin_copy<AttentionOperand, kAttentionThreads>(to, x, aligned_for_16_bytes(x), first_x, depth);
  begin_copy<AttentionOperand, kAttentionThreads>(to.from(AttentionOperand::kFloats), y,
                                                  aligned_for_16_bytes(y), first_y, depth);
}

// 16 rows of x: the right operand of a slice of weights.
template <int kHead>
__device__ __forceinline__ void begin_row_stage(SharedArray<float> to, const StoredMatrix& x,
                                                int first) {
  begin_copy<StagedOperand<false, kHead>, kAttentionThreads>(to, x, aligned_for_16_bytes(x), 0,
                                                             first);
}

template <typename Sums, typename Ring>
__device__ __forceinline__ void add_score_stages(Sums& sums, Ring& ring, int stages) {
#pragma unroll 1
  for (int stage = 0; stage < stages; ++stage) {
    const SharedArray<float> from = ring.next();
    sums.add(from, from.from(AttentionOperand::kFloats));
  }
}
template <typename Sums, typename Ring>
__device__ __forceinline__ void add_row_stages(Sums& sums, Ring& ring, SharedArray<float> weights) {
#pragma unroll 1
  for (int slice = 0; slice < kWeightSlices; ++slice) {
    const SharedArray<float> from = ring.next();
    sums.add(weights.from(slice * AttentionOperand::kFloats), from);
  }
}

// The running softmax of one row, kept by the four threads that share it.
struct RunningRow {
  float largest = -std::numeric_limits<float>::infinity();
  float sum = 0.0F;
  float product = 0.0F;  // Σ exp(score − largest) · gradient

  __device__ __forceinline__ bool sees_nothing() const {
    return largest <= static_cast<float>(kSeesNothing);  // false for NaN
  }
};

// NaN stays.
__device__ __forceinline__ float larger(float a, float b) { return !(b <= a) && a == a ? b : a; }

// Takes 64 more scores of each row into its running softmax: threads 4r to 4r + 3 those of row r.
// `weights` holds products q·k. With kKeepWeights they become exp(score − largest); else
// `gradients` are summed under them. Returns what weighs everything added before now.
template <bool kKeepWeights>
__device__ __forceinline__ float take_scores(const AttentionTask& task, std::int64_t sample,
                                             int first_row, int first_column,
                                             SharedArray<float> weights,
                                             SharedArray<float> gradients, RunningRow& row) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  const int r = static_cast<int>(threadIdx.x) / 4;
  const int quarter = static_cast<int>(threadIdx.x) % 4;
  const int t = first_row + r;
  const int visible = t < task.rows ? task.visible(t) : 0;
  float scores[kWeightSlices][4];
  float largest = row.largest;
#pragma unroll
  for (int slice = 0; slice < kWeightSlices; ++slice) {
    const int column = slice * kGemmDepth + quarter * 4;
    const float4 four = load4(weights, weight_at(r, column));
    const float products[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int s = first_column + column + e;
      scores[slice][e] = s < visible ? task.score(sample, t, s, products[e]) : kNone;
      largest = larger(largest, scores[slice][e]);
    }
  }
  largest = larger(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 1));
  largest = larger(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 2));
  const float shift = largest == kNone ? 0.0F : largest;

  float sum = 0.0F;
  float product = 0.0F;
#pragma unroll
  for (int slice = 0; slice < kWeightSlices; ++slice) {
    const int at = weight_at(r, slice * kGemmDepth + quarter * 4);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const bool seen = first_column + slice * kGemmDepth + quarter * 4 + e < visible;
      const float weight = seen ? expf(scores[slice][e] - shift) : 0.0F;
      scores[slice][e] = weight;
      sum += weight;
      if constexpr (!kKeepWeights) product += seen ? weight * gradients[at + e] : 0.0F;
    }
    if constexpr (kKeepWeights) {
      store4(weights, at,
             make_float4(scores[slice][0], scores[slice][1], scores[slice][2], scores[slice][3]));
    }
  }
  sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 1);
  sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 2);
  const float factor = expf(row.largest - shift);
  row.sum = fmaf(row.sum, factor, sum);
  if constexpr (!kKeepWeights) {
    product += __shfl_xor_sync(0xFFFFFFFFU, product, 1);
    product += __shfl_xor_sync(0xFFFFFFFFU, product, 2);
    row.product = fmaf(row.product, factor, product);
  }
  row.largest = largest;
  return factor;
}

}  // namespace fishermask::cuda
