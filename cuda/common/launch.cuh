// Launching kernels, checked: every launch goes through here, on the device and in the emulation.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <tuple>

#include "common/check.h"

namespace fishermask::cuda {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t dynamic_shared_bytes = 0;
};

// Kernels loop over what their grid does not cover (grid-stride).
inline constexpr std::int64_t kMostBlocks = 1 << 16;

// One thread per item, `block` threads a block, a grid-stride loop above kMostBlocks blocks.
[[nodiscard]] inline LaunchShape over(std::int64_t items, int block = 256) {
  const std::int64_t blocks = std::clamp<std::int64_t>((items + block - 1) / block, 1, kMostBlocks);
  return {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(block)), 0};
}

// The first item of this thread, and the step to its next: for (i = first_item(); i < count;
// i += item_step()).
__device__ __forceinline__ std::int64_t first_item() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ std::int64_t item_step() {
  return static_cast<std::int64_t>(gridDim.x) * blockDim.x;
}

// Errors: DEVICE_LOST or INTERNAL naming `name`. Without items (an empty grid) nothing runs.
template <typename... Parameters, typename... Arguments>
void launch(const char* name, cudaStream_t stream, const LaunchShape& shape,
            void (*kernel)(Parameters...), Arguments&&... arguments) {
#ifndef FM_EMULATION
  std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  std::array<void*, sizeof...(Parameters)> pointers;
  std::apply(
      [&](auto&... each) {
        std::size_t i = 0;
        ((pointers[i++] = const_cast<void*>(static_cast<const void*>(&each))), ...);
      },
      values);
  // More than 48 KiB must be asked for; kernels that want it are few.
  if (shape.dynamic_shared_bytes > 48 * 1024) {
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shape.dynamic_shared_bytes)),
          name);
  }
  check(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), shape.grid, shape.block,
                         pointers.data(), shape.dynamic_shared_bytes, stream),
        name);
  check(cudaPeekAtLastError(), name);
#else
  (void)name;
  const std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  ::fishermask::emulation::enqueue(stream, [shape, kernel, values] {
    ::fishermask::emulation::run_grid(shape.grid, shape.block, shape.dynamic_shared_bytes, [&] {
      std::apply([kernel](const auto&... each) { kernel(each...); }, values);
    });
  });
#endif
}

}  // namespace fishermask::cuda
