#include "emulation/fibre.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

// The registers that a call preserves go on the stack that is left; x86-64 and AArch64 only, since
// the emulation is for tests.
extern "C" void fm_fibre_switch(void** save, void* load);

#if defined(__x86_64__)
asm(R"(
.text
.globl fm_fibre_switch
.hidden fm_fibre_switch
.type fm_fibre_switch, @function
fm_fibre_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size fm_fibre_switch, .-fm_fibre_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl fm_fibre_switch
.hidden fm_fibre_switch
.type fm_fibre_switch, @function
fm_fibre_switch:
  sub sp, sp, #176
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #176
  ret
.size fm_fibre_switch, .-fm_fibre_switch
)");
#else
#error "the CUDA emulation is written for x86-64 and AArch64"
#endif

namespace fishermask::emulation {
namespace {

thread_local Fibre* left = nullptr;     // who switched last
thread_local Fibre* entered = nullptr;  // to whom

void finish() {
#if defined(__SANITIZE_ADDRESS__)
  // Also says where the stack that was left lies: the scheduler's own is learnt that way.
  finish_switch(*left);
#endif
}

}  // namespace

#if defined(__SANITIZE_ADDRESS__)
void finish_switch(Fibre& from) {
  __sanitizer_finish_switch_fiber(entered->fake_stack_, &from.sanitizer_bottom_,
                                  &from.sanitizer_bytes_);
}
#else
void finish_switch(Fibre& /*from*/) {}
#endif

void note_entered() { finish(); }

Fibre::~Fibre() {
  if (stack_ != nullptr) munmap(stack_, kStackBytes);
}

void Fibre::start(void (*entry)()) {
  if (stack_ == nullptr) {
    void* const memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    stack_ = memory;
  }
  sanitizer_bottom_ = stack_;
  sanitizer_bytes_ = kStackBytes;
  fake_stack_ = nullptr;
  auto* const top = reinterpret_cast<std::uint64_t*>(static_cast<std::byte*>(stack_) + kStackBytes);
#if defined(__x86_64__)
  // Six registers, the address that `ret` takes, and a return address of 0: as after a call, the
  // stack is 8 bytes below a multiple of 16 when `entry` begins.
  std::uint64_t* const frame = top - 8;
  for (int i = 0; i < 8; ++i) frame[i] = 0;
  frame[6] = reinterpret_cast<std::uint64_t>(entry);
#else
  std::uint64_t* const frame = top - 22;
  for (int i = 0; i < 22; ++i) frame[i] = 0;
  frame[11] = reinterpret_cast<std::uint64_t>(entry);  // x30
#endif
  pointer_ = frame;
}

void Fibre::switch_to(Fibre& next) {
  left = this;
  entered = &next;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fake_stack_, next.sanitizer_bottom_, next.sanitizer_bytes_);
#endif
  fm_fibre_switch(&pointer_, next.pointer_);
  finish();
}

}  // namespace fishermask::emulation
