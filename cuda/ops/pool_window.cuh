// The window of a pool on the device: which taps an output sees, which outputs see an input.
#pragma once

#include "core/window.h"
#include "ops/image_items.cuh"

namespace fishermask::cuda {

struct PoolAxis {
  int in = 1, out = 1, kernel = 1, stride = 1, pad = 0, dilation = 1;

  __device__ __forceinline__ int at(int o, int k) const { return o * stride - pad + k * dilation; }
  __device__ __forceinline__ bool inside(int position) const {
    return position >= 0 && position < in;
  }
  // The outputs that may see position i are first_output(i) … last_output(i); with dilation, those
  // of them for which sees(o, i).
  __device__ __forceinline__ int first_output(int i) const {
    const int reach = i + pad - (kernel - 1) * dilation;
    return reach <= 0 ? 0 : (reach + stride - 1) / stride;
  }
  __device__ __forceinline__ int last_output(int i) const {
    const int last = (i + pad) / stride;
    return last < out ? last : out - 1;
  }
  __device__ __forceinline__ bool sees(int o, int i) const {
    return (i + pad - o * stride) % dilation == 0;
  }
};

// Whether all positions fit in an int with room to spare.
[[nodiscard]] inline bool fits_pool(const WindowAxis& axis) {
  constexpr std::int64_t kMost = std::int64_t{1} << 28;
  return axis.in < kMost && axis.out < kMost && axis.kernel < kMost && axis.stride < kMost &&
         axis.pad_before < kMost && axis.dilation < kMost &&
         axis.dilation * (axis.kernel - 1) < kMost;
}
[[nodiscard]] inline PoolAxis pool_axis(const WindowAxis& axis) {
  return {static_cast<int>(axis.in),         static_cast<int>(axis.out),
          static_cast<int>(axis.kernel),     static_cast<int>(axis.stride),
          static_cast<int>(axis.pad_before), static_cast<int>(axis.dilation)};
}

struct PoolShape {
  PoolAxis rows, columns;
  ImageSize in, out;
};
[[nodiscard]] inline bool covers_pool(const Window& window, std::int64_t channels) {
  return fits_pool(window.rows) && fits_pool(window.columns) &&
         fits_image(window.rows.in, window.columns.in, channels) &&
         fits_image(window.rows.out, window.columns.out, channels);
}
[[nodiscard]] inline PoolShape pool_shape(const Window& window, std::int64_t channels) {
  return {pool_axis(window.rows), pool_axis(window.columns),
          image_size(window.rows.in, window.columns.in, channels),
          image_size(window.rows.out, window.columns.out, channels)};
}

}  // namespace fishermask::cuda
