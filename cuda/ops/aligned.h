#pragma once

#include <cstdint>

namespace fishermask::cuda {

// Whether 16 bytes may be read at a time.
[[nodiscard]] inline bool aligned16(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
}

}  // namespace fishermask::cuda
