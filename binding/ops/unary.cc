// The elementwise functions without attributes (docs/ops.md lists them; relu has its own file).
// Shapes:     y as x, any.
// Kinks:      abs, relu-like and piecewise functions as in PyTorch; abs has slope 0 at 0.
//             floor, ceil, round (half to even), sign, not (1 where x is 0) and isnan: gradient 0.
// NaN passes through, but in not and isnan. erf is computed in f64 for either type.
// Deterministic: yes.
#include "ops/unary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "graph/op.h"
#include "ops/vector_math.h"

namespace fishermask {
namespace {

// One function: its name, where its slope comes from, its value at x and its slope at x (or y).
#define FM_UNARY(Name, from, value_expression, slope_expression)                    \
  template <typename T>                                                             \
  struct Name {                                                                     \
    static constexpr SlopeFrom kSlopeFrom = SlopeFrom::from;                        \
    FM_INLINE_IN_CLONES T value(T x) const { return value_expression; }             \
    FM_INLINE_IN_CLONES T slope([[maybe_unused]] T x) const {                       \
      [[maybe_unused]] const T y = x; /* slopes from the output are written in y */ \
      return slope_expression;                                                      \
    }                                                                               \
  };

template <typename T>
T logistic(T x) {
  return T{1} / (T{1} + std::exp(-x));
}

// log(1 + e^x) without overflow.
template <typename T>
T log_one_plus_exp(T x) {
  return std::max(x, T{0}) + std::log1p(std::exp(-std::abs(x)));
}

template <typename T>
T erf_in_f64(T x) {
  return static_cast<T>(std::erf(static_cast<double>(x)));
}

template <typename T>
T erf_slope(T x) {
  const double z = static_cast<double>(x);
  return static_cast<T>(2 * std::numbers::inv_sqrtpi * std::exp(-z * z));
}

// d/dx of x · tanh(softplus(x)).
template <typename T>
T mish_slope(T x) {
  const T t = std::tanh(log_one_plus_exp(x));
  return t + x * (T{1} - t * t) * logistic(x);
}

template <typename T>
T hard_swish_value(T x) {
  const T gate = x / T{6} + T{0.5};
  return x * (gate < T{0} ? T{0} : gate > T{1} ? T{1} : gate);
}

template <typename T>
T hard_swish_slope(T x) {
  if (x <= T{-3}) return T{0};
  return x >= T{3} ? T{1} : x / T{3} + T{0.5};
}

template <typename T>
T sign_of(T x) {
  return x > T{0} ? T{1} : x < T{0} ? T{-1} : x;
}

template <typename T>
T square(T x) {
  return x * x;
}

FM_UNARY(Abs, kInput, std::abs(x), sign_of(x))
FM_UNARY(Neg, kConstant, -x, T{-1})
FM_UNARY(Exp, kOutput, std::exp(x), y)
FM_UNARY(Log, kInput, std::log(x), T{1} / x)
FM_UNARY(Sqrt, kOutput, std::sqrt(x), T{0.5} / y)
FM_UNARY(Reciprocal, kOutput, T{1} / x, -y* y)
FM_UNARY(Erf, kInput, erf_in_f64(x), erf_slope(x))
FM_UNARY(Sin, kInput, std::sin(x), std::cos(x))
FM_UNARY(Cos, kInput, std::cos(x), -std::sin(x))
FM_UNARY(Tan, kOutput, std::tan(x), T{1} + y * y)
FM_UNARY(Asin, kInput, std::asin(x), T{1} / std::sqrt((T{1} - x) * (T{1} + x)))
FM_UNARY(Acos, kInput, std::acos(x), T{-1} / std::sqrt((T{1} - x) * (T{1} + x)))
FM_UNARY(Atan, kInput, std::atan(x), T{1} / (T{1} + x * x))
FM_UNARY(Sinh, kInput, std::sinh(x), std::cosh(x))
FM_UNARY(Cosh, kInput, std::cosh(x), std::sinh(x))
FM_UNARY(Tanh, kOutput, std::tanh(x), (T{1} - y) * (T{1} + y))
FM_UNARY(Asinh, kInput, std::asinh(x), T{1} / std::sqrt(x * x + T{1}))
FM_UNARY(Acosh, kInput, std::acosh(x), T{1} / (std::sqrt(x - T{1}) * std::sqrt(x + T{1})))
FM_UNARY(Atanh, kInput, std::atanh(x), T{1} / ((T{1} - x) * (T{1} + x)))
FM_UNARY(Sigmoid, kOutput, logistic(x), y*(T{1} - y))
FM_UNARY(Softplus, kOutput, log_one_plus_exp(x), -std::expm1(-y))
FM_UNARY(Softsign, kInput, x / (T{1} + std::abs(x)), T{1} / square(T{1} + std::abs(x)))
FM_UNARY(Silu, kInput, x* logistic(x), logistic(x) * (T{1} + x * (T{1} - logistic(x))))
FM_UNARY(Mish, kInput, x* std::tanh(log_one_plus_exp(x)), mish_slope(x))
FM_UNARY(HardSwish, kInput, hard_swish_value(x), hard_swish_slope(x))
FM_UNARY(Floor, kZero, std::floor(x), T{0})
FM_UNARY(Ceil, kZero, std::ceil(x), T{0})
// The default rounding mode is to nearest, half to even.
FM_UNARY(Round, kZero, std::nearbyint(x), T{0})
FM_UNARY(Sign, kZero, sign_of(x), T{0})
FM_UNARY(Not, kZero, x == T{0} ? T{1} : T{0}, T{0})
FM_UNARY(IsNan, kZero, x != x ? T{1} : T{0}, T{0})

// f32 in vectors: the functions that real networks apply to every activation.
FM_UNARY(FastExp, kOutput, vector_math::exp(x), y)
FM_UNARY(FastTanh, kOutput, vector_math::tanh(x), (1.0F - y) * (1.0F + y))
FM_UNARY(FastSigmoid, kOutput, vector_math::sigmoid(x), y * (1.0F - y))

template <typename T>
struct FastSilu {
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  [[nodiscard]] FM_INLINE_IN_CLONES float value(float x) const {
    return x * vector_math::sigmoid(x);
  }
  [[nodiscard]] FM_INLINE_IN_CLONES float slope(float x) const {
    const float gate = vector_math::sigmoid(x);
    return gate * (1.0F + x * (1.0F - gate));
  }
};

#undef FM_UNARY

std::vector<OpDefinition> unary_ops() {
  return {
      unary_op<UnaryOf<Abs>>("abs", -2, 2),
      unary_op<UnaryOf<Neg>>("neg", -2, 2),
      unary_op<UnaryOf<Exp>>("exp", -3, 2),
      unary_op<UnaryOf<Log>>("log", 0.2, 3),
      unary_op<UnaryOf<Sqrt>>("sqrt", 0.2, 3),
      unary_op<UnaryOf<Reciprocal>>("reciprocal", -3, -0.3),
      unary_op<UnaryOf<Erf>>("erf", -3, 3),
      unary_op<UnaryOf<Sin>>("sin", -4, 4),
      unary_op<UnaryOf<Cos>>("cos", -4, 4),
      unary_op<UnaryOf<Tan>>("tan", -1.2, 1.2),
      unary_op<UnaryOf<Asin>>("asin", -0.9, 0.9),
      unary_op<UnaryOf<Acos>>("acos", -0.9, 0.9),
      unary_op<UnaryOf<Atan>>("atan", -3, 3),
      unary_op<UnaryOf<Sinh>>("sinh", -2, 2),
      unary_op<UnaryOf<Cosh>>("cosh", -2, 2),
      unary_op<UnaryOf<Tanh>>("tanh", -3, 3),
      unary_op<UnaryOf<Asinh>>("asinh", -3, 3),
      unary_op<UnaryOf<Acosh>>("acosh", 1.1, 4),
      unary_op<UnaryOf<Atanh>>("atanh", -0.9, 0.9),
      unary_op<UnaryOf<Sigmoid>>("sigmoid", -5, 5),
      unary_op<UnaryOf<Softplus>>("softplus", -5, 5),
      unary_op<UnaryOf<Softsign>>("softsign", -5, 5),
      unary_op<UnaryOf<Silu>>("silu", -5, 5),
      unary_op<UnaryOf<Mish>>("mish", -5, 5),
      unary_op<UnaryOf<HardSwish>>("hard_swish", -5, 5),
      unary_op<UnaryOf<Floor>>("floor", -4, 4),
      unary_op<UnaryOf<Ceil>>("ceil", -4, 4),
      unary_op<UnaryOf<Round>>("round", -4, 4),
      unary_op<UnaryOf<Sign>>("sign", -2, 2),
      unary_op<UnaryOf<Not>>("not", -2, 2),
      unary_op<UnaryOf<IsNan>>("isnan", -2, 2),
  };
}

using MakeFast = std::unique_ptr<Kernel> (*)(const NodeSpec&, std::int64_t);

MakeFast fast_of(const std::string& name) {
  if (name == "exp") return unary_fast<UnaryOf<FastExp>>;
  if (name == "tanh") return unary_fast<UnaryOf<FastTanh>>;
  if (name == "sigmoid") return unary_fast<UnaryOf<FastSigmoid>>;
  if (name == "silu") return unary_fast<UnaryOf<FastSilu>>;
  return nullptr;
}

int register_all() {
  int count = 0;
  for (OpDefinition& op : unary_ops()) {
    op.make_fast = fast_of(op.name);
    count = register_op(std::move(op));
  }
  return count;
}

[[maybe_unused]] const int kRegistered = register_all();

}  // namespace
}  // namespace fishermask
