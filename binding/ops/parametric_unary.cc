// The elementwise functions with attributes (names and defaults are ONNX's):
//   gelu {approximate: "none" | "tanh"}      x·Φ(x), or its tanh form
//   elu {alpha 1}, selu {alpha, gamma}, celu {alpha 1}, leaky_relu {alpha 0.01}
//   thresholded_relu {alpha 1}               x where x > alpha, else 0
//   hard_sigmoid {alpha 0.2, beta 0.5}       alpha·x + beta within [0, 1]
//   clip {min?, max?}                        slope 1 on the closed range, as in PyTorch
//   shrink {bias 0, lambd 0.5}               towards 0 by bias outside [−lambd, lambd], 0 inside
//   affine {scale 1, shift 0}                scale·x + shift: the one that is linear
// Shapes:     y as x, any. NaN passes through. Deterministic: yes.
#include "core/parametric_formulas.h"
#include "graph/op.h"
#include "ops/unary.h"
#include "ops/vector_math.h"

namespace fishermask {
namespace {

// What the f32 forms compute with: in vectors.
struct VectorMath {
  FM_INLINE_IN_CLONES static float exp(float x) { return vector_math::exp(x); }
  FM_INLINE_IN_CLONES static float erf(float x) { return vector_math::erf(x); }
};

template <typename T>
using FastGelu = formula::GeluOn<VectorMath>;

template <typename T>
struct FastGeluTanh {
  static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kInput;
  [[nodiscard]] FM_INLINE_IN_CLONES float value(float x) const {
    return 0.5F * x * (1.0F + vector_math::tanh(formula::gelu_inner(x)));
  }
  [[nodiscard]] FM_INLINE_IN_CLONES float slope(float x) const {
    const float t = vector_math::tanh(formula::gelu_inner(x));
    return 0.5F * (1.0F + t) + 0.5F * x * (1.0F - t) * (1.0F + t) * formula::gelu_inner_slope(x);
  }
};

std::vector<ValueSpec> infer_gelu(const NodeSpec& node) {
  (void)formula::is_tanh_form(node);
  return infer_unary(node);
}

std::unique_ptr<Kernel> make_gelu(const NodeSpec& node, DType dtype) {
  return formula::is_tanh_form(node) ? unary_reference<UnaryOf<formula::GeluTanh>>(node, dtype)
                                     : unary_reference<UnaryOf<formula::Gelu>>(node, dtype);
}

std::unique_ptr<Kernel> make_fast_gelu(const NodeSpec& node, std::int64_t batch) {
  return formula::is_tanh_form(node) ? unary_fast<UnaryOf<FastGeluTanh>>(node, batch)
                                     : unary_fast<UnaryOf<FastGelu>>(node, batch);
}

OpDefinition gelu() {
  OpDefinition op = unary_op<UnaryOf<formula::Gelu>>("gelu", -5, 5);
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
  register_op(with_attributes<UnaryOf<formula::Elu>>("elu", {{"alpha", 0.7}}));
  register_op(with_attributes<UnaryOf<formula::Selu>>("selu", {{"alpha", 1.4}, {"gamma", 1.2}}));
  register_op(with_attributes<UnaryOf<formula::Celu>>("celu", {{"alpha", 1.6}}));
  register_op(with_attributes<UnaryOf<formula::LeakyRelu>>("leaky_relu", {{"alpha", 0.2}}));
  register_op(
      with_attributes<UnaryOf<formula::ThresholdedRelu>>("thresholded_relu", {{"alpha", 0.4}}));
  register_op(with_attributes<UnaryOf<formula::HardSigmoid>>("hard_sigmoid",
                                                             {{"alpha", 0.3}, {"beta", 0.4}}));
  register_op(with_attributes<UnaryOf<formula::Clip>>("clip", {{"min", -1.25}, {"max", 2.0}}));
  register_op(with_attributes<UnaryOf<formula::Shrink>>("shrink", {{"bias", 0.3}, {"lambd", 1.0}}));
  return register_op(
      with_attributes<UnaryOf<formula::Affine>>("affine", {{"scale", -1.5}, {"shift", 0.25}}));
}

[[maybe_unused]] const int kRegistered = register_all();

}  // namespace
}  // namespace fishermask
