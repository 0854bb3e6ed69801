// A thread per element of a channels-last image (height, width, C) of each sample: the pools and
// pad2d. An image has fewer than 2^31 elements, a batch may have more.
#pragma once

#include "common/backend.h"
#include "common/launch.cuh"

namespace fishermask::cuda {

struct ImageSize {
  int height = 1, width = 1, channels = 1;

  [[nodiscard]] __host__ __device__ int count() const { return height * width * channels; }
};

inline constexpr std::int64_t kMostImage = 2147483647;
[[nodiscard]] inline bool fits_image(std::int64_t height, std::int64_t width,
                                     std::int64_t channels) {
  if (height > kMostImage || width > kMostImage || channels > kMostImage) return false;
  return height * width <= kMostImage && height * width * channels <= kMostImage - 1024;
}
[[nodiscard]] inline ImageSize image_size(std::int64_t height, std::int64_t width,
                                          std::int64_t channels) {
  return {static_cast<int>(height), static_cast<int>(width), static_cast<int>(channels)};
}

struct ImageItem {
  int row, column, channel;
};

// body(sample, index in the image, item).
template <typename Body>
__device__ __forceinline__ void for_each_image_item(const ImageSize& size, std::int64_t batch,
                                                    const Body& body) {
  const auto count = static_cast<unsigned>(size.count());
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const unsigned position = i / static_cast<unsigned>(size.channels);
  const unsigned row = position / static_cast<unsigned>(size.width);
  const ImageItem item{static_cast<int>(row),
                       static_cast<int>(position - row * static_cast<unsigned>(size.width)),
                       static_cast<int>(i - position * static_cast<unsigned>(size.channels))};
  for (std::int64_t sample = blockIdx.y; sample < batch; sample += gridDim.y) {
    body(sample, static_cast<int>(i), item);
  }
}

[[nodiscard]] inline LaunchShape over_images(const ImageSize& size, std::int64_t batch) {
  constexpr int kThreads = 256;
  constexpr std::int64_t kMostGrid = 65535;
  const auto blocks = (static_cast<unsigned>(size.count()) + kThreads - 1) / kThreads;
  return {dim3(std::max(blocks, 1U),
               static_cast<unsigned>(std::clamp<std::int64_t>(batch, 1, kMostGrid))),
          dim3(kThreads), 0};
}

}  // namespace fishermask::cuda
