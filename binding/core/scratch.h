// Memory for a kernel's inner work that the calling thread keeps between calls: nothing is
// allocated after the first batch.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fishermask {

// At least `bytes` bytes, aligned to 64, with what the last user left in them; valid until this
// thread's next call. Errors: OUT_OF_MEMORY; the thread then holds none.
[[nodiscard]] std::byte* thread_scratch(std::int64_t bytes);

}  // namespace fishermask
