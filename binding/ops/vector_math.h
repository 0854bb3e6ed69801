// exp (of f64 too), tanh and erf of f32 as branch-free polynomials: a plain loop over them
// vectorises, where one over std::exp calls the library for every element. Error:      exp 2 ulp
// (f64: 2), tanh and erf 4 ulp (vector_math_test.cc measures them over their ranges). NaN passes
// through; exp overflows to inf and underflows to 0 through the subnormals. Source:     exp and
// tanh after S. Moshier's Cephes (expf.c, tanhf.c); erf after N. Juffa's minimax polynomials (two
// intervals, exp in the tail).
#pragma once

#include <bit>
#include <cstdint>

#include "core/vector_clones.h"

namespace fishermask::vector_math {

// A blend in bits: the compiler may not turn it back into a branch, which it could not vectorise
// (floating-point arithmetic may trap, so that it is not moved out of a branch).
FM_INLINE_IN_CLONES float select(bool condition, float yes, float no) {
  const std::uint32_t mask = 0U - static_cast<std::uint32_t>(condition);
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(yes) & mask) |
                              (std::bit_cast<std::uint32_t>(no) & ~mask));
}

FM_INLINE_IN_CLONES float magnitude(float x) {
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & 0x7FFFFFFFU);
}

FM_INLINE_IN_CLONES float with_sign_of(float x, float sign) {
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(x) & 0x7FFFFFFFU) |
                              (std::bit_cast<std::uint32_t>(sign) & 0x80000000U));
}

// 2^n for n in [-126, 127].
FM_INLINE_IN_CLONES float power_of_two(std::int32_t n) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(n + 127) << 23U);
}

FM_INLINE_IN_CLONES float exp(float x) {
  constexpr float kLog2E = 1.44269504088896341F;
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  // 1.5 · 2^23: adding it rounds to a whole number, which then stands in the low bits.
  constexpr float kRounder = 12582912.0F;
  const float above = x < -104.0F ? -104.0F : x;
  const float clamped = above > 89.0F ? 89.0F : above;
  const float shifted = clamped * kLog2E + kRounder;
  const float whole = shifted - kRounder;
  const std::int32_t n =
      std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kRounder);
  const float r = clamped - whole * kLn2High - whole * kLn2Low;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const float y = p * r * r + r + 1.0F;
  // In two factors: 2^n alone lies outside f32 at both ends.
  const std::int32_t half = n >> 1;
  return y * power_of_two(half) * power_of_two(n - half);
}

// 2^n for n in [-1022, 1023], in two's complement: of NaN's bits n is anything, which signed
// numbers would overflow.
FM_INLINE_IN_CLONES double power_of_two(std::uint64_t n) {
  return std::bit_cast<double>((n + 1023U) << 52U);
}

// In f64; the Taylor polynomial of degree 13 on half a ln 2 to either side.
FM_INLINE_IN_CLONES double exp(double x) {
  constexpr double kLog2E = 1.4426950408889634;
  constexpr double kLn2High = 6.93145751953125e-1;
  constexpr double kLn2Low = 1.42860682030941723212e-6;
  constexpr double kRounder = 6755399441055744.0;  // 1.5 · 2^52
  const double above = x < -750.0 ? -750.0 : x;
  const double clamped = above > 710.0 ? 710.0 : above;
  const double shifted = clamped * kLog2E + kRounder;
  const double whole = shifted - kRounder;
  const std::uint64_t n =
      std::bit_cast<std::uint64_t>(shifted) - std::bit_cast<std::uint64_t>(kRounder);
  const double r = clamped - whole * kLn2High - whole * kLn2Low;
  double p = 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  const double y = p * r * r + r + 1.0;
  // An arithmetic shift, which AVX2 has not for 64 bits.
  const std::uint64_t half = ((n + 2048U) >> 1U) - 1024U;
  return y * power_of_two(half) * power_of_two(n - half);
}

FM_INLINE_IN_CLONES float sigmoid(float x) { return 1.0F / (1.0F + exp(-x)); }

FM_INLINE_IN_CLONES float tanh(float x) {
  const float size = magnitude(x);
  const float s = x * x;
  float p = -5.70498872745e-3F;
  p = p * s + 2.06390887954e-2F;
  p = p * s - 5.37397155531e-2F;
  p = p * s + 1.33314422036e-1F;
  p = p * s - 3.33332819422e-1F;
  const float near = p * s * x + x;
  const float far = with_sign_of(1.0F - 2.0F / (exp(2.0F * size) + 1.0F), x);
  return select(size > 0.625F, far, near);
}

FM_INLINE_IN_CLONES float erf(float x) {
  const float size = magnitude(x);
  const float s = x * x;
  float p = -5.96761703e-4F;
  p = p * s + 4.99119423e-3F;
  p = p * s - 2.67681349e-2F;
  p = p * s + 1.12819925e-1F;
  p = p * s - 3.76125336e-1F;
  p = p * s + 1.28379166e-1F;
  const float near = p * x + x;
  const float t = size > 10.0F ? 10.0F : size;
  float q = (-1.72853470e-5F * t + 3.83197126e-4F) * (t * t);
  q = q + (-3.88396438e-3F * t + 2.42546219e-2F);
  q = q * t - 1.06777877e-1F;
  q = q * t - 6.34846687e-1F;
  q = q * t - 1.28717512e-1F;
  q = q * t - t;
  const float far = with_sign_of(1.0F - exp(q), x);
  return select(size > 0.927734375F, far, near);
}

}  // namespace fishermask::vector_math
