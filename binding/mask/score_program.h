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
#include "core/score_op.h"

namespace fishermask {

[[nodiscard]] std::string_view score_op_name(ScoreOp op) noexcept;  // "forgetFisher"
// Errors: ARGUMENT when `number` is not an op.
[[nodiscard]] ScoreOp score_op_from_number(std::int64_t number);

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

// Programs that have loops of their own (core/fused_criteria.def).
enum class FusedProgram : std::uint8_t {
  kNone,
#define FM_FUSED_CRITERION(name, ...) name,
#include "core/fused_criteria.def"
#undef FM_FUSED_CRITERION
};

// The loops written for one program, or none (mask/fused_score.h).
struct FusedScore {
  FusedProgram program = FusedProgram::kNone;
  // scores (count,) from the inputs that the program needs; `constants` has one
  // value per instruction.
  using Loop = void (*)(const float* constants, const ScoreInputs& inputs, std::int64_t count,
                        float* scores);
  Loop plain = nullptr;
  Loop exclude_zero_weights = nullptr;  // -infinity where the weight is zero

  [[nodiscard]] explicit operator bool() const noexcept { return plain != nullptr; }
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
  // The same, but -infinity where the weight is zero: masked weights are no
  // candidates. Any count. Errors: ARGUMENT on a missing input; the weight is
  // always one.
  void evaluate_eligible(const ScoreInputs& inputs, std::int64_t count, float* scores) const;
  // Errors: ARGUMENT on a missing input.
  void check_inputs(const ScoreInputs& inputs, bool with_weight) const;
  [[nodiscard]] FusedProgram fused_program() const noexcept { return fused_.program; }
  [[nodiscard]] const float* constants() const noexcept { return constants_.data(); }

 private:
  void interpret(const ScoreInputs& inputs, std::int64_t count, float* scores) const;

  std::vector<ScoreInstruction> instructions_;
  std::vector<float> constants_;  // one per instruction
  ScoreNeeds needs_;
  FusedScore fused_;
};

}  // namespace fishermask
