// Batches on their way to the device while it still computes on the one before: a copy stream of
// their own, and two buffers on the device that take turns.
//
// Why no buffer is written or read too early, for a buffer b, a batch n in it, and n + 2 after it:
//   1. The compute stream waits for `copied` before it reads b: it reads batch n whole.
//   2. The copy stream waits for `read`, recorded on the compute stream behind the reader of batch
//   n,
//      before it writes batch n + 2: batch n was read until then. Batch n + 1 is in the other
//      buffer, which is why its copy need not wait for the work on batch n.
//   3. Memory for b comes from the pool, which hands on what work on the compute stream may still
//      use. `read` is recorded anew when it comes, so that by 2 the copy stream waits for that
//      work.
//   4. b's old memory goes back to the pool, whose next taker works on the compute stream: by 1
//   that
//      stream has waited for every copy into it, and its own reader of it is enqueued before.
//   5. The host's memory is read when send() returns: PinnedRing.
// An error between the steps leaves b unread or half written: batches after it are written over it
// by 2, with what `read` last said, and their readers wait by 1.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "common/backend.h"
#include "common/handles.h"
#include "common/pinned_ring.h"

namespace fishermask::cuda {

class BatchUploads {
 public:
  explicit BatchUploads(Backend& backend) : backend_(backend) {}

  // Brings `parts` of the host's memory to the device, each aligned to 256 bytes, and calls `read`,
  // which enqueues on the compute stream what reads them there and nothing that keeps them.
  // Errors: OUT_OF_MEMORY, DEVICE_LOST, what `read` throws.
  using Parts = std::span<const std::span<const std::byte>>;
  using Reader = std::function<void(std::span<std::byte* const>)>;
  void send(Parts parts, const Reader& read);
  // Of the copies alone.
  void synchronize() noexcept;

 private:
  struct Staged {
    std::shared_ptr<std::byte> memory;
    std::int64_t bytes = 0;
    Event copied = make_event(), read = make_event();
  };
  // Made at the first batch: a device that only masks needs none of it.
  struct Lane {
    Stream stream = make_stream();
    PinnedRing ring{stream.get()};
    std::array<Staged, 2> staged;
    std::size_t next = 0;
  };

  [[nodiscard]] Staged& take_turn(std::int64_t bytes);

  Backend& backend_;
  std::unique_ptr<Lane> lane_;
};

}  // namespace fishermask::cuda
