// The runtime's handles, closed by their last owner.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "common/check.h"

namespace fishermask::cuda {

struct StreamCloser {
  void operator()(cudaStream_t stream) const noexcept { check_quietly(cudaStreamDestroy(stream)); }
};
struct EventCloser {
  void operator()(cudaEvent_t event) const noexcept { check_quietly(cudaEventDestroy(event)); }
};
struct PinnedCloser {
  void operator()(std::byte* memory) const noexcept { check_quietly(cudaFreeHost(memory)); }
};
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, StreamCloser>;
using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, EventCloser>;
using PinnedMemory = std::unique_ptr<std::byte, PinnedCloser>;

// Beside the legacy default stream, which orders nothing here.
[[nodiscard]] inline Stream make_stream() {
  cudaStream_t stream = nullptr;
  FM_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return Stream(stream);
}
// For order alone, not for times.
[[nodiscard]] inline Event make_event() {
  cudaEvent_t event = nullptr;
  FM_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return Event(event);
}
[[nodiscard]] inline PinnedMemory make_pinned(std::int64_t bytes) {
  void* memory = nullptr;
  FM_CUDA(cudaMallocHost(&memory, static_cast<std::size_t>(bytes)));
  return PinnedMemory(static_cast<std::byte*>(memory));
}

}  // namespace fishermask::cuda
