#include "common/pinned_ring.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"

namespace fishermask::cuda {

PinnedRing::PinnedRing(cudaStream_t stream)
    : stream_(stream), memory_(make_pinned(static_cast<std::int64_t>(kSlots) * kSlotBytes)) {
  for (Event& event : left_) event = make_event();
}

void PinnedRing::next_slot() {
  slot_ = (slot_ + 1) % kSlots;
  used_ = 0;
  // At once where nothing has left it yet.
  FM_CUDA(cudaEventSynchronize(left_[slot_].get()));
}

void PinnedRing::copy(std::byte* to, const std::byte* from, std::int64_t bytes) {
  constexpr std::int64_t kAlignment = 64;
  while (bytes > 0) {
    if (used_ == kSlotBytes) next_slot();
    const std::int64_t part = std::min(bytes, kSlotBytes - used_);
    std::byte* const pinned = memory_.get() + static_cast<std::int64_t>(slot_) * kSlotBytes + used_;
    std::memcpy(pinned, from, static_cast<std::size_t>(part));
    FM_CUDA(cudaMemcpyAsync(to, pinned, static_cast<std::size_t>(part), cudaMemcpyHostToDevice,
                            stream_));
    // Used before the event: where that fails, the bytes are not given out again.
    used_ += (part + kAlignment - 1) / kAlignment * kAlignment;
    FM_CUDA(cudaEventRecord(left_[slot_].get(), stream_));
    to += part;
    from += part;
    bytes -= part;
  }
}

}  // namespace fishermask::cuda
