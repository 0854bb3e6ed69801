#include "mask/score_program.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "core/error.h"
#include "core/score_arithmetic.h"
#include "core/vector_clones.h"
#include "mask/fused_score.h"

namespace fishermask {
namespace {

constexpr std::array<std::string_view, kScoreOpCount> kOpNames = {
    "forgetFisher", "remainFisher", "weight", "forgetGradient", "constant", "uniform", "add",
    "sub",          "mul",          "div",    "sqrt",           "abs",      "neg",     "max",
    "min"};

// Elements that go through the program together: the whole stack stays in L1
// beside its inputs.
constexpr std::int64_t kTile = 256;

FM_INLINE_IN_CLONES void fill_uniform(const ScoreInputs& in, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    const auto unit = static_cast<std::uint64_t>((in.unit_offset + i) / in.elements_per_unit);
    out[i] = philox_uniform(in.key, in.first_unit + unit);
  }
}

FM_INLINE_IN_CLONES void load_mean(const float* __restrict sums, float divisor, std::int64_t count,
                                   float* __restrict out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = sums[i] / divisor;
}

FM_INLINE_IN_CLONES void push(const ScoreInstruction& instruction, const ScoreInputs& in,
                              std::int64_t count, float* __restrict out) {
  switch (instruction.op) {
    case ScoreOp::kForgetFisher:
      return load_mean(in.forget_sums, in.forget_count, count, out);
    case ScoreOp::kRemainFisher:
      return load_mean(in.remain_sums, in.remain_count, count, out);
    case ScoreOp::kForgetGradient:
      return load_mean(in.forget_gradient_sums, in.forget_count, count, out);
    case ScoreOp::kWeight:
      std::memcpy(out, in.weight, static_cast<std::size_t>(count) * sizeof(float));
      return;
    case ScoreOp::kUniform:
      return fill_uniform(in, count, out);
    default:
      for (std::int64_t i = 0; i < count; ++i) out[i] = instruction.value;
  }
}

FM_INLINE_IN_CLONES void apply_unary(ScoreOp op, std::int64_t count, float* a) {
  if (op == ScoreOp::kSqrt) {
    for (std::int64_t i = 0; i < count; ++i) a[i] = std::sqrt(a[i]);
  } else if (op == ScoreOp::kAbs) {
    for (std::int64_t i = 0; i < count; ++i) a[i] = std::fabs(a[i]);
  } else {
    for (std::int64_t i = 0; i < count; ++i) a[i] = -a[i];
  }
}

FM_INLINE_IN_CLONES void apply_binary(ScoreOp op, std::int64_t count, float* __restrict a,
                                      const float* __restrict b) {
  switch (op) {
    case ScoreOp::kAdd:
      for (std::int64_t i = 0; i < count; ++i) a[i] = a[i] + b[i];
      return;
    case ScoreOp::kSub:
      for (std::int64_t i = 0; i < count; ++i) a[i] = a[i] - b[i];
      return;
    case ScoreOp::kMul:
      for (std::int64_t i = 0; i < count; ++i) a[i] = a[i] * b[i];
      return;
    case ScoreOp::kDiv:
      for (std::int64_t i = 0; i < count; ++i) a[i] = a[i] / b[i];
      return;
    case ScoreOp::kMax:
      for (std::int64_t i = 0; i < count; ++i) a[i] = score_maximum(a[i], b[i]);
      return;
    default:
      for (std::int64_t i = 0; i < count; ++i) a[i] = score_minimum(a[i], b[i]);
  }
}

FM_VECTOR_CLONES void run_block(const ScoreInstruction* instructions, std::size_t size,
                                const ScoreInputs& inputs, std::int64_t count, float* stack) {
  float* top = stack - kTile;
  for (std::size_t i = 0; i < size; ++i) {
    const ScoreInstruction& instruction = instructions[i];
    const int operands = operand_count(instruction.op);
    if (operands == 0) {
      top += kTile;
      push(instruction, inputs, count, top);
    } else if (operands == 1) {
      apply_unary(instruction.op, count, top);
    } else {
      top -= kTile;
      apply_binary(instruction.op, count, top, top + kTile);
    }
  }
}

// The inputs from element `first` on.
ScoreInputs inputs_from(const ScoreInputs& in, std::int64_t first) {
  const auto at = [first](const float* data) { return data == nullptr ? data : data + first; };
  ScoreInputs moved = in;
  moved.forget_sums = at(in.forget_sums);
  moved.remain_sums = at(in.remain_sums);
  moved.weight = at(in.weight);
  moved.forget_gradient_sums = at(in.forget_gradient_sums);
  moved.unit_offset = in.unit_offset + first;
  return moved;
}

FM_VECTOR_CLONES void exclude_zeros(const float* __restrict weight, std::int64_t count,
                                    float* __restrict scores) {
  for (std::int64_t i = 0; i < count; ++i) {
    scores[i] = weight[i] == 0.0F ? -std::numeric_limits<float>::infinity() : scores[i];
  }
}

void note_need(ScoreOp op, ScoreNeeds& needs) {
  needs.forget_fisher |= op == ScoreOp::kForgetFisher;
  needs.remain_fisher |= op == ScoreOp::kRemainFisher;
  needs.weight |= op == ScoreOp::kWeight;
  needs.forget_gradient |= op == ScoreOp::kForgetGradient;
  needs.uniform |= op == ScoreOp::kUniform;
}

void check_present(bool needed, const void* data, ScoreOp op) {
  FM_CHECK(!needed || data != nullptr, ARGUMENT, "Expected data for ", score_op_name(op),
           " but received none: the score program reads it");
}

}  // namespace

std::string_view score_op_name(ScoreOp op) noexcept {
  return kOpNames[static_cast<std::size_t>(op)];
}

ScoreOp score_op_from_number(std::int64_t number) {
  FM_CHECK(number >= 0 && number < kScoreOpCount, ARGUMENT, "Expected an op number between 0 and ",
           kScoreOpCount - 1, " for the score program but received ", number);
  return static_cast<ScoreOp>(number);
}

ScoreProgram::ScoreProgram(std::vector<ScoreInstruction> instructions)
    : instructions_(std::move(instructions)) {
  int depth = 0;
  for (std::size_t i = 0; i < instructions_.size(); ++i) {
    const ScoreInstruction& instruction = instructions_[i];
    const ScoreOp op = score_op_from_number(static_cast<std::int64_t>(instruction.op));
    const int operands = operand_count(op);
    FM_CHECK(depth >= operands, ARGUMENT, "Expected ", operands, " operand(s) for instruction ", i,
             " (", score_op_name(op), ") of the score program but received ", depth);
    FM_CHECK(op != ScoreOp::kConstant || std::isfinite(instruction.value), ARGUMENT,
             "Expected a finite constant for instruction ", i,
             " of the score program but received ", instruction.value);
    depth += 1 - operands;
    FM_CHECK(depth <= kMaxDepth, ARGUMENT, "Expected a stack of at most ", kMaxDepth,
             " values for the score program but received a deeper one at "
             "instruction ",
             i);
    note_need(op, needs_);
  }
  for (const ScoreInstruction& instruction : instructions_) constants_.push_back(instruction.value);
  fused_ = find_fused_score(instructions_);
  FM_CHECK(depth == 1, ARGUMENT,
           "Expected exactly one value left for the score program but received ", depth);
}

void ScoreProgram::evaluate(const ScoreInputs& inputs, std::int64_t count, float* scores) const {
  FM_CHECK(count >= 0 && count <= kBlock, ARGUMENT, "Expected 0 to ", kBlock,
           " elements for a block of scores but received ", count);
  check_inputs(inputs, false);
  if (fused_) return fused_.plain(constants_.data(), inputs, count, scores);
  interpret(inputs, count, scores);
}

void ScoreProgram::evaluate_eligible(const ScoreInputs& inputs, std::int64_t count,
                                     float* scores) const {
  check_inputs(inputs, true);
  if (fused_) return fused_.exclude_zero_weights(constants_.data(), inputs, count, scores);
  interpret(inputs, count, scores);
  exclude_zeros(inputs.weight, count, scores);
}

void ScoreProgram::check_inputs(const ScoreInputs& inputs, bool with_weight) const {
  check_present(needs_.forget_fisher, inputs.forget_sums, ScoreOp::kForgetFisher);
  check_present(needs_.remain_fisher, inputs.remain_sums, ScoreOp::kRemainFisher);
  check_present(needs_.weight || with_weight, inputs.weight, ScoreOp::kWeight);
  check_present(needs_.forget_gradient, inputs.forget_gradient_sums, ScoreOp::kForgetGradient);
}

void ScoreProgram::interpret(const ScoreInputs& inputs, std::int64_t count, float* scores) const {
  // Filled by the program; no need to clear.
  alignas(64) std::array<float, static_cast<std::size_t>(kTile * kMaxDepth)> stack;
  for (std::int64_t first = 0; first < count; first += kTile) {
    const std::int64_t size = std::min(kTile, count - first);
    run_block(instructions_.data(), instructions_.size(), inputs_from(inputs, first), size,
              stack.data());
    std::memcpy(scores + first, stack.data(), static_cast<std::size_t>(size) * sizeof(float));
  }
}

}  // namespace fishermask
