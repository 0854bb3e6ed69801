#include "core/scratch.h"

#include <memory>

#include "core/tensor.h"

namespace fishermask {
namespace {

struct Kept {
  std::shared_ptr<std::byte> memory;
  std::int64_t bytes = 0;
};

}  // namespace

std::byte* thread_scratch(std::int64_t bytes) {
  thread_local Kept kept;
  if (kept.bytes < bytes) {
    kept = {};  // both at once would be the peak
    kept.memory = allocate_aligned(bytes, "a kernel's scratch");
    kept.bytes = bytes;
  }
  return kept.memory.get();
}

}  // namespace fishermask
