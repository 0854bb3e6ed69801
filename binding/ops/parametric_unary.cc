// The elementwise functions with attributes (names and defaults are ONNX's):
//   gelu {approximate: "none" | "tanh"}      x·Φ(x), or its tanh form
//   elu {alpha 1}, selu {alpha, gamma}, celu {alpha 1}, leaky_relu {alpha 0.01}
//   thresholded_relu {alpha 1}               x where x > alpha, else 0
//   hard_sigmoid {alpha 0.2, beta 0.5}       alpha·x + beta within [0, 1]
//   clip {min?, max?}                        slope 1 on the closed range, as in PyTorch
//   shrink {bias 0, lambd 0.5}               towards 0 by bias outside [−lambd, lambd], 0 inside
//   affine {scale 1, shift 0}                scale·x + shift: the one that is linear
// Shapes:     y as x, any. NaN passes through. Deterministic: yes.
#include <cmath>
#include <limits>
#include <numbers>

#include "graph/op.h"
#include "ops/unary.h"
#include "ops/vector_math.h"

namespace fishermask {
namespace {

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
  [[nodiscard]] T value(T x) const { return x * normal_cdf(x); }
  [[nodiscard]] T slope(T x) const {
    constexpr double kDensityAtZero = std::numbers::inv_sqrtpi / std::numbers::sqrt2;
    const double z = static_cast<double>(x);
    return normal_cdf(x) + static_cast<T>(z * kDensityAtZero * std::exp(-0.5 * z * z));
  }
  static T normal_cdf(T x) {
    return static_cast<T>(0.5 * (1 + std::erf(static_cast<double>(x) / std::numbers::sqrt2)));
  }
};

// u = √(2/π)·(x + 0.044715·x³), and du/dx.
template <typename T>
FM_INLINE_IN_CLONES T gelu_inner(T x) {
  constexpr T kFactor = static_cast<T>(std::numbers::sqrt2 * std::numbers::inv_sqrtpi);
  return kFactor * x * (T{1} + static_cast<T>(0.044715) * x * x);
}
template <typename T>
FM_INLINE_IN_CLONES T gelu_inner_slope(T x) {
  constexpr T kFactor = static_cast<T>(std::numbers::sqrt2 * std::numbers::inv_sqrtpi);
  return kFactor * (T{1} + static_cast<T>(3 * 0.044715) * x * x);
}

template <typename T>
struct GeluTanh {
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  [[nodiscard]] T value(T x) const { return T{0.5} * x * (T{1} + std::tanh(gelu_inner(x))); }
  [[nodiscard]] T slope(T x) const {
    const T t = std::tanh(gelu_inner(x));
    return T{0.5} * (T{1} + t) + T{0.5} * x * (T{1} - t) * (T{1} + t) * gelu_inner_slope(x);
  }
};

// The f32 forms in vectors.
template <typename T>
struct FastGelu {
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  [[nodiscard]] FM_INLINE_IN_CLONES float value(float x) const {
    return 0.5F * x * (1.0F + vector_math::erf(x * kInverseSqrt2));
  }
  [[nodiscard]] FM_INLINE_IN_CLONES float slope(float x) const {
    const float cdf = 0.5F * (1.0F + vector_math::erf(x * kInverseSqrt2));
    return cdf + x * kDensityAtZero * vector_math::exp(-0.5F * x * x);
  }
  static constexpr float kInverseSqrt2 = static_cast<float>(1 / std::numbers::sqrt2);
  static constexpr float kDensityAtZero =
      static_cast<float>(std::numbers::inv_sqrtpi / std::numbers::sqrt2);
};

template <typename T>
struct FastGeluTanh {
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  [[nodiscard]] FM_INLINE_IN_CLONES float value(float x) const {
    return 0.5F * x * (1.0F + vector_math::tanh(gelu_inner(x)));
  }
  [[nodiscard]] FM_INLINE_IN_CLONES float slope(float x) const {
    const float t = vector_math::tanh(gelu_inner(x));
    return 0.5F * (1.0F + t) + 0.5F * x * (1.0F - t) * (1.0F + t) * gelu_inner_slope(x);
  }
};

// Below 0: gamma·alpha·(e^(x/width) − 1); above: gamma·x. Elu, selu and celu are of this form.
template <typename T>
struct ExponentialUnit {
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  [[nodiscard]] T value(T x) const {
    return x > T{0} ? gamma * x : gamma * alpha * std::expm1(x / width);
  }
  [[nodiscard]] T slope(T x) const {
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
  [[nodiscard]] FM_INLINE_IN_CLONES T value(T x) const {
    const T scaled = alpha * x;
    return x > T{0} ? x : scaled;
  }
  [[nodiscard]] FM_INLINE_IN_CLONES T slope(T x) const { return x > T{0} ? T{1} : alpha; }
  T alpha;
};

template <typename T>
struct ThresholdedRelu {
  explicit ThresholdedRelu(const NodeSpec& node) : alpha(attribute<T>(node, "alpha", 1)) {}
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  [[nodiscard]] FM_INLINE_IN_CLONES T value(T x) const { return x <= alpha ? T{0} : x; }
  [[nodiscard]] FM_INLINE_IN_CLONES T slope(T x) const { return x > alpha ? T{1} : T{0}; }
  T alpha;
};

template <typename T>
struct HardSigmoid {
  explicit HardSigmoid(const NodeSpec& node)
      : alpha(attribute<T>(node, "alpha", 0.2)), beta(attribute<T>(node, "beta", 0.5)) {}
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  [[nodiscard]] FM_INLINE_IN_CLONES T value(T x) const {
    const T line = alpha * x + beta;
    const T above = line < T{0} ? T{0} : line;
    return above > T{1} ? T{1} : above;
  }
  [[nodiscard]] FM_INLINE_IN_CLONES T slope(T x) const {
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
  [[nodiscard]] FM_INLINE_IN_CLONES T value(T x) const {
    const T above = x < low ? low : x;
    return above > high ? high : above;
  }
  [[nodiscard]] FM_INLINE_IN_CLONES T slope(T x) const {
    return (x >= low && x <= high) ? T{1} : T{0};
  }
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
  [[nodiscard]] T value(T x) const {
    if (x < -lambd) return x + bias;
    if (x > lambd) return x - bias;
    return x != x ? x : T{0};
  }
  [[nodiscard]] FM_INLINE_IN_CLONES T slope(T x) const {
    return (x < -lambd || x > lambd) ? T{1} : T{0};
  }
  T bias, lambd;
};

template <typename T>
struct Affine {
  explicit Affine(const NodeSpec& node)
      : scale(attribute<T>(node, "scale", 1)), shift(attribute<T>(node, "shift", 0)) {}
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kConstant;
  [[nodiscard]] FM_INLINE_IN_CLONES T value(T x) const { return scale * x + shift; }
  [[nodiscard]] FM_INLINE_IN_CLONES T slope(T /*z*/) const { return scale; }
  T scale, shift;
};

bool is_tanh_form(const NodeSpec& node) {
  const std::string form = node.attributes.string("approximate", "none");
  node.check(form == "none" || form == "tanh",
             "expected \"none\" or \"tanh\" for approximate but received \"", form, "\"");
  return form == "tanh";
}

std::vector<ValueSpec> infer_gelu(const NodeSpec& node) {
  (void)is_tanh_form(node);
  return infer_unary(node);
}

std::unique_ptr<Kernel> make_gelu(const NodeSpec& node, DType dtype) {
  return is_tanh_form(node) ? unary_reference<UnaryOf<GeluTanh>>(node, dtype)
                            : unary_reference<UnaryOf<Gelu>>(node, dtype);
}

std::unique_ptr<Kernel> make_fast_gelu(const NodeSpec& node, std::int64_t batch) {
  return is_tanh_form(node) ? unary_fast<UnaryOf<FastGeluTanh>>(node, batch)
                            : unary_fast<UnaryOf<FastGelu>>(node, batch);
}

OpDefinition gelu() {
  OpDefinition op = unary_op<UnaryOf<Gelu>>("gelu", -5, 5);
  op.attributes = {"approximate"};
  op.infer = infer_gelu;
  op.make_reference = make_gelu;
  op.make_fast = make_fast_gelu;
  op.cases.push_back({.name = "tanh form, three axes",
                      .inputs = {{3, 7, 5}},
                      .attributes = {{"approximate", std::string("tanh")}},
                      .draws = {{-5, 5}}});
  return op;
}

// A function with its attributes and one case in which they are not the defaults.
template <typename Of>
OpDefinition with_attributes(const char* name, const std::map<std::string, Attribute>& values) {
  OpDefinition op = unary_op<Of>(name, -4, 4);
  for (const auto& [key, value] : values) op.attributes.push_back(key);
  op.cases.push_back(
      {.name = "attributes", .inputs = {{6, 11}}, .attributes = values, .draws = {{-4, 4}}});
  return op;
}

int register_all() {
  register_op(gelu());
  register_op(with_attributes<UnaryOf<Elu>>("elu", {{"alpha", 0.7}}));
  register_op(with_attributes<UnaryOf<Selu>>("selu", {{"alpha", 1.4}, {"gamma", 1.2}}));
  register_op(with_attributes<UnaryOf<Celu>>("celu", {{"alpha", 1.6}}));
  register_op(with_attributes<UnaryOf<LeakyRelu>>("leaky_relu", {{"alpha", 0.2}}));
  register_op(with_attributes<UnaryOf<ThresholdedRelu>>("thresholded_relu", {{"alpha", 0.4}}));
  register_op(
      with_attributes<UnaryOf<HardSigmoid>>("hard_sigmoid", {{"alpha", 0.3}, {"beta", 0.4}}));
  register_op(with_attributes<UnaryOf<Clip>>("clip", {{"min", -1.25}, {"max", 2.0}}));
  register_op(with_attributes<UnaryOf<Shrink>>("shrink", {{"bias", 0.3}, {"lambd", 1.0}}));
  return register_op(
      with_attributes<UnaryOf<Affine>>("affine", {{"scale", -1.5}, {"shift", 0.25}}));
}

[[maybe_unused]] const int kRegistered = register_all();

}  // namespace
}  // namespace fishermask
