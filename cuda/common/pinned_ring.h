// Copies from the host's memory to the device's through pinned memory, so that the source may
// change as soon as the call returns while the copy is still on its way.
//
// The pinned memory is a ring of slots, each with an event after the last copy that left it. A slot
// is filled again when that event has come: the host waits for the oldest copy alone, and only when
// all slots are on their way.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "common/handles.h"

namespace fishermask::cuda {

class PinnedRing {
 public:
  explicit PinnedRing(cudaStream_t stream);  // the copies' order
  PinnedRing(const PinnedRing&) = delete;
  PinnedRing& operator=(const PinnedRing&) = delete;

  // `from` has been read when it returns. Errors: DEVICE_LOST.
  void copy(std::byte* to, const std::byte* from, std::int64_t bytes);

 private:
  static constexpr std::size_t kSlots = 4;
  static constexpr std::int64_t kSlotBytes = 2 << 20;

  void next_slot();

  cudaStream_t stream_;
  PinnedMemory memory_;
  std::array<Event, kSlots> left_;  // by slot: after its last copy
  std::size_t slot_ = 0;            // being filled
  std::int64_t used_ = 0;           // bytes of it
};

}  // namespace fishermask::cuda
