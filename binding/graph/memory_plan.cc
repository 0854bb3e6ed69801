#include "graph/memory_plan.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/error.h"

namespace fishermask {
namespace {

constexpr std::int64_t kAlignment = 64;

bool alive_together(const PlannedBuffer& a, const PlannedBuffer& b) {
  return a.first <= b.last && b.first <= a.last;
}

std::int64_t rounded(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// The smallest gap between the buffers already placed (sorted by offset) that fits, else the end.
std::int64_t best_offset(const std::vector<const PlannedBuffer*>& placed,
                         const PlannedBuffer& buffer) {
  std::int64_t best = -1;
  std::int64_t best_gap = std::numeric_limits<std::int64_t>::max();
  std::int64_t end = 0;
  for (const PlannedBuffer* other : placed) {
    if (!alive_together(*other, buffer)) continue;
    const std::int64_t gap = other->offset - end;
    if (gap >= rounded(buffer.bytes) && gap < best_gap) {
      best = end;
      best_gap = gap;
    }
    end = std::max(end, other->offset + rounded(other->bytes));
  }
  return best >= 0 ? best : end;
}

}  // namespace

std::int64_t plan_memory(std::vector<PlannedBuffer>& buffers) {
  std::vector<std::size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return buffers[a].bytes > buffers[b].bytes;
  });
  std::vector<const PlannedBuffer*> placed;
  std::int64_t size = 0;
  // Half the range: offsets and rounding can then not overflow.
  constexpr std::int64_t kMostBytes = std::numeric_limits<std::int64_t>::max() / 2;
  for (const std::size_t index : order) {
    PlannedBuffer& buffer = buffers[index];
    FM_CHECK(buffer.bytes <= kMostBytes, OUT_OF_MEMORY,
             "one activation of a batch takes 2^62 bytes or more");
    buffer.offset = best_offset(placed, buffer);
    FM_CHECK(buffer.offset <= kMostBytes - rounded(buffer.bytes), OUT_OF_MEMORY,
             "the activations of one batch take more than 2^63 bytes");
    size = std::max(size, buffer.offset + rounded(buffer.bytes));
    placed.insert(std::upper_bound(placed.begin(), placed.end(), &buffer,
                                   [](const PlannedBuffer* a, const PlannedBuffer* b) {
                                     return a->offset < b->offset;
                                   }),
                  &buffer);
  }
  return size;
}

}  // namespace fishermask
