// The elementwise functions without attributes (core/unary_formulas.h; relu has its own file).
// Shapes:     y as x, any.
// Deterministic: yes.
#include "ops/unary.h"

#include "core/unary_formulas.h"
#include "graph/op.h"
#include "ops/vector_math.h"

namespace fishermask {
namespace {

// f32 in vectors: the functions that real networks apply to every activation.
#define FM_FAST(Name, value_expression, slope_expression)               \
  template <typename T>                                                 \
  struct Name {                                                         \
    static constexpr SlopeFrom kSlopeFrom = SlopeFrom::kOutput;         \
    FM_INLINE_IN_CLONES T value(T x) const { return value_expression; } \
    FM_INLINE_IN_CLONES T slope(T y) const { return slope_expression; } \
  };
FM_FAST(FastExp, vector_math::exp(x), y)
FM_FAST(FastTanh, vector_math::tanh(x), (1.0F - y) * (1.0F + y))
FM_FAST(FastSigmoid, vector_math::sigmoid(x), y * (1.0F - y))
#undef FM_FAST

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

std::vector<OpDefinition> unary_ops() {
  return {
      unary_op<UnaryOf<formula::Abs>>("abs", -2, 2),
      unary_op<UnaryOf<formula::Neg>>("neg", -2, 2),
      unary_op<UnaryOf<formula::Exp>>("exp", -3, 2),
      unary_op<UnaryOf<formula::Log>>("log", 0.2, 3),
      unary_op<UnaryOf<formula::Sqrt>>("sqrt", 0.2, 3),
      unary_op<UnaryOf<formula::Reciprocal>>("reciprocal", -3, -0.3),
      unary_op<UnaryOf<formula::Erf>>("erf", -3, 3),
      unary_op<UnaryOf<formula::Sin>>("sin", -4, 4),
      unary_op<UnaryOf<formula::Cos>>("cos", -4, 4),
      unary_op<UnaryOf<formula::Tan>>("tan", -1.2, 1.2),
      unary_op<UnaryOf<formula::Asin>>("asin", -0.9, 0.9),
      unary_op<UnaryOf<formula::Acos>>("acos", -0.9, 0.9),
      unary_op<UnaryOf<formula::Atan>>("atan", -3, 3),
      unary_op<UnaryOf<formula::Sinh>>("sinh", -2, 2),
      unary_op<UnaryOf<formula::Cosh>>("cosh", -2, 2),
      unary_op<UnaryOf<formula::Tanh>>("tanh", -3, 3),
      unary_op<UnaryOf<formula::Asinh>>("asinh", -3, 3),
      unary_op<UnaryOf<formula::Acosh>>("acosh", 1.1, 4),
      unary_op<UnaryOf<formula::Atanh>>("atanh", -0.9, 0.9),
      unary_op<UnaryOf<formula::Sigmoid>>("sigmoid", -5, 5),
      unary_op<UnaryOf<formula::Softplus>>("softplus", -5, 5),
      unary_op<UnaryOf<formula::Softsign>>("softsign", -5, 5),
      unary_op<UnaryOf<formula::Silu>>("silu", -5, 5),
      unary_op<UnaryOf<formula::Mish>>("mish", -5, 5),
      unary_op<UnaryOf<formula::HardSwish>>("hard_swish", -5, 5),
      unary_op<UnaryOf<formula::Floor>>("floor", -4, 4),
      unary_op<UnaryOf<formula::Ceil>>("ceil", -4, 4),
      unary_op<UnaryOf<formula::Round>>("round", -4, 4),
      unary_op<UnaryOf<formula::Sign>>("sign", -2, 2),
      unary_op<UnaryOf<formula::Not>>("not", -2, 2),
      unary_op<UnaryOf<formula::IsNan>>("isnan", -2, 2),
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
