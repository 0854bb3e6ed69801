// (count,) of T in a device's memory.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/device.h"
#include "core/parallel.h"
#include "core/rng.h"

namespace fishermask::cuda_bench {

template <typename T>
class DeviceArray {
 public:
  DeviceArray(Device& device, std::int64_t count, std::string_view purpose = "the benchmark")
      : device_(&device), memory_(device.allocate(bytes_of(count), purpose)), count_(count) {}

  [[nodiscard]] T* data() const { return reinterpret_cast<T*>(memory_.get()); }
  [[nodiscard]] std::byte* raw() const { return memory_.get(); }
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] std::int64_t bytes() const { return bytes_of(count_); }
  [[nodiscard]] TensorView view(Shape shape) const {
    return {memory_.get(), dtype_of<T>(), std::move(shape)};
  }
  void zero() const { device_->zero(memory_.get(), bytes()); }
  // Into the elements from `first` on.
  void write(std::span<const T> from, std::int64_t first = 0) const {
    device_->upload(memory_.get() + bytes_of(first),
                    reinterpret_cast<const std::byte*>(from.data()),
                    bytes_of(static_cast<std::int64_t>(from.size())));
  }
  [[nodiscard]] std::vector<T> read() const {
    std::vector<T> out(static_cast<std::size_t>(count_));
    device_->download(reinterpret_cast<std::byte*>(out.data()), memory_.get(), bytes());
    return out;
  }

 private:
  [[nodiscard]] static std::int64_t bytes_of(std::int64_t count) {
    return count * static_cast<std::int64_t>(sizeof(T));
  }
  Device* device_;
  std::shared_ptr<std::byte> memory_;
  std::int64_t count_;
};

// Uniform in [−1, 1).
[[nodiscard]] inline std::vector<float> random_values(std::int64_t count, std::uint64_t stream) {
  std::vector<float> values(static_cast<std::size_t>(count));
  parallel_for(count, 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      values[static_cast<std::size_t>(i)] =
          2.0F * philox_uniform({.seed = 1, .stream = stream}, static_cast<std::uint64_t>(i)) -
          1.0F;
    }
  });
  return values;
}

[[nodiscard]] inline DeviceArray<float> random_array(Device& device, std::int64_t count,
                                                     std::uint64_t stream) {
  DeviceArray<float> array(device, count);
  array.write(random_values(count, stream));
  return array;
}

}  // namespace fishermask::cuda_bench
