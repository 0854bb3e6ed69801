// The elementwise functions with attributes (ops/parametric_unary.cc lists them): value and slope,
// for the kernels of either side, and their attributes from the node. Errors: GRAPH.
#pragma once

#include <cmath>
#include <limits>
#include <numbers>
#include <string>

#include "core/kernel.h"
#include "core/unary_formulas.h"

namespace fishermask::formula {

// A finite attribute; without one the fallback.
template <typename T>
T attribute(const NodeSpec& node, const char* key, double fallback) {
  const double value = node.attributes.number(key, fallback);
  node.check(std::isfinite(value), "expected a finite ", key, " but received ", value);
  return static_cast<T>(value);
}

template <typename T>
struct Gelu {
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  [[nodiscard]] FM_BOTH_SIDES T value(T x) const { return x * normal_cdf(x); }
  [[nodiscard]] FM_BOTH_SIDES T slope(T x) const {
    constexpr double kDensityAtZero = std::numbers::inv_sqrtpi / std::numbers::sqrt2;
    const double z = static_cast<double>(x);
    return normal_cdf(x) + static_cast<T>(z * kDensityAtZero * std::exp(-0.5 * z * z));
  }
  FM_BOTH_SIDES static T normal_cdf(T x) {
    return static_cast<T>(0.5 * (1 + std::erf(static_cast<double>(x) / std::numbers::sqrt2)));
  }
};

// u = √(2/π)·(x + 0.044715·x³), and du/dx.
template <typename T>
FM_FORMULA T gelu_inner(T x) {
  constexpr T kFactor = static_cast<T>(std::numbers::sqrt2 * std::numbers::inv_sqrtpi);
  return kFactor * x * (T{1} + static_cast<T>(0.044715) * x * x);
}
template <typename T>
FM_FORMULA T gelu_inner_slope(T x) {
  constexpr T kFactor = static_cast<T>(std::numbers::sqrt2 * std::numbers::inv_sqrtpi);
  return kFactor * (T{1} + static_cast<T>(3 * 0.044715) * x * x);
}

template <typename T>
struct GeluTanh {
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  [[nodiscard]] FM_BOTH_SIDES T value(T x) const {
    return T{0.5} * x * (T{1} + std::tanh(gelu_inner(x)));
  }
  [[nodiscard]] FM_BOTH_SIDES T slope(T x) const {
    const T t = std::tanh(gelu_inner(x));
    return T{0.5} * (T{1} + t) + T{0.5} * x * (T{1} - t) * (T{1} + t) * gelu_inner_slope(x);
  }
};

// The f32 form, on the mathematics of either side: Math::exp and Math::erf.
template <typename Math>
struct GeluOn {
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  [[nodiscard]] FM_FORMULA float value(float x) const {
    return 0.5F * x * (1.0F + Math::erf(x * kInverseSqrt2));
  }
  [[nodiscard]] FM_FORMULA float slope(float x) const {
    const float cdf = 0.5F * (1.0F + Math::erf(x * kInverseSqrt2));
    return cdf + x * kDensityAtZero * Math::exp(-0.5F * x * x);
  }
  static constexpr float kInverseSqrt2 = static_cast<float>(1 / std::numbers::sqrt2);
  static constexpr float kDensityAtZero =
      static_cast<float>(std::numbers::inv_sqrtpi / std::numbers::sqrt2);
};

// Below 0: gamma·alpha·(e^(x/width) − 1); above: gamma·x. Elu, selu and celu are of this form.
template <typename T>
struct ExponentialUnit {
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  [[nodiscard]] FM_BOTH_SIDES T value(T x) const {
    return x > T{0} ? gamma * x : gamma * alpha * std::expm1(x / width);
  }
  [[nodiscard]] FM_BOTH_SIDES T slope(T x) const {
    return x > T{0} ? gamma : gamma * alpha / width * std::exp(x / width);
  }
  T alpha = 1;
  T gamma = 1;
  T width = 1;
};

template <typename T>
struct Elu : ExponentialUnit<T> {
  explicit Elu(const NodeSpec& node)
      : ExponentialUnit<T>{.alpha = attribute<T>(node, "alpha", 1)} {}
};

template <typename T>
struct Selu : ExponentialUnit<T> {
  explicit Selu(const NodeSpec& node)
      : ExponentialUnit<T>{.alpha = attribute<T>(node, "alpha", 1.67326319217681884765625),
                           .gamma = attribute<T>(node, "gamma", 1.05070102214813232421875)} {}
};

template <typename T>
struct Celu : ExponentialUnit<T> {
  explicit Celu(const NodeSpec& node) {
    this->alpha = this->width = attribute<T>(node, "alpha", 1);
    node.check(this->width != T{0}, "expected an alpha other than 0");
  }
};

template <typename T>
struct LeakyRelu {
  explicit LeakyRelu(const NodeSpec& node) : alpha(attribute<T>(node, "alpha", 0.01)) {}
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  // The product stands outside the choice, which then vectorises as a blend.
  [[nodiscard]] FM_FORMULA T value(T x) const {
    const T scaled = alpha * x;
    return x > T{0} ? x : scaled;
  }
  [[nodiscard]] FM_FORMULA T slope(T x) const { return x > T{0} ? T{1} : alpha; }
  T alpha;
};

template <typename T>
struct ThresholdedRelu {
  explicit ThresholdedRelu(const NodeSpec& node) : alpha(attribute<T>(node, "alpha", 1)) {}
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  [[nodiscard]] FM_FORMULA T value(T x) const { return x <= alpha ? T{0} : x; }
  [[nodiscard]] FM_FORMULA T slope(T x) const { return x > alpha ? T{1} : T{0}; }
  T alpha;
};

template <typename T>
struct HardSigmoid {
  explicit HardSigmoid(const NodeSpec& node)
      : alpha(attribute<T>(node, "alpha", 0.2)), beta(attribute<T>(node, "beta", 0.5)) {}
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  [[nodiscard]] FM_FORMULA T value(T x) const {
    const T line = alpha * x + beta;
    const T above = line < T{0} ? T{0} : line;
    return above > T{1} ? T{1} : above;
  }
  [[nodiscard]] FM_FORMULA T slope(T x) const {
    const T line = alpha * x + beta;
    return (line > T{0} && line < T{1}) ? alpha : T{0};
  }
  T alpha, beta;
};

template <typename T>
struct Clip {
  explicit Clip(const NodeSpec& node)
      : low(bound(node, "min", -std::numeric_limits<double>::infinity())),
        high(bound(node, "max", std::numeric_limits<double>::infinity())) {}
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  [[nodiscard]] FM_FORMULA T value(T x) const {
    const T above = x < low ? low : x;
    return above > high ? high : above;
  }
  [[nodiscard]] FM_FORMULA T slope(T x) const { return (x >= low && x <= high) ? T{1} : T{0}; }
  // An infinite bound is none.
  static T bound(const NodeSpec& node, const char* key, double none) {
    const double value = node.attributes.number(key, none);
    node.check(!std::isnan(value), "expected a number for ", key, " but received ", value);
    return static_cast<T>(value);
  }
  T low, high;
};

template <typename T>
struct Shrink {
  explicit Shrink(const NodeSpec& node)
      : bias(attribute<T>(node, "bias", 0)), lambd(attribute<T>(node, "lambd", 0.5)) {}
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  [[nodiscard]] FM_BOTH_SIDES T value(T x) const {
    if (x < -lambd) return x + bias;
    if (x > lambd) return x - bias;
    return x != x ? x : T{0};
  }
  [[nodiscard]] FM_FORMULA T slope(T x) const { return (x < -lambd || x > lambd) ? T{1} : T{0}; }
  T bias, lambd;
};

template <typename T>
struct Affine {
  explicit Affine(const NodeSpec& node)
      : scale(attribute<T>(node, "scale", 1)), shift(attribute<T>(node, "shift", 0)) {}
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kConstant;
  [[nodiscard]] FM_FORMULA T value(T x) const { return scale * x + shift; }
  [[nodiscard]] FM_FORMULA T slope(T /*z*/) const { return scale; }
  T scale, shift;
};

inline bool is_tanh_form(const NodeSpec& node) {
  const std::string form = node.attributes.string("approximate", "none");
  node.check(form == "none" || form == "tanh",
             "expected \"none\" or \"tanh\" for approximate but received \"", form, "\"");
  return form == "tanh";
}

}  // namespace fishermask::formula
