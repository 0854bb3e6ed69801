#include "mask/fused_score.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/vector_clones.h"
#include "mask/score_arithmetic.h"

namespace fishermask {
namespace {

// One element's inputs.
struct Element {
  float forget = 0.0F;
  float remain = 0.0F;
  float weight = 0.0F;
  float gradient = 0.0F;
};

using Stack = std::array<float, 4>;  // no criterion goes deeper; step() checks

template <ScoreOp Op, std::size_t Depth>
FM_INLINE_IN_CLONES void step(const Element& element, float constant, Stack& stack) {
  if constexpr (Op <= ScoreOp::kUniform) {
    static_assert(Depth < std::tuple_size_v<Stack> && Op != ScoreOp::kUniform);
    if constexpr (Op == ScoreOp::kForgetFisher) stack[Depth] = element.forget;
    if constexpr (Op == ScoreOp::kRemainFisher) stack[Depth] = element.remain;
    if constexpr (Op == ScoreOp::kWeight) stack[Depth] = element.weight;
    if constexpr (Op == ScoreOp::kForgetGradient) stack[Depth] = element.gradient;
    if constexpr (Op == ScoreOp::kConstant) stack[Depth] = constant;
  } else if constexpr (Op == ScoreOp::kSqrt) {
    stack[Depth - 1] = std::sqrt(stack[Depth - 1]);
  } else if constexpr (Op == ScoreOp::kAbs) {
    stack[Depth - 1] = std::fabs(stack[Depth - 1]);
  } else if constexpr (Op == ScoreOp::kNeg) {
    stack[Depth - 1] = -stack[Depth - 1];
  } else {
    float& a = stack[Depth - 2];
    const float b = stack[Depth - 1];
    if constexpr (Op == ScoreOp::kAdd) a = a + b;
    if constexpr (Op == ScoreOp::kSub) a = a - b;
    if constexpr (Op == ScoreOp::kMul) a = a * b;
    if constexpr (Op == ScoreOp::kDiv) a = a / b;
    if constexpr (Op == ScoreOp::kMax) a = score_maximum(a, b);
    if constexpr (Op == ScoreOp::kMin) a = score_minimum(a, b);
  }
}

constexpr std::size_t depth_after(ScoreOp op, std::size_t depth) {
  if (op <= ScoreOp::kUniform) return depth + 1;
  return op == ScoreOp::kSqrt || op == ScoreOp::kAbs || op == ScoreOp::kNeg ? depth : depth - 1;
}

template <std::size_t Index, std::size_t Depth, ScoreOp Op, ScoreOp... Rest>
FM_INLINE_IN_CLONES void steps(const Element& element, const float* constants, Stack& stack) {
  step<Op, Depth>(element, constants[Index], stack);
  if constexpr (sizeof...(Rest) > 0) {
    steps<Index + 1, depth_after(Op, Depth), Rest...>(element, constants, stack);
  }
}

template <bool ExcludeZeroWeights, ScoreOp... Ops>
FM_INLINE_IN_CLONES void loop(const float* __restrict given, const ScoreInputs& in,
                              std::int64_t count, float* __restrict scores) {
  constexpr bool kReadsForget = ((Ops == ScoreOp::kForgetFisher) || ...);
  constexpr bool kReadsRemain = ((Ops == ScoreOp::kRemainFisher) || ...);
  constexpr bool kReadsGradient = ((Ops == ScoreOp::kForgetGradient) || ...);
  constexpr bool kReadsWeight = ((Ops == ScoreOp::kWeight) || ...) || ExcludeZeroWeights;
  std::array<float, sizeof...(Ops)> constants;  // copies, so that no store can change them
  std::copy_n(given, constants.size(), constants.begin());
  const float* __restrict const forget = in.forget_sums;
  const float* __restrict const remain = in.remain_sums;
  const float* __restrict const weight = in.weight;
  const float* __restrict const gradient = in.forget_gradient_sums;
  const float forget_count = in.forget_count;
  const float remain_count = in.remain_count;
  for (std::int64_t i = 0; i < count; ++i) {
    Element element;
    if constexpr (kReadsForget) element.forget = forget[i] / forget_count;
    if constexpr (kReadsRemain) element.remain = remain[i] / remain_count;
    if constexpr (kReadsGradient) element.gradient = gradient[i] / forget_count;
    if constexpr (kReadsWeight) element.weight = weight[i];
    Stack stack{};
    steps<0, 0, Ops...>(element, constants.data(), stack);
    if constexpr (ExcludeZeroWeights) {
      scores[i] = element.weight == 0.0F ? -std::numeric_limits<float>::infinity() : stack[0];
    } else {
      scores[i] = stack[0];
    }
  }
}

using enum ScoreOp;

// Clones cannot be made of templates, so each program has its two functions by
// name.
#define FM_FUSED_SCORE(name, ...)                                                       \
  constexpr std::array name##_ops = {__VA_ARGS__};                                      \
  FM_VECTOR_CLONES void name##_plain(const float* constants, const ScoreInputs& in,     \
                                     std::int64_t count, float* scores) {               \
    loop<false, __VA_ARGS__>(constants, in, count, scores);                             \
  }                                                                                     \
  FM_VECTOR_CLONES void name##_excluding(const float* constants, const ScoreInputs& in, \
                                         std::int64_t count, float* scores) {           \
    loop<true, __VA_ARGS__>(constants, in, count, scores);                              \
  }

#define FM_FUSED_CRITERION(...) FM_FUSED_SCORE(__VA_ARGS__)
#include "mask/fused_criteria.def"
#undef FM_FUSED_CRITERION
#undef FM_FUSED_SCORE

template <std::size_t Size>
bool same_ops(const std::vector<ScoreInstruction>& instructions,
              const std::array<ScoreOp, Size>& ops) {
  return std::equal(instructions.begin(), instructions.end(), ops.begin(), ops.end(),
                    [](const ScoreInstruction& a, ScoreOp b) { return a.op == b; });
}

}  // namespace

FusedScore find_fused_score(const std::vector<ScoreInstruction>& instructions) {
#define FM_FUSED_CRITERION(name, ...)     \
  if (same_ops(instructions, name##_ops)) \
    return {FusedProgram::name, name##_plain, name##_excluding};
#include "mask/fused_criteria.def"
#undef FM_FUSED_CRITERION
  return {};
}

}  // namespace fishermask
