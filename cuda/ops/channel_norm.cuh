// The elementwise passes of batch_norm and group_norm over (segments, rows, C), with factors
// (segments, C): batch_norm has one segment, group_norm one per sample.
//
//   normalise        y  = (x − mean) · scale + shift, then + residual, then max(·, 0)
//   norm_gradient    gx = g · scale − offset − (x − mean) · slope, or added to gx
//
// A thread keeps the factors of kWidth channels (4 where C and the pointers allow) and walks rows.
// Deterministic: yes. Bound by memory.
#pragma once

#include "ops/channel_sums.cuh"

namespace fishermask::cuda {

struct NormFactors {
  const float* mean = nullptr;
  const float* scale = nullptr;
  const float* shift = nullptr;  // normalise: shift; norm_gradient: offset
  const float* slope = nullptr;  // norm_gradient; null: offset and slope are 0
};

struct NormWalk {
  std::int64_t segments = 1, rows = 1, channels = 1;
};

template <int kWidth>
struct Few {
  float v[kWidth];
};
template <int kWidth>
__device__ __forceinline__ Few<kWidth> load_few(const float* from) {
  if constexpr (kWidth == 4) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    return {{four.x, four.y, four.z, four.w}};
  } else {
    return {{*from}};
  }
}
template <int kWidth>
__device__ __forceinline__ void store_few(float* to, const Few<kWidth>& few) {
  if constexpr (kWidth == 4) {
    *reinterpret_cast<float4*>(to) = make_float4(few.v[0], few.v[1], few.v[2], few.v[3]);
  } else {
    *to = few.v[0];
  }
}

// body(first of kWidth elements) for this thread's rows; begin(first factor) before each segment.
template <int kWidth, typename Begin, typename Body>
__device__ __forceinline__ void walk_channels(const NormWalk& walk, const Begin& begin,
                                              const Body& body) {
  const std::int64_t channel = (std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * kWidth;
  if (channel >= walk.channels) return;
  for (std::int64_t segment = blockIdx.z; segment < walk.segments; segment += gridDim.z) {
    begin(segment * walk.channels + channel);
    const std::int64_t first = segment * walk.rows * walk.channels + channel;
    const std::int64_t step = std::int64_t{gridDim.x} * blockDim.y;
    for (std::int64_t row = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y; row < walk.rows;
         row += step) {
      body(first + row * walk.channels);
    }
  }
}

template <int kWidth>
__global__ void __launch_bounds__(ChannelTuning::kThreads)
    normalise_kernel(const NormWalk walk, const NormFactors by, const float* x,
                     const float* residual, bool relu, float* y) {
  Few<kWidth> mean, scale, shift;
  walk_channels<kWidth>(
      walk,
      [&](std::int64_t at) {
        mean = load_few<kWidth>(by.mean + at);
        scale = load_few<kWidth>(by.scale + at);
        shift = load_few<kWidth>(by.shift + at);
      },
      [&](std::int64_t at) {
        Few<kWidth> value = load_few<kWidth>(x + at);
#pragma unroll
        for (int j = 0; j < kWidth; ++j) {
          value.v[j] = (value.v[j] - mean.v[j]) * scale.v[j] + shift.v[j];
        }
        if (residual != nullptr) {
          const Few<kWidth> more = load_few<kWidth>(residual + at);
#pragma unroll
          for (int j = 0; j < kWidth; ++j) value.v[j] += more.v[j];
        }
        if (relu) {
#pragma unroll
          // NaN passes through.
          for (int j = 0; j < kWidth; ++j) value.v[j] = value.v[j] < 0.0F ? 0.0F : value.v[j];
        }
        store_few<kWidth>(y + at, value);
      });
}

template <int kWidth>
__global__ void __launch_bounds__(ChannelTuning::kThreads)
    norm_gradient_kernel(const NormWalk walk, const NormFactors by, const float* x,
                         const float* grad_output, bool add, float* grad_input) {
  const bool centred = by.slope != nullptr;
  Few<kWidth> mean{}, scale, offset{}, slope{};
  walk_channels<kWidth>(
      walk,
      [&](std::int64_t at) {
        scale = load_few<kWidth>(by.scale + at);
        if (!centred) return;
        mean = load_few<kWidth>(by.mean + at);
        offset = load_few<kWidth>(by.shift + at);
        slope = load_few<kWidth>(by.slope + at);
      },
      [&](std::int64_t at) {
        Few<kWidth> value = load_few<kWidth>(grad_output + at);
#pragma unroll
        for (int j = 0; j < kWidth; ++j) value.v[j] *= scale.v[j];
        if (centred) {
          const Few<kWidth> input = load_few<kWidth>(x + at);
#pragma unroll
          for (int j = 0; j < kWidth; ++j) {
            value.v[j] -= offset.v[j] + (input.v[j] - mean.v[j]) * slope.v[j];
          }
        }
        if (add) {
          const Few<kWidth> old = load_few<kWidth>(grad_input + at);
#pragma unroll
          for (int j = 0; j < kWidth; ++j) value.v[j] += old.v[j];
        }
        store_few<kWidth>(grad_input + at, value);
      });
}

[[nodiscard]] inline LaunchShape over_channels(const NormWalk& walk, int width) {
  const ChannelBlock block = channel_block((walk.channels + width - 1) / width);
  const std::int64_t wide = std::int64_t{block.lanes} * width;
  const std::int64_t blocks = walk.rows / (block.high * ChannelTuning::kRowsPerThread) + 1;
  return {dim3(static_cast<unsigned>(std::min(blocks, kMostBlocks)),
               static_cast<unsigned>((walk.channels + wide - 1) / wide),
               static_cast<unsigned>(std::min(walk.segments, ChannelTuning::kMostGrid))),
          dim3(static_cast<unsigned>(block.lanes), static_cast<unsigned>(block.high)), 0};
}

[[nodiscard]] inline bool four_wide(std::int64_t channels, const float* a, const float* b,
                                    const float* c) {
  const auto bits = reinterpret_cast<std::uintptr_t>(a) | reinterpret_cast<std::uintptr_t>(b) |
                    reinterpret_cast<std::uintptr_t>(c);
  return channels % 4 == 0 && bits % 16 == 0;
}

inline void normalise_channels(cudaStream_t stream, const NormWalk& walk, const NormFactors& by,
                               const float* x, const float* residual, bool relu, float* y) {
  if (walk.segments * walk.rows * walk.channels == 0) return;
  if (four_wide(walk.channels, x, residual, y)) {
    launch("normalise", stream, over_channels(walk, 4), normalise_kernel<4>, walk, by, x, residual,
           relu, y);
  } else {
    launch("normalise", stream, over_channels(walk, 1), normalise_kernel<1>, walk, by, x, residual,
           relu, y);
  }
}

inline void norm_input_gradient(cudaStream_t stream, const NormWalk& walk, const NormFactors& by,
                                const float* x, const float* grad_output, bool add,
                                float* grad_input) {
  if (walk.segments * walk.rows * walk.channels == 0) return;
  if (four_wide(walk.channels, x, grad_output, grad_input)) {
    launch("norm_gradient", stream, over_channels(walk, 4), norm_gradient_kernel<4>, walk, by, x,
           grad_output, add, grad_input);
  } else {
    launch("norm_gradient", stream, over_channels(walk, 1), norm_gradient_kernel<1>, walk, by, x,
           grad_output, add, grad_input);
  }
}

// Of a norm's gradient: first += g, second += g · (x − centre). Moments: first += x − centre,
// second += (x − centre)².
__device__ __forceinline__ void add_projected(float grad, double away, TwoSums& sums) {
  sums.first += grad;
  sums.second += grad * away;
}
__device__ __forceinline__ void add_moments(double away, TwoSums& sums) {
  sums.first += away;
  sums.second += away * away;
}

}  // namespace fishermask::cuda
