#include "mask/fused_score.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/score_arithmetic.h"
#include "core/vector_clones.h"

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

template <ScoreOp kOp, std::size_t kDepth>
FM_INLINE_IN_CLONES void step(const Element& element, float constant, Stack& stack) {
  if constexpr (kOp <= ScoreOp::kUniform) {
    static_assert(kDepth < std::tuple_size_v<Stack> && kOp != ScoreOp::kUniform);
    if constexpr (kOp == ScoreOp::kForgetFisher) stack[kDepth] = element.forget;
    if constexpr (kOp == ScoreOp::kRemainFisher) stack[kDepth] = element.remain;
    if constexpr (kOp == ScoreOp::kWeight) stack[kDepth] = element.weight;
    if constexpr (kOp == ScoreOp::kForgetGradient) stack[kDepth] = element.gradient;
    if constexpr (kOp == ScoreOp::kConstant) stack[kDepth] = constant;
  } else if constexpr (kOp == ScoreOp::kSqrt) {
    stack[kDepth - 1] = std::sqrt(stack[kDepth - 1]);
  } else if constexpr (kOp == ScoreOp::kAbs) {
    stack[kDepth - 1] = std::fabs(stack[kDepth - 1]);
  } else if constexpr (kOp == ScoreOp::kNeg) {
    stack[kDepth - 1] = -stack[kDepth - 1];
  } else {
    float& a = stack[kDepth - 2];
    const float b = stack[kDepth - 1];
    if constexpr (kOp == ScoreOp::kAdd) a = a + b;
    if constexpr (kOp == ScoreOp::kSub) a = a - b;
    if constexpr (kOp == ScoreOp::kMul) a = a * b;
    if constexpr (kOp == ScoreOp::kDiv) a = a / b;
    if constexpr (kOp == ScoreOp::kMax) a = score_maximum(a, b);
    if constexpr (kOp == ScoreOp::kMin) a = score_minimum(a, b);
  }
}

template <std::size_t kIndex, std::size_t kDepth, ScoreOp kOp, ScoreOp... kRest>
FM_INLINE_IN_CLONES void steps(const Element& element, const float* constants, Stack& stack) {
  step<kOp, kDepth>(element, constants[kIndex], stack);
  if constexpr (sizeof...(kRest) > 0) {
    steps<kIndex + 1, kDepth + 1 - operand_count(kOp), kRest...>(element, constants, stack);
  }
}

template <bool kExcludeZeroWeights, ScoreOp... kOps>
FM_INLINE_IN_CLONES void loop(const float* __restrict given, const ScoreInputs& in,
                              std::int64_t count, float* __restrict scores) {
  constexpr bool kReadsForget = ((kOps == ScoreOp::kForgetFisher) || ...);
  constexpr bool kReadsRemain = ((kOps == ScoreOp::kRemainFisher) || ...);
  constexpr bool kReadsGradient = ((kOps == ScoreOp::kForgetGradient) || ...);
  constexpr bool kReadsWeight = ((kOps == ScoreOp::kWeight) || ...) || kExcludeZeroWeights;
  std::array<float, sizeof...(kOps)> constants;  // copies, so that no store can change them
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
    steps<0, 0, kOps...>(element, constants.data(), stack);
    if constexpr (kExcludeZeroWeights) {
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

#define FM_FUSED_CRITERION(constant, ...) FM_FUSED_SCORE(__VA_ARGS__)
#include "core/fused_criteria.def"
#undef FM_FUSED_CRITERION
#undef FM_FUSED_SCORE

template <std::size_t kSize>
bool same_ops(const std::vector<ScoreInstruction>& instructions,
              const std::array<ScoreOp, kSize>& ops) {
  return std::equal(instructions.begin(), instructions.end(), ops.begin(), ops.end(),
                    [](const ScoreInstruction& a, ScoreOp b) { return a.op == b; });
}

}  // namespace

FusedScore find_fused_score(const std::vector<ScoreInstruction>& instructions) {
#define FM_FUSED_CRITERION(constant, name, ...) \
  if (same_ops(instructions, name##_ops))       \
    return {FusedProgram::constant, name##_plain, name##_excluding};
#include "core/fused_criteria.def"
#undef FM_FUSED_CRITERION
  return {};
}

}  // namespace fishermask
