// ScoreProgram: the postfix program that a criterion compiles to, evaluated elementwise.
// Math:    every instruction is one f32 operation, exactly rounded (IEEE 754); nothing is fused or
//          reassociated, so scores are bit-identical on every backend, vector width and thread
//          count.
// Inputs:  Fishers and the gradient enter as means: sums / f32(count), one f32 division.
// Errors:  ARGUMENT on a malformed program or a missing input.
// Source:  criteria of Liu et al. 2023, arXiv:2310.05331, and the baselines; see
// src/unlearn/criteria.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/rng.h"

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

[[nodiscard]] std::string_view score_op_name(ScoreOp op) noexcept;  // "forgetFisher"
// Errors: ARGUMENT when `number` is not an op.
[[nodiscard]] ScoreOp score_op_from_number(std::int64_t number);

struct ScoreInstruction {
  ScoreOp op = ScoreOp::kConstant;
  float value = 0.0F;  // of kConstant alone
};

struct ScoreNeeds {
  bool forget_fisher = false;
  bool remain_fisher = false;
  bool weight = false;
  bool forget_gradient = false;
  bool uniform = false;
};

// Where a block of elements comes from. Pointers are to the first element of the block.
struct ScoreInputs {
  const float* forget_sums = nullptr;
  const float* remain_sums = nullptr;
  const float* weight = nullptr;
  const float* forget_gradient_sums = nullptr;
  float forget_count = 1.0F;  // divides forget_sums and forget_gradient_sums
  float remain_count = 1.0F;  // divides remain_sums
  PhiloxKey key;
  // Elements of one unit share their draw, so a unit's mean is uniform whatever its size:
  // element i of the block draws word first_unit + (unit_offset + i) / elements_per_unit.
  std::uint64_t first_unit = 0;
  std::int64_t unit_offset = 0;  // of element 0 of the block inside first_unit
  std::int64_t elements_per_unit = 1;
};

class ScoreProgram {
 public:
  static constexpr std::int64_t kBlock = 1024;  // elements per evaluation: a few blocks fit in L1
  static constexpr int kMaxDepth = 16;

  // Errors: ARGUMENT when the program is empty, underflows, leaves more than one value, needs a
  // stack deeper than kMaxDepth, or holds a constant that is not finite.
  explicit ScoreProgram(std::vector<ScoreInstruction> instructions);

  [[nodiscard]] const ScoreNeeds& needs() const noexcept { return needs_; }
  [[nodiscard]] const std::vector<ScoreInstruction>& instructions() const noexcept {
    return instructions_;
  }
  // scores (count,) f32, count <= kBlock. Errors: ARGUMENT on a missing input or a larger block.
  void evaluate(const ScoreInputs& inputs, std::int64_t count, float* scores) const;

 private:
  std::vector<ScoreInstruction> instructions_;
  ScoreNeeds needs_;
};

}  // namespace fishermask
