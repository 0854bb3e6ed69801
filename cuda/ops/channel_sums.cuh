// Sums over the rows of (segments, rows, C) for every channel: the bias gradient of a convolution
// (one segment), batch_norm's statistics and gradients (one), group_norm's (one per sample).
//
//   Term     term.start(segment, channel) once per thread and channel, then for every row
//            term.add(offset, sums): offset of the element in (segments, rows, C)
//   Finish   finish(segment, channel, sums) once per segment and channel
//
// A block of `lanes` channels by 256/lanes rows sums one chunk of rows; a second launch adds the
// chunks. All sums in f64.
// Workspace:  scratch: two f64 per segment, chunk and channel.
// Deterministic: yes, on one kind of device: the number of chunks follows from the sizes and the
//             device's processors, and every sum runs in a fixed order.
// Bound by memory: every value is read once.
#pragma once

#include "common/backend.h"
#include "common/launch.cuh"
#include "common/shared.cuh"

namespace fishermask::cuda {

struct TwoSums {
  double first = 0.0, second = 0.0;
};

// Not measured on a GPU: eight blocks a processor hide the memory's latency; a chunk gives every
// thread at least eight rows.
struct ChannelTuning {
  static constexpr int kThreads = 256;
  static constexpr std::int64_t kBlocksPerProcessor = 8;
  static constexpr std::int64_t kRowsPerThread = 8;
  static constexpr std::int64_t kMostGrid = 65535;  // of y and z
};

// How the threads of a block lie over channels and rows.
struct ChannelBlock {
  int lanes = 32;  // channels
  int high = 8;    // rows
};
[[nodiscard]] inline ChannelBlock channel_block(std::int64_t channels) {
  ChannelBlock block;
  block.lanes = 1;
  while (block.lanes < 32 && block.lanes < channels) block.lanes *= 2;
  block.high = ChannelTuning::kThreads / block.lanes;
  return block;
}

// The sum over the rows of a block; valid where threadIdx.y is 0. Every thread must call.
__device__ __forceinline__ TwoSums sum_rows(TwoSums sums) {
  FM_SHARED(double, parts, 2 * ChannelTuning::kThreads);
  const int lanes = static_cast<int>(blockDim.x);
  const int thread = static_cast<int>(threadIdx.y) * lanes + static_cast<int>(threadIdx.x);
  parts[thread] = sums.first;
  parts[ChannelTuning::kThreads + thread] = sums.second;
  __syncthreads();
  for (int half = static_cast<int>(blockDim.y) / 2; half > 0; half /= 2) {
    if (static_cast<int>(threadIdx.y) < half) {
      const int other = thread + half * lanes;
      parts[thread] += parts[other];
      parts[ChannelTuning::kThreads + thread] += parts[ChannelTuning::kThreads + other];
    }
    __syncthreads();
  }
  const TwoSums total{parts[static_cast<int>(threadIdx.x)],
                      parts[ChannelTuning::kThreads + static_cast<int>(threadIdx.x)]};
  __syncthreads();  // the next call may write
  return total;
}

template <typename Term>
__global__ void __launch_bounds__(ChannelTuning::kThreads)
    channel_partials(const Term of, std::int64_t segments, std::int64_t rows, std::int64_t channels,
                     std::int64_t chunk_rows, double* partial) {
  const std::int64_t channel = std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x;
  const std::int64_t begin = std::int64_t{blockIdx.x} * chunk_rows;
  const std::int64_t end = begin + chunk_rows < rows ? begin + chunk_rows : rows;
  for (std::int64_t segment = blockIdx.z; segment < segments; segment += gridDim.z) {
    TwoSums sums;
    if (channel < channels) {
      Term term = of;
      term.start(segment, channel);
      const std::int64_t first = segment * rows * channels + channel;
#pragma unroll 4
      for (std::int64_t row = begin + threadIdx.y; row < end; row += blockDim.y) {
        term.add(first + row * channels, sums);
      }
    }
    sums = sum_rows(sums);
    if (threadIdx.y == 0 && channel < channels) {
      double* const to = partial + (segment * gridDim.x + blockIdx.x) * 2 * channels + channel;
      to[0] = sums.first;
      to[channels] = sums.second;
    }
  }
}

template <typename Finish>
__global__ void __launch_bounds__(ChannelTuning::kThreads)
    channel_finish(const double* partial, std::int64_t segments, std::int64_t chunks,
                   std::int64_t channels, const Finish finish) {
  const std::int64_t channel = std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x;
  for (std::int64_t segment = blockIdx.z; segment < segments; segment += gridDim.z) {
    TwoSums sums;
    for (std::int64_t chunk = threadIdx.y; channel < channels && chunk < chunks;
         chunk += blockDim.y) {
      const double* const from = partial + (segment * chunks + chunk) * 2 * channels + channel;
      sums.first += from[0];
      sums.second += from[channels];
    }
    sums = sum_rows(sums);
    if (threadIdx.y == 0 && channel < channels) finish(segment, channel, sums);
  }
}

template <typename Term, typename Finish>
void sum_channels(Backend& backend, const char* name, std::int64_t segments, std::int64_t rows,
                  std::int64_t channels, const Term& term, const Finish& finish) {
  if (segments == 0 || channels == 0) return;
  const ChannelBlock block = channel_block(channels);
  const std::int64_t tiles = (channels + block.lanes - 1) / block.lanes;
  const std::int64_t wanted =
      ChannelTuning::kBlocksPerProcessor * backend.device_info().processors / (tiles * segments);
  const std::int64_t useful = rows / (block.high * ChannelTuning::kRowsPerThread);
  std::int64_t chunks = std::max<std::int64_t>(1, std::min(wanted, useful));
  const std::int64_t chunk_rows = std::max<std::int64_t>(1, (rows + chunks - 1) / chunks);
  chunks = std::max<std::int64_t>(1, (rows + chunk_rows - 1) / chunk_rows);
  auto* const partial = reinterpret_cast<double*>(backend.scratch(
      segments * chunks * 2 * channels * static_cast<std::int64_t>(sizeof(double))));
  LaunchShape shape{dim3(static_cast<unsigned>(chunks), static_cast<unsigned>(tiles),
                         static_cast<unsigned>(std::min(segments, ChannelTuning::kMostGrid))),
                    dim3(static_cast<unsigned>(block.lanes), static_cast<unsigned>(block.high)), 0};
  launch(name, backend.stream(), shape, channel_partials<Term>, term, segments, rows, channels,
         chunk_rows, partial);
  shape.grid.x = 1;
  launch(name, backend.stream(), shape, channel_finish<Finish>, partial, segments, chunks, channels,
         finish);
}

// first += values.
struct PlainTerm {
  const float* values;
  __device__ __forceinline__ void start(std::int64_t, std::int64_t) {}
  __device__ __forceinline__ void add(std::int64_t offset, TwoSums& sums) const {
    sums.first += values[offset];
  }
};
// to[channel] += the sum of the one segment.
struct AddFirst {
  float* to;
  __device__ __forceinline__ void operator()(std::int64_t, std::int64_t channel,
                                             const TwoSums& sums) const {
    to[channel] += static_cast<float>(sums.first);
  }
};

}  // namespace fishermask::cuda
