// Device memory that is kept when it is given back: cudaMalloc waits for the device, so that a
// pass must not call it. Sizes are rounded up to powers of two below 1 MiB and to 2 MiB above.
// Safe from any thread: JavaScript's collector gives memory back on a thread of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>

namespace fishermask::cuda {

class Pool : public std::enable_shared_from_this<Pool> {
 public:
  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool();

  // Given back by the last owner, in stream order. Errors: OUT_OF_MEMORY naming `purpose`, after
  // everything unused was returned to the device and asked for again; DEVICE_LOST.
  [[nodiscard]] std::shared_ptr<std::byte> take(std::int64_t bytes, std::string_view purpose);
  // Returns what nobody uses to the device.
  void trim() noexcept;
  [[nodiscard]] std::int64_t bytes() const noexcept;  // held, used or not

 private:
  void give(std::byte* memory, std::int64_t bytes) noexcept;
  void release_free() noexcept;
  [[nodiscard]] std::byte* try_allocate(std::int64_t bytes);

  mutable std::mutex mutex_;
  std::multimap<std::int64_t, std::byte*> free_;  // by size
  std::int64_t bytes_ = 0;
};

}  // namespace fishermask::cuda
