#include "common/pool.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <bit>

#include "common/check.h"
#include "core/error.h"

namespace fishermask::cuda {
namespace {

constexpr std::int64_t kSmallest = 256;
constexpr std::int64_t kSmall = 1 << 20;
constexpr std::int64_t kStep = 2 << 20;

std::int64_t rounded(std::int64_t bytes) {
  if (bytes <= kSmallest) return kSmallest;
  if (bytes <= kSmall) {
    return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(bytes)));
  }
  return (bytes + kStep - 1) / kStep * kStep;
}

}  // namespace

Pool::~Pool() { trim(); }

std::byte* Pool::try_allocate(std::int64_t bytes) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, static_cast<std::size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // not sticky: the device can be used on
    return nullptr;
  }
  check(status, "cudaMalloc");
  bytes_ += bytes;
  return static_cast<std::byte*>(memory);
}

std::shared_ptr<std::byte> Pool::take(std::int64_t bytes, std::string_view purpose) {
  const std::int64_t size = rounded(bytes);
  const std::lock_guard lock(mutex_);
  std::byte* memory = nullptr;
  // A free block may be larger, but not so much that it is wasted.
  const auto found = free_.lower_bound(size);
  if (found != free_.end() && found->first <= size + std::max(size / 8, kSmallest)) {
    memory = found->second;
    const std::int64_t held = found->first;
    free_.erase(found);
    return {memory, [pool = shared_from_this(), held](std::byte* p) { pool->give(p, held); }};
  }
  memory = try_allocate(size);
  if (memory == nullptr) {
    release_free();
    memory = try_allocate(size);
  }
  FM_CHECK(memory != nullptr, OUT_OF_MEMORY, "the CUDA device has no ", bytes, " bytes left for ",
           purpose);
  return {memory, [pool = shared_from_this(), size](std::byte* p) { pool->give(p, size); }};
}

void Pool::give(std::byte* memory, std::int64_t bytes) noexcept {
  const std::lock_guard lock(mutex_);
  try {
    free_.emplace(bytes, memory);
  } catch (...) {
    check_quietly(cudaFree(memory));
    bytes_ -= bytes;
  }
}

std::int64_t Pool::bytes() const noexcept {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

void Pool::trim() noexcept {
  const std::lock_guard lock(mutex_);
  release_free();
}

void Pool::release_free() noexcept {
  for (const auto& [bytes, memory] : free_) {
    check_quietly(cudaFree(memory));
    bytes_ -= bytes;
  }
  free_.clear();
}

}  // namespace fishermask::cuda
