// The host's side of the emulated runtime (include/cuda_runtime.h): memory with guard bands, poison
// for what was not written, and an injected shortage for tests.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>

#include "emulation/memory.h"

namespace {

constexpr std::size_t kGuard = 256;
constexpr unsigned char kGuardByte = 0xA5;
constexpr unsigned char kPoison = 0xFF;  // NaN as f32 and f64, −1 as an integer

// Never destroyed: a device may outlive this library's other statics.
std::mutex& mutex = *new std::mutex;
std::map<void*, std::size_t>& blocks = *new std::map<void*, std::size_t>;
std::size_t total_bytes = 0;
bool lost = false;

// FISHERMASK_EMULATED_MEMORY: bytes that the emulated device has.
std::size_t capacity() {
  const char* const text = std::getenv("FISHERMASK_EMULATED_MEMORY");
  return text == nullptr ? std::size_t{1} << 36U : std::strtoull(text, nullptr, 10);
}

bool intact(const unsigned char* guard) {
  for (std::size_t i = 0; i < kGuard; ++i) {
    if (guard[i] != kGuardByte) return false;
  }
  return true;
}

bool all_intact() {
  for (const auto& [memory, bytes] : blocks) {
    const auto* const first = static_cast<const unsigned char*>(memory);
    if (!intact(first - kGuard) || !intact(first + bytes)) return false;
  }
  return true;
}

}  // namespace

namespace fishermask::emulation {

cudaError_t check_memory() {
  const std::lock_guard lock(mutex);
  if (!all_intact()) lost = true;
  return lost ? cudaErrorIllegalAddress : cudaSuccess;
}

}  // namespace fishermask::emulation

using ::fishermask::emulation::may_touch_memory;
using ::fishermask::emulation::run_everything;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorIllegalState:
      return "cudaErrorIllegalState";
    case cudaErrorUnknown:
      break;
  }
  return "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorIllegalAddress ? "a guard band of device memory was overwritten"
                                          : cudaGetErrorName(error);
}
cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return cudaErrorInvalidDevice;
  *properties = {};
  std::strncpy(properties->name, "emulated on the host", sizeof(properties->name) - 1);
  properties->totalGlobalMem = capacity();
  properties->sharedMemPerBlockOptin = 227 * 1024;
  // FISHERMASK_EMULATED_CAPABILITY: 75 for 7.5.
  const char* const capability = std::getenv("FISHERMASK_EMULATED_CAPABILITY");
  const int number = capability == nullptr ? 90 : std::atoi(capability);
  properties->major = number / 10;
  properties->minor = number % 10;
  properties->multiProcessorCount = 4;
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 0;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total) {
  const std::lock_guard lock(mutex);
  *total = capacity();
  *available = *total - std::min(*total, total_bytes);
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  if (!may_touch_memory()) return cudaErrorStreamCaptureUnsupported;
  const std::lock_guard lock(mutex);
  if (total_bytes + bytes > capacity()) return cudaErrorMemoryAllocation;
  void* whole = std::aligned_alloc(256, (bytes + 2 * kGuard + 255) / 256 * 256);
  if (whole == nullptr) return cudaErrorMemoryAllocation;
  auto* const first = static_cast<unsigned char*>(whole) + kGuard;
  std::memset(whole, kGuardByte, kGuard);
  std::memset(first, kPoison, bytes);
  std::memset(first + bytes, kGuardByte, kGuard);
  blocks[first] = bytes;
  total_bytes += bytes;
  *memory = first;
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  if (!may_touch_memory()) return cudaErrorStreamCaptureUnsupported;
  run_everything();  // it waits for the device
  const std::lock_guard lock(mutex);
  const auto found = blocks.find(memory);
  if (found == blocks.end()) return cudaErrorInvalidValue;
  const auto* const first = static_cast<const unsigned char*>(memory);
  if (!intact(first - kGuard) || !intact(first + found->second)) lost = true;
  total_bytes -= found->second;
  std::free(static_cast<unsigned char*>(memory) - kGuard);
  blocks.erase(found);
  return lost ? cudaErrorIllegalAddress : cudaSuccess;
}
