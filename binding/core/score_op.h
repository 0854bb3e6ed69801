// The instructions of a score program: what criteria compile to (src/unlearn/expression.ts), run by
// the CPU (mask/score_program.h) and by devices to the same bits.
#pragma once

#include <cstdint>

namespace fishermask {

// The order is the wire format: src/unlearn/expression.ts lists the same names in the same order.
enum class ScoreOp : std::uint8_t {
  kForgetFisher,
  kRemainFisher,
  kWeight,
  kForgetGradient,
  kConstant,
  kUniform,
  kAdd,
  kSub,
  kMul,
  kDiv,
  kSqrt,
  kAbs,
  kNeg,
  kMax,  // NaN if either is NaN, and max(-0, +0) = +0, as Math.max
  kMin,  // NaN if either is NaN, and min(-0, +0) = -0, as Math.min
};
inline constexpr int kScoreOpCount = 15;

[[nodiscard]] constexpr int operand_count(ScoreOp op) {
  if (op <= ScoreOp::kUniform) return 0;
  return op == ScoreOp::kSqrt || op == ScoreOp::kAbs || op == ScoreOp::kNeg ? 1 : 2;
}

struct ScoreInstruction {
  ScoreOp op = ScoreOp::kConstant;
  float value = 0.0F;  // of kConstant alone
};

}  // namespace fishermask
