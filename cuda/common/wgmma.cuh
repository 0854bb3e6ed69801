// Products of a warpgroup (128 threads) on sm_90a: wgmma.mma_async, the descriptors of its operands
// in shared memory, and the fences and groups that order it. PTX ISA, "Asynchronous Warpgroup Level
// Matrix Multiply-Accumulate Instructions". The emulation runs it from its own decoding of the
// descriptors (emulation/wgmma.h).
//
// Operands: both bf16 and "MN-major", as channels-last memory has them: a row of 64 channels of one
// position (128 bytes) after the other, in blocks of kDepth positions, swizzled:
//
//   unit (16 bytes, 8 channels) c of position k lies at unit 8 · k + (c xor k mod 8) of its block,
//   blocks begin at multiples of 1024 bytes, and further channels are in the next block.
//
//   In the terms of the ISA's 128-byte swizzling: eight positions are a pattern of 1024 bytes, the
//   stride byte offset leads to the next eight, the leading byte offset to the next 64 channels.
//
// Sums: of 64 rows and n columns a thread has n / 2. Sum i of thread t of the warpgroup is at
//   row     16 · (t / 32) + (t mod 32) / 4 + 8 · (i / 2 mod 2)
//   column  8 · (i / 4) + 2 · (t mod 4) + i mod 2
//
// Order of one use:  copies arrive; proxy_fence(); __syncthreads();
//                    wgmma_fence(sums); wgmma_bf16(sums, …) …; wgmma_commit();
//                    wgmma_wait_all(sums); the sums may be read, the operands overwritten
//                    (by other warpgroups' threads: after a barrier).
// wgmma_wait<1>() instead, behind a second commit: the operands of the first group may be
// overwritten; the sums belong to the second group still.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "common/shared.cuh"

#ifdef FM_EMULATION
#include "emulation/wgmma.h"
#endif

// Where wgmma exists: sm_90a alone. Kernels that use it are empty on other targets.
#if defined(FM_EMULATION) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FM_WGMMA 1
#endif

namespace fishermask::cuda {

// In the shared window; 16 bytes an element.
__device__ __forceinline__ unsigned shared_address(SharedArray<uint4> array) {
#ifdef FM_EMULATION
  return ::fishermask::emulation::async_proxy().address_of(*array.memory, array.first);
#else
  return static_cast<unsigned>(__cvta_generic_to_shared(array.memory));
#endif
}

// Of an operand whose block begins at `address`, a multiple of 1024; `next_block`: bytes from a
// block to that of the next 64 channels. Of one that begins n units of 16 bytes later: n more, as
// shared memory ends before the address could carry into the other fields.
__device__ __forceinline__ std::uint64_t wgmma_descriptor(unsigned address, unsigned next_block) {
  constexpr std::uint64_t kSwizzle128 = 1;
  constexpr std::uint64_t kPattern = 1024;
  return static_cast<std::uint64_t>((address & 0x3FFFFU) >> 4U) |
         static_cast<std::uint64_t>((next_block & 0x3FFFFU) >> 4U) << 16U | kPattern >> 4U << 32U |
         kSwizzle128 << 62U;
}

// 16 bytes from global to shared memory, asynchronously; zeros instead where `valid` is false
// (`from` is not read then). As cp_async16 of mma.cuh.
__device__ __forceinline__ void cp_async_unit(SharedArray<uint4> to, int i, const void* from,
                                              bool valid) {
#ifdef FM_EMULATION
  if (valid && reinterpret_cast<std::uintptr_t>(from) % 16 != 0) {
    to.memory->fail(to.first + i, "receives a cp.async from a misaligned address");
  }
  ::fishermask::emulation::async_proxy().note_requested(*to.memory, to.first + i);
  auto& thread = ::fishermask::emulation::self();
  thread.copies.push_back({[=] {
                             uint4 value = {0, 0, 0, 0};
                             if (valid) std::memcpy(&value, from, sizeof value);
                             to[i] = value;
                             ::fishermask::emulation::async_proxy().note_written(*to.memory,
                                                                                 to.first + i);
                           },
                           thread.committed_groups});
#else
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to.memory + i));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
               "r"(bytes));
#endif
}

// What this thread has written to shared memory (and waited for) becomes visible to wgmma; other
// threads' wgmma behind a barrier.
__device__ __forceinline__ void proxy_fence() {
#if defined(FM_EMULATION)
  ::fishermask::emulation::async_proxy().proxy_fence();
#elif defined(FM_WGMMA)
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// For the compiler: the sums are read and written here, so that nothing of them moves across.
template <int kCount>
__device__ __forceinline__ void pin(float (&sums)[kCount]) {
#ifndef FM_EMULATION
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(sums[i])::"memory");
#endif
}

// Before the first wgmma on sums that the thread has touched.
template <int kCount>
__device__ __forceinline__ void wgmma_fence(float (&sums)[kCount]) {
#if defined(FM_EMULATION)
  ::fishermask::emulation::async_proxy().register_fence();
#elif defined(FM_WGMMA)
  pin(sums);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

// The products asked for since the last commit are one group.
__device__ __forceinline__ void wgmma_commit() {
#if defined(FM_EMULATION)
  ::fishermask::emulation::async_proxy().commit();
#elif defined(FM_WGMMA)
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

// Until at most kGroups of the youngest groups are in flight.
template <int kGroups>
__device__ __forceinline__ void wgmma_wait() {
#if defined(FM_EMULATION)
  ::fishermask::emulation::async_proxy().wait(kGroups);
#elif defined(FM_WGMMA)
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
#endif
}
// Until none is; the sums are the thread's again.
template <int kCount>
__device__ __forceinline__ void wgmma_wait_all(float (&sums)[kCount]) {
  wgmma_wait<0>();
  pin(sums);
}

// The products: descriptors of a (64 rows) and b (n columns) at 16 positions; added to the sums, or
// instead of them where `add` is false.
#define FM_WGMMA_SUMS(i)                                                                      \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])

// d (64 × 192) += a (64 × 16) · b (16 × 192).
__device__ __forceinline__ void wgmma_bf16(float (&d)[96], std::uint64_t a, std::uint64_t b,
                                           bool add) {
#if defined(FM_EMULATION)
  ::fishermask::emulation::async_proxy().issue(d, {192, a, b, true, true, add});
#elif defined(FM_WGMMA)
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %98, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, "
      "%8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, "
      "%40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, "
      "%56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, "
      "%72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, "
      "%88, %89, %90, %91, %92, %93, %94, %95}, "
      "%96, %97, add, 1, 1, 1, 1;\n}"
      : FM_WGMMA_SUMS(0), FM_WGMMA_SUMS(8), FM_WGMMA_SUMS(16), FM_WGMMA_SUMS(24), FM_WGMMA_SUMS(32),
        FM_WGMMA_SUMS(40), FM_WGMMA_SUMS(48), FM_WGMMA_SUMS(56), FM_WGMMA_SUMS(64),
        FM_WGMMA_SUMS(72), FM_WGMMA_SUMS(80), FM_WGMMA_SUMS(88)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
#endif
}

// d (64 × 128) += a (64 × 16) · b (16 × 128).
__device__ __forceinline__ void wgmma_bf16(float (&d)[64], std::uint64_t a, std::uint64_t b,
                                           bool add) {
#if defined(FM_EMULATION)
  ::fishermask::emulation::async_proxy().issue(d, {128, a, b, true, true, add});
#elif defined(FM_WGMMA)
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, "
      "%8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, "
      "%40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, "
      "%56, %57, %58, %59, %60, %61, %62, %63}, "
      "%64, %65, add, 1, 1, 1, 1;\n}"
      : FM_WGMMA_SUMS(0), FM_WGMMA_SUMS(8), FM_WGMMA_SUMS(16), FM_WGMMA_SUMS(24), FM_WGMMA_SUMS(32),
        FM_WGMMA_SUMS(40), FM_WGMMA_SUMS(48), FM_WGMMA_SUMS(56)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
#endif
}

#undef FM_WGMMA_SUMS

}  // namespace fishermask::cuda
