// What the two halves of the emulated runtime, memory and streams, ask of each other.
#pragma once

#include <cuda_runtime.h>

namespace fishermask::emulation {

// runtime.cc: whether all guard bands are whole, at every time so far.
[[nodiscard]] cudaError_t check_memory();
// streams.cc: false on a thread that captures; its capture is invalid then.
[[nodiscard]] bool may_touch_memory();
// streams.cc: all streams to their ends.
void run_everything();

}  // namespace fishermask::emulation
