// Shared memory as an emulated block sees it: every access is checked for its bounds, for having
// been written before, and for races: two threads, one of them writing, between two barriers (or,
// inside a warp, between two warp operations).
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "emulation/block.h"

namespace fishermask::emulation {

template <typename T>
class SharedMemory {
 public:
  // Attaches to the running block; the first thread of a block finds nothing written.
  void enter(std::int64_t count, const char* name, T* outside) {
    Block& own = block();
    if (serial_ == own.serial()) return;
    serial_ = own.serial();
    name_ = name;
    count_ = count;
    shadow_.assign(static_cast<std::size_t>(count), Shadow{});
    if (outside != nullptr) {
      data_ = outside;
      return;
    }
    if (static_cast<std::int64_t>(storage_.size() * sizeof(Line) / sizeof(T)) < count) {
      storage_.resize((static_cast<std::size_t>(count) * sizeof(T) + sizeof(Line) - 1) /
                      sizeof(Line));
    }
    data_ = reinterpret_cast<T*>(storage_.data());
  }

  [[nodiscard]] T read(std::int64_t i) {
    note_read(i);
    return data_[i];
  }
  void write(std::int64_t i, const T& value) {
    note_write(i, false);
    data_[i] = value;
  }
  template <typename Update>
  T atomic(std::int64_t i, const Update& update) {
    check_index(i);
    if (shadow_[static_cast<std::size_t>(i)].writer < 0)
      fail(i, "atomic on what nobody has written");
    note_write(i, true);
    const T old = data_[i];
    data_[i] = update(old);
    return old;
  }

  void note_read(std::int64_t i) {
    check_index(i);
    Shadow& s = shadow_[static_cast<std::size_t>(i)];
    const Thread& thread = self();
    if (s.writer < 0) fail(i, "reads what nobody has written");
    if (s.writer != thread.number && concurrent(s.writer, s.write_epoch, s.write_warp_epoch)) {
      fail(i, "races with the write of thread " + std::to_string(s.writer));
    }
    const bool same_time = s.reader >= 0 && s.read_epoch == block().epoch();
    s.other_reader = same_time && s.reader != thread.number ? s.reader : -1;
    s.reader = thread.number;
    s.read_epoch = block().epoch();
    s.read_warp_epoch = block().warp_epoch(thread.warp());
  }

  void note_write(std::int64_t i, bool atomic) {
    check_index(i);
    Shadow& s = shadow_[static_cast<std::size_t>(i)];
    const Thread& thread = self();
    const bool both_atomic = atomic && s.atomic;
    if (s.writer >= 0 && s.writer != thread.number && !both_atomic &&
        concurrent(s.writer, s.write_epoch, s.write_warp_epoch)) {
      fail(i, "races with the write of thread " + std::to_string(s.writer));
    }
    for (const int reader : {s.reader, s.other_reader}) {
      if (reader >= 0 && reader != thread.number && !both_atomic &&
          concurrent(reader, s.read_epoch, s.read_warp_epoch)) {
        fail(i, "races with the read of thread " + std::to_string(reader));
      }
    }
    s.writer = thread.number;
    s.write_epoch = block().epoch();
    s.write_warp_epoch = block().warp_epoch(thread.warp());
    s.atomic = atomic;
  }

  [[nodiscard]] T* at(std::int64_t i) { return data_ + i; }
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[noreturn]] void fail(std::int64_t i, const std::string& what) const {
    throw EmulationError(block().where() + ": shared '" + name_ + "'[" + std::to_string(i) + "] " +
                         what);
  }

 private:
  struct alignas(128) Line {
    std::byte bytes[128];
  };
  struct Shadow {
    std::int32_t writer = -1;  // thread; -1: nobody
    std::uint32_t write_epoch = 0;
    std::uint32_t write_warp_epoch = 0;
    std::int32_t reader = -1;
    std::int32_t other_reader = -1;  // of the same epoch
    std::uint32_t read_epoch = 0;
    std::uint32_t read_warp_epoch = 0;
    bool atomic = false;
  };

  void check_index(std::int64_t i) const {
    if (i < 0 || i >= count_) fail(i, "is outside of its " + std::to_string(count_) + " elements");
  }
  // Whether an access of thread `other` then is not ordered before one of this thread now.
  [[nodiscard]] static bool concurrent(int other, std::uint32_t epoch, std::uint32_t warp_epoch) {
    Block& own = block();
    if (epoch != own.epoch()) return false;
    const int warp = own.current().warp();
    return other / 32 != warp || warp_epoch == own.warp_epoch(warp);
  }

  std::uint64_t serial_ = 0;
  const char* name_ = "";
  std::int64_t count_ = 0;
  T* data_ = nullptr;
  std::vector<Line> storage_;
  std::vector<Shadow> shadow_;
};

}  // namespace fishermask::emulation
