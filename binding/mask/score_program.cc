#include "mask/score_program.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/vector_clones.h"

namespace fishermask {
namespace {

constexpr std::array<std::string_view, kScoreOpCount> kOpNames = {
    "forgetFisher", "remainFisher", "weight", "forgetGradient", "constant", "uniform", "add",
    "sub",          "mul",          "div",    "sqrt",           "abs",      "neg",     "max",
    "min"};

constexpr int operand_count(ScoreOp op) {
  if (op <= ScoreOp::kUniform) return 0;
  if (op == ScoreOp::kSqrt || op == ScoreOp::kAbs || op == ScoreOp::kNeg) return 1;
  return 2;
}

// std::fmax would swallow a NaN, which must reach the caller as an error.
FM_INLINE_IN_CLONES float maximum(float a, float b) {
  const float equal =
      std::bit_cast<float>(std::bit_cast<std::uint32_t>(a) & std::bit_cast<std::uint32_t>(b));
  return a > b ? a : (a < b ? b : (a == b ? equal : a + b));
}

FM_INLINE_IN_CLONES float minimum(float a, float b) {
  const float equal =
      std::bit_cast<float>(std::bit_cast<std::uint32_t>(a) | std::bit_cast<std::uint32_t>(b));
  return a < b ? a : (a > b ? b : (a == b ? equal : a + b));
}

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
      for (std::int64_t i = 0; i < count; ++i) a[i] = maximum(a[i], b[i]);
      return;
    default:
      for (std::int64_t i = 0; i < count; ++i) a[i] = minimum(a[i], b[i]);
  }
}

FM_VECTOR_CLONES void run_block(const ScoreInstruction* instructions, std::size_t size,
                                const ScoreInputs& inputs, std::int64_t count, float* stack) {
  float* top = stack - ScoreProgram::kBlock;
  for (std::size_t i = 0; i < size; ++i) {
    const ScoreInstruction& instruction = instructions[i];
    const int operands = operand_count(instruction.op);
    if (operands == 0) {
      top += ScoreProgram::kBlock;
      push(instruction, inputs, count, top);
    } else if (operands == 1) {
      apply_unary(instruction.op, count, top);
    } else {
      top -= ScoreProgram::kBlock;
      apply_binary(instruction.op, count, top, top + ScoreProgram::kBlock);
    }
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
             " values for the score program but received a deeper one at instruction ", i);
    note_need(op, needs_);
  }
  FM_CHECK(depth == 1, ARGUMENT,
           "Expected exactly one value left for the score program but received ", depth);
}

void ScoreProgram::evaluate(const ScoreInputs& inputs, std::int64_t count, float* scores) const {
  FM_CHECK(count >= 0 && count <= kBlock, ARGUMENT, "Expected 0 to ", kBlock,
           " elements for a block of scores but received ", count);
  check_present(needs_.forget_fisher, inputs.forget_sums, ScoreOp::kForgetFisher);
  check_present(needs_.remain_fisher, inputs.remain_sums, ScoreOp::kRemainFisher);
  check_present(needs_.weight, inputs.weight, ScoreOp::kWeight);
  check_present(needs_.forget_gradient, inputs.forget_gradient_sums, ScoreOp::kForgetGradient);
  alignas(64) std::array<float, kBlock * kMaxDepth>
      stack;  // filled by the program; no need to clear
  run_block(instructions_.data(), instructions_.size(), inputs, count, stack.data());
  std::memcpy(scores, stack.data(), static_cast<std::size_t>(count) * sizeof(float));
}

}  // namespace fishermask
