// One block of an emulated kernel: its threads are fibres that run one after the other until they
// wait, so that barriers, shuffles and votes mean what they mean on a device.
//
// Reported as errors (EmulationError): a barrier that some threads left the kernel without; a warp
// operation whose mask names lanes that never come; two different warp operations meeting;
// misaligned, out-of-bounds and uninitialised shared memory, and races on it (shared.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "emulation/fibre.h"

namespace fishermask::emulation {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr Dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  [[nodiscard]] constexpr std::size_t count() const { return static_cast<std::size_t>(x) * y * z; }
};

class EmulationError : public std::exception {
 public:
  explicit EmulationError(std::string message) : message_(std::move(message)) {}
  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

// What a lane brings to a warp operation.
struct alignas(16) Deposit {
  std::array<std::byte, 64> bytes;
};

// A copy from global to shared memory that has been asked for and not arrived.
struct PendingCopy {
  std::function<void()> arrive;
  int group = 0;
};

// One emulated thread.
struct Thread {
  enum class State : std::uint8_t { kReady, kAtBarrier, kAtWarp, kDone };
  Fibre fibre;
  Dim3 index;
  int number = 0;  // linear in the block
  State state = State::kReady;
  const char* waits_for = "";
  int barrier_value = 0;
  std::vector<PendingCopy> copies;  // cp.async, delayed as long as the program allows
  int committed_groups = 0;
  [[nodiscard]] int lane() const { return number % 32; }
  [[nodiscard]] int warp() const { return number / 32; }
};

class Block {
 public:
  // Runs one block on the calling operating-system thread. Errors: EmulationError and what the
  // kernel throws.
  void run(const Dim3& grid, const Dim3& index, const Dim3& threads, std::size_t dynamic_bytes,
           const std::function<void()>& kernel);

  [[nodiscard]] const Dim3& grid() const { return grid_; }
  [[nodiscard]] const Dim3& index() const { return index_; }
  [[nodiscard]] const Dim3& threads() const { return threads_dim_; }
  [[nodiscard]] Thread& current() { return *current_; }

  void barrier();
  int barrier_or(int value);
  int barrier_count(int value);

  // Brings `deposit` and waits for all lanes of `mask`; the deposits by lane, valid until the
  // caller's next warp operation with that mask.
  const std::array<Deposit, 32>& meet(unsigned mask, const Deposit& deposit, const char* operation);

  [[nodiscard]] std::byte* dynamic_shared() { return dynamic_.data(); }
  [[nodiscard]] std::size_t dynamic_bytes() const { return dynamic_bytes_; }

  // For the race detector: the barriers passed in this block, the meetings of a warp, and a number
  // that no other block of this operating-system thread had.
  [[nodiscard]] std::uint32_t epoch() const { return epoch_; }
  [[nodiscard]] std::uint32_t warp_epoch(int warp) const {
    return warps_[static_cast<std::size_t>(warp)].meetings;
  }
  [[nodiscard]] std::uint64_t serial() const { return serial_; }
  [[nodiscard]] std::string where() const;  // "block (1, 0, 0), thread 37"

 private:
  struct Meeting {
    unsigned mask = 0;
    unsigned arrived = 0;
    std::uint32_t generation = 0;
    const char* operation = nullptr;
    std::array<std::array<Deposit, 32>, 2> deposits;
  };
  struct Warp {
    std::vector<std::unique_ptr<Meeting>> groups;  // by mask
    std::uint32_t meetings = 0;
  };

  static void thread_entry();
  void run_thread(Thread& thread);
  void wait(Thread::State state, const char* what);
  void release_barrier();
  [[noreturn]] void report_deadlock() const;
  [[nodiscard]] std::string describe(const Thread& thread) const;

  Dim3 grid_, index_, threads_dim_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::size_t thread_count_ = 0;
  std::vector<Warp> warps_;
  std::vector<std::byte> dynamic_;
  std::size_t dynamic_bytes_ = 0;
  const std::function<void()>* kernel_ = nullptr;
  Thread* current_ = nullptr;
  Fibre scheduler_;
  std::exception_ptr failure_;
  std::uint32_t epoch_ = 0;
  std::uint64_t serial_ = 0;
  int barrier_or_ = 0;
  int barrier_count_ = 0;
};

// Of the calling operating-system thread; blocks run one after the other on it.
[[nodiscard]] Block& block();
[[nodiscard]] inline Thread& self() { return block().current(); }

// All blocks of a launch, over the threads of the calling thread's team.
void run_grid(const Dim3& grid, const Dim3& threads, std::size_t dynamic_bytes,
              const std::function<void()>& kernel);

template <typename T>
Deposit deposit_of(const T& value) {
  static_assert(sizeof(T) <= sizeof(Deposit::bytes) && std::is_trivially_copyable_v<T>);
  Deposit deposit;
  __builtin_memcpy(deposit.bytes.data(), &value, sizeof(T));
  return deposit;
}
template <typename T>
T value_of(const Deposit& deposit) {
  T value;
  __builtin_memcpy(&value, deposit.bytes.data(), sizeof(T));
  return value;
}

template <typename T, typename Source>
T shuffle(unsigned mask, T value, int /*width*/, const char* operation, const Source& source) {
  const int from = source(self().lane());
  if ((mask >> static_cast<unsigned>(from) & 1U) == 0) {
    throw EmulationError(block().where() + ": " + operation + " reads lane " +
                         std::to_string(from) + ", which its mask does not name");
  }
  return value_of<T>(
      block().meet(mask, deposit_of(value), operation)[static_cast<std::size_t>(from)]);
}

inline unsigned ballot(unsigned mask, int predicate, const char* operation) {
  const auto& all = block().meet(mask, deposit_of(predicate), operation);
  unsigned bits = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1U) != 0 && value_of<int>(all[lane]) != 0) bits |= 1U << lane;
  }
  return bits;
}

template <typename T, typename Update>
T atomic_update(T* to, const Update& update) {
  T old;
  __atomic_load(to, &old, __ATOMIC_RELAXED);
  while (true) {
    T next = update(old);
    if (__atomic_compare_exchange(to, &old, &next, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
      return old;
    }
  }
}

}  // namespace fishermask::emulation
