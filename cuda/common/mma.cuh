// Tensor-core instructions and asynchronous copies: the only PTX of this backend, each beside what
// it computes, which the emulation runs lane by lane from the exact fragment layout.
//
// Fragments (lane = 4 * g + t, g in 0..7, t in 0..3), PTX ISA "mma.sync.m16n8k*":
//   m16n8k8  tf32:  a0 (g, t)   a1 (g+8, t)   a2 (g, t+4)  a3 (g+8, t+4);  b0 (t, g)  b1 (t+4, g)
//   m16n8k16 bf16:  a0 (g, 2t..2t+1)  a1 (g+8, 2t..)  a2 (g, 2t+8..)  a3 (g+8, 2t+8..), low half
//                   first; b0 (2t..2t+1, g)  b1 (2t+8.., g)
//   both:           d0 (g, 2t)  d1 (g, 2t+1)  d2 (g+8, 2t)  d3 (g+8, 2t+1)
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/shared.cuh"

namespace fishermask::cuda {

// Round to nearest, ties away from zero, to 10 bits of fraction: cvt.rna.tf32.f32.
__device__ __forceinline__ std::uint32_t tf32_bits(float x) {
#ifndef FM_EMULATION
  std::uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
#else
  std::uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7F800000U) == 0x7F800000U) return bits;
  return (bits + 0x1000U) & 0xFFFFE000U;
#endif
}

// Round to nearest even, as cvt.rn.bf16.f32; NaN stays one.
__host__ __device__ __forceinline__ std::uint16_t bf16_bits(float x) {
  std::uint32_t bits;
#ifdef __CUDA_ARCH__
  bits = __float_as_uint(x);
#else
  bits = __builtin_bit_cast(std::uint32_t, x);
#endif
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>((bits >> 16U) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
}
__host__ __device__ __forceinline__ float bf16_value(std::uint16_t half) {
  const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16U;
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  return __builtin_bit_cast(float, bits);
#endif
}
// Two bf16 in one word, `low` in the low half: cvt.rn.bf16x2.f32.
__device__ __forceinline__ std::uint32_t bf16_pair(float low, float high) {
#ifndef FM_EMULATION
  std::uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
#else
  return static_cast<std::uint32_t>(bf16_bits(low)) |
         (static_cast<std::uint32_t>(bf16_bits(high)) << 16U);
#endif
}

#ifdef FM_EMULATION
namespace detail {
struct MmaOperands {
  std::uint32_t a[4];
  std::uint32_t b[2];
};
inline float tf32_product_value(std::uint32_t bits) {
  return __uint_as_float(bits & 0xFFFFE000U);  // the hardware ignores the low bits
}
}  // namespace detail
#endif

// d (16 × 8) += a (16 × 8) · b (8 × 8), tf32 operands, f32 sums.
__device__ __forceinline__ void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4],
                                         const std::uint32_t (&b)[2]) {
#ifndef FM_EMULATION
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  namespace emu = ::fishermask::emulation;
  const detail::MmaOperands own{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  const auto& all = emu::block().meet(0xFFFFFFFFU, emu::deposit_of(own), "mma_tf32");
  const int lane = emu::self().lane();
  const int g = lane / 4;
  const int t = lane % 4;
  for (int e = 0; e < 4; ++e) {
    const int row = g + (e >= 2 ? 8 : 0);
    const int col = 2 * t + e % 2;
    float sum = d[e];
    for (int k = 0; k < 8; ++k) {
      const auto from_a =
          emu::value_of<detail::MmaOperands>(all[static_cast<std::size_t>(row % 8 * 4 + k % 4)]);
      const auto from_b =
          emu::value_of<detail::MmaOperands>(all[static_cast<std::size_t>(col * 4 + k % 4)]);
      sum += detail::tf32_product_value(from_a.a[(row >= 8 ? 1 : 0) + (k >= 4 ? 2 : 0)]) *
             detail::tf32_product_value(from_b.b[k >= 4 ? 1 : 0]);
    }
    d[e] = sum;
  }
#endif
}

// d (16 × 8) += a (16 × 16) · b (16 × 8), bf16 operands, f32 sums.
__device__ __forceinline__ void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4],
                                         const std::uint32_t (&b)[2]) {
#ifndef FM_EMULATION
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  namespace emu = ::fishermask::emulation;
  const detail::MmaOperands own{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  const auto& all = emu::block().meet(0xFFFFFFFFU, emu::deposit_of(own), "mma_bf16");
  const int lane = emu::self().lane();
  const int g = lane / 4;
  const int t = lane % 4;
  const auto half = [](std::uint32_t word, int which) {
    return bf16_value(static_cast<std::uint16_t>(which == 0 ? word & 0xFFFFU : word >> 16U));
  };
  for (int e = 0; e < 4; ++e) {
    const int row = g + (e >= 2 ? 8 : 0);
    const int col = 2 * t + e % 2;
    float sum = d[e];
    for (int k = 0; k < 16; ++k) {
      const int holder = k % 8 / 2;
      const auto from_a =
          emu::value_of<detail::MmaOperands>(all[static_cast<std::size_t>(row % 8 * 4 + holder)]);
      const auto from_b =
          emu::value_of<detail::MmaOperands>(all[static_cast<std::size_t>(col * 4 + holder)]);
      sum += half(from_a.a[(row >= 8 ? 1 : 0) + (k >= 8 ? 2 : 0)], k % 2) *
             half(from_b.b[k >= 8 ? 1 : 0], k % 2);
    }
    d[e] = sum;
  }
#endif
}

// 16 bytes from global to shared memory, asynchronously; zeros instead where `valid` is false
// (`from` is not read then). `from` and element i are aligned to 16 bytes. Visible to the calling
// thread after cp_async_wait, to the block after a barrier behind that.
__device__ __forceinline__ void cp_async16(SharedArray<float> to, int i, const float* from,
                                           bool valid) {
#ifndef FM_EMULATION
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to.memory + i));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
               "r"(bytes));
#else
  check_aligned4(to, i);
  if (valid && reinterpret_cast<std::uintptr_t>(from) % 16 != 0) {
    to.memory->fail(to.first + i, "receives a cp.async from a misaligned address");
  }
  auto& thread = ::fishermask::emulation::self();
  // Read on arrival: nobody may change the source before.
  thread.copies.push_back({[=] {
                             for (int e = 0; e < 4; ++e) to[i + e] = valid ? from[e] : 0.0F;
                           },
                           thread.committed_groups});
#endif
}

// 4 bytes, for what is not aligned to 16.
__device__ __forceinline__ void cp_async4(SharedArray<float> to, int i, const float* from,
                                          bool valid) {
#ifndef FM_EMULATION
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to.memory + i));
  const int bytes = valid ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from),
               "r"(bytes));
#else
  auto& thread = ::fishermask::emulation::self();
  thread.copies.push_back({[=] { to[i] = valid ? *from : 0.0F; }, thread.committed_groups});
#endif
}

// The copies asked for since the last commit are one group.
__device__ __forceinline__ void cp_async_commit() {
#ifndef FM_EMULATION
  asm volatile("cp.async.commit_group;");
#else
  ++::fishermask::emulation::self().committed_groups;
#endif
}

// Until at most kGroups of the youngest groups are still on their way.
template <int kGroups>
__device__ __forceinline__ void cp_async_wait() {
#ifndef FM_EMULATION
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups));
#else
  auto& thread = ::fishermask::emulation::self();
  auto& copies = thread.copies;
  std::size_t arrived = 0;
  while (arrived < copies.size() && copies[arrived].group < thread.committed_groups - kGroups) {
    copies[arrived++].arrive();
  }
  copies.erase(copies.begin(), copies.begin() + static_cast<std::ptrdiff_t>(arrived));
#endif
}

}  // namespace fishermask::cuda
