// Tied embeddings (tied.h): the second term, B·(2A + B), of the rows that a sample holds. One block
// owns a row and up to kThreads channels, and takes the samples that hold it in their order.
// Bound by: reading h of each (sample, row) pair, T·C floats for T·C products; with T distinct
// tokens a sample that is T²·C products beside the T·V·C of the head itself.
#include <algorithm>

#include "common/launch.cuh"
#include "common/mma.cuh"
#include "fisher/contraction.h"
#include "fisher/row_runs.cuh"
#include "fisher/tied.h"

namespace fishermask::cuda {
namespace {

constexpr int kThreads = 128;
// Of one processor at once: without a number the compiler aims at so many that it spills.
constexpr int kBlocks = 4;

// An operand as the products of the fused kernel see it.
template <Precision kPrecision>
__device__ __forceinline__ float rounded(float value) {
  if constexpr (kPrecision == Precision::kTf32) return __uint_as_float(tf32_bits(value));
  if constexpr (kPrecision == Precision::kBf16) return bf16_value(bf16_bits(value));
  return value;
}

// A_n[row, c]
template <Precision kPrecision>
__device__ __forceinline__ double head_gradient(const ContractionForm& head, std::int64_t n,
                                                unsigned row, std::int64_t c) {
  const std::int64_t first = n * head.out_width;
  const float* grad = head.grad_output + first * head.out_channels + row;
  const float* input = head.input + first * head.in_channels + c;
  float sum = 0.0F;
#pragma unroll 4
  for (std::int64_t t = 0; t < head.out_width; ++t) {
    sum = fmaf(rounded<kPrecision>(grad[t * head.out_channels]),
               rounded<kPrecision>(input[t * head.in_channels]), sum);
  }
  return static_cast<double>(sum);
}

template <Precision kPrecision>
__global__ void __launch_bounds__(kThreads, kBlocks)
    tied_rows(const ContractionForm head, const IdKey* keys, std::int64_t count,
              FastDivide by_positions, const float* grad, std::int64_t channels, double* sums) {
  for (std::int64_t e = blockIdx.x; e < count; e += gridDim.x) {
    if (keys[e] == kNoRow) return;  // so are all behind it
    if (!begins_row(keys, e)) continue;
    const unsigned row = row_of(keys[e]);
    for (std::int64_t c = static_cast<std::int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
         c < channels; c += static_cast<std::int64_t>(gridDim.y) * blockDim.x) {
      double terms = 0.0;
      walk_row(keys, e, count, by_positions, grad, channels, c, [&](int sample, double b) {
        const double a = head_gradient<kPrecision>(head, sample, row, c);
        terms += b * (2 * a + b);
      });
      sums[row * channels + c] += terms;
    }
  }
}

template <Precision kPrecision>
void add_cross_terms(Backend& backend, const ContractionForm& head, const ScatterForm& embedding,
                     const SortedIds& sorted, double* sums) {
  const std::int64_t threads =
      std::min<std::int64_t>((embedding.channels + 31) / 32 * 32, kThreads);
  const std::int64_t channel_blocks =
      std::min<std::int64_t>((embedding.channels + threads - 1) / threads, 65535);
  launch("tied_rows", backend.stream(),
         {dim3(static_cast<unsigned>(std::min<std::int64_t>(sorted.count, kMostBlocks)),
               static_cast<unsigned>(channel_blocks)),
          dim3(static_cast<unsigned>(threads))},
         tied_rows<kPrecision>, head, sorted.keys.data(), sorted.count,
         FastDivide(embedding.positions), embedding.grad_output, embedding.channels, sums);
}

}  // namespace

bool is_tied(const ContractionForm& head, const ScatterForm& embedding) {
  return head.groups == 1 && head.kernel_height == 1 && head.kernel_width == 1 &&
         head.in_height == 1 && head.out_height == 1 && head.in_width == head.out_width &&
         head.pad_top == 0 && head.pad_left == 0 && head.stride_width == 1 &&
         head.batch == embedding.batch && head.out_channels == embedding.rows &&
         head.in_channels == embedding.channels;
}

void accumulate_tied(Backend& backend, const ContractionForm& head, const ScatterForm& embedding,
                     double* sums) {
  const SortedIds sorted = sort_ids(backend, embedding);
  accumulate_contraction(backend, head, sums);
  if (sorted.count == 0) return;
  switch (backend.matmul_precision()) {
    case Precision::kF32:
      return add_cross_terms<Precision::kF32>(backend, head, embedding, sorted, sums);
    case Precision::kTf32:
      return add_cross_terms<Precision::kTf32>(backend, head, embedding, sorted, sums);
    case Precision::kBf16:
      return add_cross_terms<Precision::kBf16>(backend, head, embedding, sorted, sums);
  }
}

}  // namespace fishermask::cuda
