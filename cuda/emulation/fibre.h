// A stack that can be left and entered again: one thread of an emulated block. Fibres of one
// operating-system thread alone switch to each other.
#pragma once

#include <cstddef>
#include <memory>

namespace fishermask::emulation {

class Fibre {
 public:
  static constexpr std::size_t kStackBytes = 128 * 1024;  // kernels keep their tiles on it

  // The fibre of the scheduler itself: no stack of its own.
  Fibre() = default;
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;
  ~Fibre();

  // From the beginning at the next switch; what it ran before is forgotten. `entry` never returns.
  void start(void (*entry)());
  void switch_to(Fibre& next);

 private:
  void* stack_ = nullptr;       // kStackBytes
  void* pointer_ = nullptr;     // saved machine stack pointer
  void* fake_stack_ = nullptr;  // of the address sanitizer
  const void* sanitizer_bottom_ = nullptr;
  std::size_t sanitizer_bytes_ = 0;
  friend void finish_switch(Fibre& from);
};

// First thing on a fibre's stack, so that the address sanitizer knows it.
void note_entered();

}  // namespace fishermask::emulation
