// Which bytes of one arena each buffer takes, so that buffers that never live at the same time
// share memory.
#pragma once

#include <cstdint>
#include <vector>

namespace fishermask {

struct PlannedBuffer {
  std::int64_t bytes = 0;
  int first = 0;             // the step that writes it first
  int last = 0;              // the last step that reads it, inclusive
  std::int64_t offset = -1;  // filled by plan_memory
};

// Fills the offsets, each a multiple of 64, and returns the arena's size in bytes. Greedy by size,
// best fit: Pisarchyk, Lee, "Efficient memory management for deep neural net inference",
// arXiv:2001.03288, "greedy by size".
[[nodiscard]] std::int64_t plan_memory(std::vector<PlannedBuffer>& buffers);

}  // namespace fishermask
