// Around a library's convolution: its order of weights, and bias, residual and ReLU in one pass.
// Deterministic: yes; an element is one thread's.
// Bound by:   memory. The ending costs a pass over y that own kernels do not need.
#include "common/launch.cuh"
#include "ops/aligned.h"
#include "ops/conv_layout.h"

namespace fishermask::cuda {
namespace {

// (outer, rows, columns) to (outer, columns, rows); i counts in `to`.
__device__ __forceinline__ std::int64_t transposed_index(std::int64_t i, std::int64_t rows,
                                                         std::int64_t columns) {
  const std::int64_t outer = i / (rows * columns);
  const std::int64_t rest = i - outer * rows * columns;
  return outer * rows * columns + rest % rows * columns + rest / rows;
}

__global__ void order_kernel(const WeightOrder order, const float* from, float* to) {
  for (std::int64_t i = first_item(); i < order.count(); i += item_step()) {
    to[i] = from[transposed_index(i, order.inputs, order.taps)];
  }
}

__global__ void add_kernel(const WeightOrder order, const float* from, float* to) {
  for (std::int64_t i = first_item(); i < order.count(); i += item_step()) {
    to[i] += from[transposed_index(i, order.taps, order.inputs)];
  }
}

template <int kWidth>
struct alignas(kWidth * sizeof(float)) Values {
  float at[kWidth];
};

template <int kWidth>
__device__ __forceinline__ void add_values(Values<kWidth>& sum, const float* from) {
  const auto other = *reinterpret_cast<const Values<kWidth>*>(from);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) sum.at[i] += other.at[i];
}

template <int kWidth>
__global__ void ending_kernel(const ConvEndingPass pass) {
  const std::int64_t count = pass.rows * pass.channels / kWidth;
  const auto per_row = static_cast<unsigned>(pass.channels / kWidth);
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    auto* const y = reinterpret_cast<Values<kWidth>*>(pass.y) + i;
    Values<kWidth> sum = *y;
    if (pass.bias != nullptr) {
      add_values(sum, pass.bias + static_cast<unsigned>(i) % per_row * kWidth);
    }
    if (pass.residual != nullptr) add_values(sum, pass.residual + i * kWidth);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      if (pass.relu && sum.at[j] < 0.0F) sum.at[j] = 0.0F;  // NaN passes through
    }
    *y = sum;
  }
}

bool in_fours(const ConvEndingPass& pass) {
  return pass.channels % 4 == 0 && aligned16(pass.y) && aligned16(pass.bias) &&
         aligned16(pass.residual);
}

}  // namespace

void order_channels_last(cudaStream_t stream, const WeightOrder& order, const float* from,
                         float* to) {
  launch("conv_weight_order", stream, over(order.count()), order_kernel, order, from, to);
}

void add_channels_last(cudaStream_t stream, const WeightOrder& order, const float* from,
                       float* to) {
  launch("conv_weight_add", stream, over(order.count()), add_kernel, order, from, to);
}

void end_convolution(cudaStream_t stream, const ConvEndingPass& pass) {
  if (pass.nothing() || pass.rows == 0) return;
  const std::int64_t count = pass.rows * pass.channels;
  if (in_fours(pass)) {
    launch("conv_ending", stream, over(count / 4), ending_kernel<4>, pass);
  } else {
    launch("conv_ending", stream, over(count), ending_kernel<1>, pass);
  }
}

}  // namespace fishermask::cuda
