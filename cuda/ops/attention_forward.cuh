// y = softmax(scale · q·kᵀ + mask) · v by running softmax: a block takes 64 rows of one head and
// walks over tiles of 64 columns. Nothing of size T·S is written.
// Shared memory: the ring of stages, 64 × 64 weights, 64 factors. Deterministic: yes.
#pragma once

#include "common/launch.cuh"
#include "ops/attention_tile.cuh"

namespace fishermask::cuda {

template <int kHead>
struct ForwardMemory {
  static constexpr int kWeights = AttentionStage<kHead>::kRingFloats;
  static constexpr int kFactors = kWeights + kWeightFloats;
  static constexpr std::size_t kBytes = (kFactors + kAttentionTile) * sizeof(float);
};

template <int kHead, Precision kPrecision>
__global__ void __launch_bounds__(kAttentionThreads, kHead <= 64 ? 2 : 1)
    attention_forward(const __grid_constant__ AttentionTask task) {
  using Memory = ForwardMemory<kHead>;
  using Stage = AttentionStage<kHead>;
  FM_DYNAMIC_SHARED(float, stages, 0, Stage::kRingFloats);
  FM_DYNAMIC_SHARED(float, weights, Memory::kWeights * 4, kWeightFloats);
  FM_DYNAMIC_SHARED(float, factors, Memory::kFactors * 4, kAttentionTile);
  HeadSums<kHead, kPrecision> output;
  ScoreSums<kPrecision> scores;

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
    const int tile_stages = key_stages + kWeightSlices;

    const auto begin = [&](int stage, SharedArray<float> to) {
      const int first = stage / tile_stages * kAttentionTile;
      const int part = stage % tile_stages;
      if (part < key_stages) {
        begin_score_stage(to, task.queries(sample, head), first_row, task.keys(sample, kv_head),
                          first, part);
      } else {
        begin_row_stage<kHead>(to, task.values(sample, kv_head),
                               first + (part - key_stages) * kGemmDepth);
      }
    };
    StageRing<kAttentionStages, Stage::kFloats, decltype(begin)> ring(stages, 0,
                                                                      tiles * tile_stages, begin);
    RunningRow row;
    output.clear();
    for (int tile = 0; tile < tiles; ++tile) {
      scores.clear();
      add_score_stages(scores, ring, key_stages);
      scores.for_each([&](int r, int c, float product) { weights[weight_at(r, c)] = product; });
      __syncthreads();
      const float factor =
          take_scores<true>(task, sample, first_row, tile * kAttentionTile, weights, weights, row);
      if (threadIdx.x % 4 == 0) factors[static_cast<int>(threadIdx.x) / 4] = factor;
      __syncthreads();
      output.for_each([&](int r, int, float& sum) { sum *= factors[r]; });
      add_row_stages(output, ring, weights);
    }
    ring.finish();

    if (threadIdx.x % 4 == 0) {
      factors[static_cast<int>(threadIdx.x) / 4] = row.sees_nothing() ? 0.0F : 1.0F / row.sum;
    }
    __syncthreads();
    float* const y = task.y + task.output_at(sample, head);
    output.for_each([&](int r, int c, float sum) {
      const int t = first_row + r;
      if (t >= task.rows || c >= task.value) return;
      // A row that sees nothing gives zeros, whatever the values are.
      const float factor = factors[r];
      y[std::int64_t{t} * task.heads * task.value + c] = factor == 0.0F ? 0.0F : sum * factor;
    });
    __syncthreads();
  }
}

}  // namespace fishermask::cuda
