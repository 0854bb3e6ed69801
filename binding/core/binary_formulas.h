// The elementwise functions of two operands, and where's of three: value and what passes of the
// output's gradient to each operand, for the kernels of either side (ops/broadcast_kernel.h says
// what a function is).
// Gradients:  minimum and maximum at ties: to a. pow by its exponent: y·log a, 0 where a is 0, NaN
//             where a < 0. fmod is C's: 1 to a, −trunc(a/b) to b. Comparisons and logic (not 0 is
//             true): 0. where: to the operand that was taken; the condition gets 0.
// NaN passes through minimum and maximum, as in NumPy.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "core/formula.h"
#include "core/kernel.h"

namespace fishermask::formula {

enum class Squares { kNone, kGradient, kGradientTimesInput };

// A function of two operands: its value and what passes of the output's gradient g to a and to b.
#define FM_BINARY_FORMULA(Name, squares, value_expression, to_a, to_b)                        \
  template <typename T>                                                                       \
  struct Name {                                                                               \
    static constexpr std::size_t kOperands = 2;                                               \
    static constexpr std::array<bool, 3> kPasses = {true, true, false};                       \
    static constexpr Squares kSquares = Squares::squares;                                     \
    FM_BOTH_SIDES static T value(T a, T b, T /*c*/) { return value_expression; }              \
    template <std::size_t K>                                                                  \
    FM_BOTH_SIDES static T passed(T g, [[maybe_unused]] T a, [[maybe_unused]] T b, T /*c*/) { \
      if constexpr (K == 0) {                                                                 \
        return to_a;                                                                          \
      } else {                                                                                \
        return to_b;                                                                          \
      }                                                                                       \
    }                                                                                         \
  };

// A question with the answer 0 or 1.
#define FM_QUESTION_FORMULA(Name, condition)                                              \
  template <typename T>                                                                   \
  struct Name {                                                                           \
    static constexpr std::size_t kOperands = 2;                                           \
    static constexpr std::array<bool, 3> kPasses = {false, false, false};                 \
    static constexpr Squares kSquares = Squares::kNone;                                   \
    FM_BOTH_SIDES static T value(T a, T b, T /*c*/) { return (condition) ? T{1} : T{0}; } \
  };

// Whether minimum or maximum takes its first operand, which a NaN there always does.
template <typename T>
FM_BOTH_SIDES bool takes_smaller_first(T a, T b) {
  return a <= b || a != a;
}
template <typename T>
FM_BOTH_SIDES bool takes_larger_first(T a, T b) {
  return a >= b || a != a;
}

template <typename T>
FM_BOTH_SIDES T pow_slope(T a, T b) {
  return b == T{0} ? T{0} : b * std::pow(a, b - T{1});
}

// log of a negative base is NaN, and stays so.
template <typename T>
FM_BOTH_SIDES T pow_exponent_slope(T a, T b) {
  return a == T{0} ? T{0} : std::pow(a, b) * std::log(a);
}

// trunc(a / b), not fooled by a quotient that rounds up to a whole number.
template <typename T>
FM_BOTH_SIDES T whole_quotient(T a, T b) {
  return std::round((a - std::fmod(a, b)) / b);
}

// Both operands get the gradient as it is.
FM_BINARY_FORMULA(Add, kGradient, a + b, g, g)  // NOLINT(bugprone-branch-clone)
FM_BINARY_FORMULA(Sub, kGradient, a - b, g, -g)
FM_BINARY_FORMULA(Mul, kGradientTimesInput, a* b, g* b, g* a)
FM_BINARY_FORMULA(Div, kNone, a / b, g / b, -g*(a / b) / b)
FM_BINARY_FORMULA(Pow, kNone, std::pow(a, b), g* pow_slope(a, b), g* pow_exponent_slope(a, b))
FM_BINARY_FORMULA(Minimum, kNone, takes_smaller_first(a, b) ? a : b,
                  takes_smaller_first(a, b) ? g : T{0}, takes_smaller_first(a, b) ? T{0} : g)
FM_BINARY_FORMULA(Maximum, kNone, takes_larger_first(a, b) ? a : b,
                  takes_larger_first(a, b) ? g : T{0}, takes_larger_first(a, b) ? T{0} : g)
FM_BINARY_FORMULA(Fmod, kNone, std::fmod(a, b), g, -g* whole_quotient(a, b))
FM_QUESTION_FORMULA(Equal, a == b)
FM_QUESTION_FORMULA(Less, a < b)
FM_QUESTION_FORMULA(LessEqual, a <= b)
FM_QUESTION_FORMULA(Greater, a > b)
FM_QUESTION_FORMULA(GreaterEqual, a >= b)
FM_QUESTION_FORMULA(LogicalAnd, a != T{0} && b != T{0})
FM_QUESTION_FORMULA(LogicalOr, a != T{0} || b != T{0})
FM_QUESTION_FORMULA(LogicalXor, (a != T{0}) != (b != T{0}))

#undef FM_BINARY_FORMULA
#undef FM_QUESTION_FORMULA

template <typename T>
struct Where {
  static constexpr std::size_t kOperands = 3;
  static constexpr std::array<bool, 3> kPasses = {false, true, true};
  FM_BOTH_SIDES static T value(T condition, T a, T b) { return condition != T{0} ? a : b; }
  template <std::size_t kOperand>
  FM_BOTH_SIDES static T passed(T grad_output, T condition, T /*a*/, T /*b*/) {
    return (condition != T{0}) == (kOperand == 1) ? grad_output : T{0};
  }
};

// The elements of `other` where it is the last sizes of the output, else 0.
inline std::int64_t trailing_count(const NodeSpec& node) {
  if (!node.has_parameter("other")) return 0;
  Shape other = node.parameters.at("other");
  const Shape& output = node.outputs[0].shape;
  while (!other.empty() && other.front() == 1) other.erase(other.begin());
  if (!std::equal(other.rbegin(), other.rend(), output.rbegin())) return 0;
  return element_count(other);
}

}  // namespace fishermask::formula
