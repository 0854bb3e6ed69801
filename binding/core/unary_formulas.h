// The elementwise functions without attributes: value and slope, for the kernels of either side
// (ops/unary.h says what a function is; docs/ops.md lists them).
// Kinks:      abs, relu-like and piecewise functions as in PyTorch; abs has slope 0 at 0.
//             floor, ceil, round (half to even), sign, not (1 where x is 0) and isnan: gradient 0.
// NaN passes through, but in not and isnan. erf is computed in f64 for either type.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/formula.h"

namespace fishermask {

enum class SlopeFrom {
  kInput,
  kOutput,
  kConstant,  // slope(0): the same everywhere
  kZero,      // piecewise constant: no gradient passes, not even an infinite one
};

namespace formula {

// One function: its name, where its slope comes from, its value at x and its slope at x (or y).
#define FM_UNARY_FORMULA(Name, from, value_expression, slope_expression)            \
  template <typename T>                                                             \
  struct Name {                                                                     \
    static constexpr SlopeFrom kSlopeFrom = SlopeFrom::from;                        \
    FM_FORMULA T value(T x) const { return value_expression; }                      \
    FM_FORMULA T slope([[maybe_unused]] T x) const {                                \
      [[maybe_unused]] const T y = x; /* slopes from the output are written in y */ \
      return slope_expression;                                                      \
    }                                                                               \
  };

template <typename T>
FM_BOTH_SIDES T logistic(T x) {
  return T{1} / (T{1} + std::exp(-x));
}

// log(1 + e^x) without overflow.
template <typename T>
FM_BOTH_SIDES T log_one_plus_exp(T x) {
  return std::max(x, T{0}) + std::log1p(std::exp(-std::abs(x)));
}

template <typename T>
FM_BOTH_SIDES T erf_in_f64(T x) {
  return static_cast<T>(std::erf(static_cast<double>(x)));
}

template <typename T>
FM_BOTH_SIDES T erf_slope(T x) {
  const double z = static_cast<double>(x);
  return static_cast<T>(2 * std::numbers::inv_sqrtpi * std::exp(-z * z));
}

// d/dx of x · tanh(softplus(x)).
template <typename T>
FM_BOTH_SIDES T mish_slope(T x) {
  const T t = std::tanh(log_one_plus_exp(x));
  return t + x * (T{1} - t * t) * logistic(x);
}

template <typename T>
FM_BOTH_SIDES T hard_swish_value(T x) {
  const T gate = x / T{6} + T{0.5};
  return x * (gate < T{0} ? T{0} : gate > T{1} ? T{1} : gate);
}

template <typename T>
FM_BOTH_SIDES T hard_swish_slope(T x) {
  if (x <= T{-3}) return T{0};
  return x >= T{3} ? T{1} : x / T{3} + T{0.5};
}

template <typename T>
FM_BOTH_SIDES T sign_of(T x) {
  return x > T{0} ? T{1} : x < T{0} ? T{-1} : x;
}

template <typename T>
FM_BOTH_SIDES T square(T x) {
  return x * x;
}

FM_UNARY_FORMULA(Abs, kInput, std::abs(x), sign_of(x))
FM_UNARY_FORMULA(Neg, kConstant, -x, T{-1})
FM_UNARY_FORMULA(Exp, kOutput, std::exp(x), y)
FM_UNARY_FORMULA(Log, kInput, std::log(x), T{1} / x)
FM_UNARY_FORMULA(Sqrt, kOutput, std::sqrt(x), T{0.5} / y)
FM_UNARY_FORMULA(Reciprocal, kOutput, T{1} / x, -y* y)
FM_UNARY_FORMULA(Erf, kInput, erf_in_f64(x), erf_slope(x))
FM_UNARY_FORMULA(Sin, kInput, std::sin(x), std::cos(x))
FM_UNARY_FORMULA(Cos, kInput, std::cos(x), -std::sin(x))
FM_UNARY_FORMULA(Tan, kOutput, std::tan(x), T{1} + y * y)
FM_UNARY_FORMULA(Asin, kInput, std::asin(x), T{1} / std::sqrt((T{1} - x) * (T{1} + x)))
FM_UNARY_FORMULA(Acos, kInput, std::acos(x), T{-1} / std::sqrt((T{1} - x) * (T{1} + x)))
FM_UNARY_FORMULA(Atan, kInput, std::atan(x), T{1} / (T{1} + x * x))
FM_UNARY_FORMULA(Sinh, kInput, std::sinh(x), std::cosh(x))
FM_UNARY_FORMULA(Cosh, kInput, std::cosh(x), std::sinh(x))
FM_UNARY_FORMULA(Tanh, kOutput, std::tanh(x), (T{1} - y) * (T{1} + y))
FM_UNARY_FORMULA(Asinh, kInput, std::asinh(x), T{1} / std::sqrt(x * x + T{1}))
FM_UNARY_FORMULA(Acosh, kInput, std::acosh(x), T{1} / (std::sqrt(x - T{1}) * std::sqrt(x + T{1})))
FM_UNARY_FORMULA(Atanh, kInput, std::atanh(x), T{1} / ((T{1} - x) * (T{1} + x)))
FM_UNARY_FORMULA(Sigmoid, kOutput, logistic(x), y*(T{1} - y))
FM_UNARY_FORMULA(Softplus, kOutput, log_one_plus_exp(x), -std::expm1(-y))
FM_UNARY_FORMULA(Softsign, kInput, x / (T{1} + std::abs(x)), T{1} / square(T{1} + std::abs(x)))
FM_UNARY_FORMULA(Silu, kInput, x* logistic(x), logistic(x) * (T{1} + x * (T{1} - logistic(x))))
FM_UNARY_FORMULA(Mish, kInput, x* std::tanh(log_one_plus_exp(x)), mish_slope(x))
FM_UNARY_FORMULA(HardSwish, kInput, hard_swish_value(x), hard_swish_slope(x))
FM_UNARY_FORMULA(Floor, kZero, std::floor(x), T{0})
FM_UNARY_FORMULA(Ceil, kZero, std::ceil(x), T{0})
// The default rounding mode is to nearest, half to even.
FM_UNARY_FORMULA(Round, kZero, std::nearbyint(x), T{0})
FM_UNARY_FORMULA(Sign, kZero, sign_of(x), T{0})
FM_UNARY_FORMULA(Not, kZero, x == T{0} ? T{1} : T{0}, T{0})
FM_UNARY_FORMULA(IsNan, kZero, x != x ? T{1} : T{0}, T{0})

#undef FM_UNARY_FORMULA

}  // namespace formula
}  // namespace fishermask
