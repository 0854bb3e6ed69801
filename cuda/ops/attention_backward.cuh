// The gradients of attention, from q, k, v, the mask and δ = grad y alone: scores are computed
// again.
//
//   P = exp(score − largest) · inverse,  G = δ·vᵀ,  D_t = Σ_s P·G,  Z = P · (G − D)
//   grad q = scale · Z·k,  grad k = scale · Zᵀ·q,  grad v = Pᵀ·δ,  grad mask = Z summed
//
// attention_grad_queries walks over the columns twice: first for largest, inverse and D (left for
// the other kernels as `statistics`), then for grad q. attention_grad_keys takes 64 columns of one
// key-value head and walks over the rows of its heads; attention_grad_mask takes a tile of the mask
// and walks over the heads (and rows, for a mask of (S)). Every gradient is summed by one block in
// a fixed order: no atomics. Deterministic: yes.
#pragma once

#include "common/launch.cuh"
#include "ops/attention_tile.cuh"

namespace fishermask::cuda {

template <int kHead>
struct BackwardMemory {
  static constexpr int kWeights = AttentionStage<kHead>::kRingFloats;
  static constexpr int kGradients = kWeights + kWeightFloats;
  static constexpr int kStatistics = kGradients + kWeightFloats;
  static constexpr std::size_t kBytes = (kStatistics + 3 * kAttentionTile) * sizeof(float);
};

// The statistics of 64 rows in shared memory, as three arrays.
__device__ __forceinline__ void put_statistics(SharedArray<float> to, int r,
                                               const RowStatistics& row) {
  to[r] = row.largest;
  to[kAttentionTile + r] = row.inverse;
  to[2 * kAttentionTile + r] = row.mean;
}
__device__ __forceinline__ RowStatistics statistics_at(SharedArray<float> from, int r) {
  return {from[r], from[kAttentionTile + r], from[2 * kAttentionTile + r]};
}
__device__ __forceinline__ void load_statistics(SharedArray<float> to, const AttentionTask& task,
                                                std::int64_t sample, int head, int first_row) {
  const int r = static_cast<int>(threadIdx.x);
  if (r >= kAttentionTile) return;
  RowStatistics row = {0.0F, 0.0F, 0.0F};
  if (first_row + r < task.rows) {
    const float* const from = task.statistics_of(sample, head, first_row + r);
    row = {from[0], from[1], from[2]};
  }
  put_statistics(to, r, row);
}

__device__ __forceinline__ RowStatistics statistics_of(const RunningRow& row) {
  if (row.sees_nothing()) return {0.0F, 0.0F, 0.0F};
  const float inverse = 1.0F / row.sum;
  return {row.largest, inverse, row.product * inverse};
}

// P and Z of row t and column s.
struct WeightAndGradient {
  float weight = 0.0F;
  float gradient = 0.0F;
};
__device__ __forceinline__ WeightAndGradient weigh(const AttentionTask& task, std::int64_t sample,
                                                   int t, int s, const RowStatistics& row,
                                                   float product, float gradient) {
  if (t >= task.rows || s >= task.visible(t)) return {};
  const float weight = expf(task.score(sample, t, s, product) - row.largest) * row.inverse;
  return {weight, weight * (gradient - row.mean)};
}

template <int kHead, Precision kPrecision>
__global__ void __launch_bounds__(kAttentionThreads, 1)
    attention_grad_queries(const __grid_constant__ AttentionTask task) {
  using Memory = BackwardMemory<kHead>;
  using Stage = AttentionStage<kHead>;
  FM_DYNAMIC_SHARED(float, stages, 0, Stage::kRingFloats);
  FM_DYNAMIC_SHARED(float, weights, Memory::kWeights * 4, kWeightFloats);
  FM_DYNAMIC_SHARED(float, gradients, Memory::kGradients * 4, kWeightFloats);
  FM_DYNAMIC_SHARED(float, statistics, Memory::kStatistics * 4, 3 * kAttentionTile);
  ScoreSums<kPrecision> scores;
  ScoreSums<kPrecision> score_gradients;
  HeadSums<kHead, kPrecision> output;

  const int row_tiles = task.row_tiles();
  const std::int64_t items = task.batch * task.heads * row_tiles;
  for (std::int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int first_row = static_cast<int>(item % row_tiles) * kAttentionTile;
    const int head = static_cast<int>(item / row_tiles % task.heads);
    const int kv_head = head / (task.heads / task.kv_heads);
    const std::int64_t sample = item / row_tiles / task.heads;
    const int columns = task.visible(std::min(first_row + kAttentionTile, task.rows) - 1);
    const int tiles = (columns + kAttentionTile - 1) / kAttentionTile;
    const int key_stages = task.key_stages();
    const int score_stages = key_stages + task.value_stages();
    const int tile_stages = score_stages + kWeightSlices;
    const int first_pass = tiles * score_stages;
    const int second_pass = task.grad_q == nullptr ? 0 : tiles * tile_stages;

    const auto begin = [&](int stage, SharedArray<float> to) {
      const bool second = stage >= first_pass;
      const int of_pass = second ? stage - first_pass : stage;
      const int length = second ? tile_stages : score_stages;
      const int first = of_pass / length * kAttentionTile;
      const int part = of_pass % length;
      if (part < key_stages) {
        begin_score_stage(to, task.queries(sample, head), first_row, task.keys(sample, kv_head),
                          first, part);
      } else if (part < score_stages) {
        begin_score_stage(to, task.output_gradients(sample, head), first_row,
                          task.values(sample, kv_head), first, part - key_stages);
      } else {
        begin_row_stage<kHead>(to, task.keys(sample, kv_head),
                               first + (part - score_stages) * kGemmDepth);
      }
    };
    StageRing<kAttentionStages, Stage::kFloats, decltype(begin)> ring(
        stages, 0, first_pass + second_pass, begin);
    const auto add_scores = [&] {
      scores.clear();
      score_gradients.clear();
      add_score_stages(scores, ring, key_stages);
      add_score_stages(score_gradients, ring, score_stages - key_stages);
    };

    RunningRow row;
    for (int tile = 0; tile < tiles; ++tile) {
      add_scores();
      scores.for_each_with(score_gradients, [&](int r, int c, float product, float gradient) {
        weights[weight_at(r, c)] = product;
        gradients[weight_at(r, c)] = gradient;
      });
      __syncthreads();
      take_scores<false>(task, sample, first_row, tile * kAttentionTile, weights, gradients, row);
    }
    if (threadIdx.x % 4 == 0) {
      const int r = static_cast<int>(threadIdx.x) / 4;
      const RowStatistics found = statistics_of(row);
      put_statistics(statistics, r, found);
      if (first_row + r < task.rows) {
        float* const to = task.statistics_of(sample, head, first_row + r);
        to[0] = found.largest;
        to[1] = found.inverse;
        to[2] = found.mean;
      }
    }

    output.clear();
    if (task.grad_q != nullptr) {
      for (int tile = 0; tile < tiles; ++tile) {
        add_scores();
        scores.for_each_with(score_gradients, [&](int r, int c, float product, float gradient) {
          const float z = weigh(task, sample, first_row + r, tile * kAttentionTile + c,
                                statistics_at(statistics, r), product, gradient)
                              .gradient;
          weights[weight_at(r, c)] = task.scale * z;
        });
        add_row_stages(output, ring, weights);
      }
    }
    ring.finish();

    if (task.grad_q != nullptr) {
      float* const grad = task.grad_q + task.query_at(sample, head);
      output.for_each([&](int r, int c, float sum) {
        const int t = first_row + r;
        if (t >= task.rows || c >= task.key) return;
        float* const to = grad + std::int64_t{t} * task.heads * task.key + c;
        *to = task.add_q ? *to + sum : sum;
      });
    }
    __syncthreads();
  }
}

// The sums of both gradients of heads above 128 do not fit the registers: they take a launch each.
enum class KeyGradients : std::uint8_t { kBoth, kKeys, kValues };

// Rows of the tiles are columns s, so that P and Z lie as left operands of their products.
template <int kHead, Precision kPrecision, KeyGradients kWanted>
__global__ void __launch_bounds__(kAttentionThreads, 1)
    attention_grad_keys(const __grid_constant__ AttentionTask task) {
  using Memory = BackwardMemory<kHead>;
  using Stage = AttentionStage<kHead>;
  FM_DYNAMIC_SHARED(float, stages, 0, Stage::kRingFloats);
  FM_DYNAMIC_SHARED(float, weights, Memory::kWeights * 4, kWeightFloats);
  FM_DYNAMIC_SHARED(float, gradients, Memory::kGradients * 4, kWeightFloats);
  FM_DYNAMIC_SHARED(float, statistics, Memory::kStatistics * 4, 3 * kAttentionTile);
  ScoreSums<kPrecision> scores;
  ScoreSums<kPrecision> score_gradients;
  HeadSums<kHead, kPrecision> keys;
  HeadSums<kHead, kPrecision> values;

  const bool want_keys = kWanted != KeyGradients::kValues && task.grad_k != nullptr;
  const bool want_values = kWanted != KeyGradients::kKeys && task.grad_v != nullptr;
  const int column_tiles = task.column_tiles();
  const int group = task.heads / task.kv_heads;
  const std::int64_t items = task.batch * task.kv_heads * column_tiles;
  for (std::int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int first_column = static_cast<int>(item % column_tiles) * kAttentionTile;
    const int kv_head = static_cast<int>(item / column_tiles % task.kv_heads);
    const std::int64_t sample = item / column_tiles / task.kv_heads;
    // Rows before this see none of these columns.
    const int first_row = task.causal ? std::max(0, first_column + task.rows - task.columns) : 0;
    const int first_tile = std::min(first_row / kAttentionTile, task.row_tiles());
    const int tiles = task.row_tiles() - first_tile;
    const int key_stages = task.key_stages();
    const int score_stages = key_stages + task.value_stages();
    const int value_end = score_stages + (want_values ? kWeightSlices : 0);
    const int tile_stages = value_end + (want_keys ? kWeightSlices : 0);

    const auto begin = [&](int stage, SharedArray<float> to) {
      const int step = stage / tile_stages;
      const int part = stage % tile_stages;
      const int head = kv_head * group + step / tiles;
      const int first = (first_tile + step % tiles) * kAttentionTile;
      if (part < key_stages) {
        begin_score_stage(to, task.keys(sample, kv_head), first_column, task.queries(sample, head),
                          first, part);
      } else if (part < score_stages) {
        begin_score_stage(to, task.values(sample, kv_head), first_column,
                          task.output_gradients(sample, head), first, part - key_stages);
      } else if (part < value_end) {
        begin_row_stage<kHead>(to, task.output_gradients(sample, head),
                               first + (part - score_stages) * kGemmDepth);
      } else {
        begin_row_stage<kHead>(to, task.queries(sample, head),
                               first + (part - value_end) * kGemmDepth);
      }
    };
    StageRing<kAttentionStages, Stage::kFloats, decltype(begin)> ring(
        stages, 0, group * tiles * tile_stages, begin);
    keys.clear();
    values.clear();
#pragma unroll 1
    for (int step = 0; step < group * tiles; ++step) {
      const int head = kv_head * group + step / tiles;
      const int first = (first_tile + step % tiles) * kAttentionTile;
      scores.clear();
      score_gradients.clear();
      add_score_stages(scores, ring, key_stages);
      // Behind a barrier after the last reading, and before one ahead of the next.
      load_statistics(statistics, task, sample, head, first);
      add_score_stages(score_gradients, ring, score_stages - key_stages);
      scores.for_each_with(score_gradients, [&](int r, int c, float product, float gradient) {
        const WeightAndGradient found = weigh(task, sample, first + c, first_column + r,
                                              statistics_at(statistics, c), product, gradient);
        weights[weight_at(r, c)] = found.weight;
        gradients[weight_at(r, c)] = task.scale * found.gradient;
      });
      if (want_values) add_row_stages(values, ring, weights);
      if (want_keys) add_row_stages(keys, ring, gradients);
    }
    ring.finish();

    // Keys first: the two gradients may be the same memory.
    const auto write = [&](HeadSums<kHead, kPrecision>& sums, float* grad, int size, bool add) {
      sums.for_each([&](int r, int c, float sum) {
        const int s = first_column + r;
        if (s >= task.columns || c >= size) return;
        float* const to = grad + std::int64_t{s} * task.kv_heads * size + c;
        *to = add ? *to + sum : sum;
      });
    };
    if (want_keys) {
      write(keys, task.grad_k + task.key_at(sample, kv_head), task.key, task.add_k);
    }
    if (want_values) {
      write(values, task.grad_v + task.value_at(sample, kv_head), task.value, task.add_v);
    }
  }
}

// A mask of (T, S): a block per tile of it; of (S): per 64 columns, over all rows.
template <Precision kPrecision>
__global__ void __launch_bounds__(kAttentionThreads, 2)
    attention_grad_mask(const __grid_constant__ AttentionTask task) {
  using Memory = BackwardMemory<kAttentionTile>;
  using Stage = AttentionStage<kAttentionTile>;
  FM_DYNAMIC_SHARED(float, stages, 0, Stage::kRingFloats);
  FM_DYNAMIC_SHARED(float, weights, Memory::kWeights * 4, kWeightFloats);
  FM_DYNAMIC_SHARED(float, statistics, Memory::kStatistics * 4, 3 * kAttentionTile);
  ScoreSums<kPrecision> scores;
  ScoreSums<kPrecision> score_gradients;
  ScoreSums<kPrecision> total;

  const bool by_row = task.mask_rows > 1;
  const int group = task.heads / task.kv_heads;
  const int column_tiles = task.column_tiles();
  const int row_items = by_row ? task.row_tiles() : 1;
  const int tiles = by_row ? 1 : task.row_tiles();
  const int key_stages = task.key_stages();
  const int tile_stages = key_stages + task.value_stages();
  const std::int64_t items = task.batch * row_items * column_tiles;
  for (std::int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int first_column = static_cast<int>(item % column_tiles) * kAttentionTile;
    const int row_item = static_cast<int>(item / column_tiles % row_items);
    const std::int64_t sample = item / column_tiles / row_items;
    const auto first_row_of = [&](int step) { return (row_item + step % tiles) * kAttentionTile; };

    const auto begin = [&](int stage, SharedArray<float> to) {
      const int step = stage / tile_stages;
      const int part = stage % tile_stages;
      const int head = step / tiles;
      if (part < key_stages) {
        begin_score_stage(to, task.queries(sample, head), first_row_of(step),
                          task.keys(sample, head / group), first_column, part);
      } else {
        begin_score_stage(to, task.output_gradients(sample, head), first_row_of(step),
                          task.values(sample, head / group), first_column, part - key_stages);
      }
    };
    const int steps = task.heads * tiles;
    StageRing<kAttentionStages, Stage::kFloats, decltype(begin)> ring(stages, 0,
                                                                      steps * tile_stages, begin);
    total.clear();
    for (int step = 0; step < steps; ++step) {
      scores.clear();
      score_gradients.clear();
      add_score_stages(scores, ring, key_stages);
      load_statistics(statistics, task, sample, step / tiles, first_row_of(step));
      add_score_stages(score_gradients, ring, tile_stages - key_stages);
      scores.for_each_with(score_gradients, [&](int r, int c, float& product, float gradient) {
        product = weigh(task, sample, first_row_of(step) + r, first_column + c,
                        statistics_at(statistics, r), product, gradient)
                      .gradient;
      });
      total.for_each_with(scores, [](int, int, float& sum, float z) { sum += z; });
    }
    ring.finish();

    float* const grad = task.grad_mask + sample * task.mask_rows * task.columns;
    const auto write = [&](int t, int s, float sum) {
      float* const to = grad + std::int64_t{t} * task.columns + s;
      *to = task.add_mask ? *to + sum : sum;
    };
    if (by_row) {
      total.for_each([&](int r, int c, float sum) {
        const int t = first_row_of(0) + r;
        if (t < task.rows && first_column + c < task.columns) write(t, first_column + c, sum);
      });
    } else {
      total.for_each([&](int r, int c, float sum) { weights[weight_at(r, c)] = sum; });
      __syncthreads();
      const int c = static_cast<int>(threadIdx.x);
      if (c < kAttentionTile && first_column + c < task.columns) {
        float sum = 0.0F;
        for (int r = 0; r < kAttentionTile; ++r) sum += weights[weight_at(r, c)];
        write(0, first_column + c, sum);
      }
    }
    __syncthreads();
  }
}

}  // namespace fishermask::cuda
