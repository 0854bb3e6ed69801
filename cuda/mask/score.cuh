// Scores of single elements on the device: the programs of binding/mask/score_program.h to the
// bit. Every instruction is one f32 operation, rounded as IEEE 754 says (this room is compiled
// without contraction), in the order of the program.
// The criteria's programs (core/fused_criteria.def) are types, FusedScore<ops...>, so that their
// instructions stay in registers and only what they read is loaded; any other runs an instruction
// at a time, InterpretedScore.
#pragma once

#include <cstdint>

#include "common/philox.cuh"
#include "core/score_arithmetic.h"
#include "core/score_op.h"

namespace fishermask::cuda {

inline constexpr int kMostFusedOps = 16;    // of core/fused_criteria.def; checked below
inline constexpr int kMostStackDepth = 16;  // as mask/score_program.h
inline constexpr float kNotEligibleScore = -__builtin_huge_valf();
inline constexpr float kLowestScore = -3.402823466e+38F;  // every eligible score is >= this

// A parameter of the kernels.
struct ScoreArguments {
  float forget_count = 1.0F, remain_count = 1.0F;
  PhiloxKey key;
  float constants[kMostFusedOps] = {};             // of a fused program, by instruction
  const ScoreInstruction* instructions = nullptr;  // of an interpreted one, on the device
  int instruction_count = 0;
};

// What is read of one element: sums, not means.
struct Element {
  float forget = 0.0F, remain = 0.0F, gradient = 0.0F, weight = 0.0F;
};

template <ScoreOp... kOps>
struct FusedScore {
  static_assert(sizeof...(kOps) <= kMostFusedOps);
  static constexpr int kRows = 4;  // rows of 32 elements in flight per warp: 128 B each and input
  static constexpr bool kReadsForget = ((kOps == ScoreOp::kForgetFisher) || ...);
  static constexpr bool kReadsRemain = ((kOps == ScoreOp::kRemainFisher) || ...);
  static constexpr bool kReadsGradient = ((kOps == ScoreOp::kForgetGradient) || ...);

  static __device__ __forceinline__ float of(const ScoreArguments& arguments, Element element,
                                             std::uint64_t /*draw*/) {
    if constexpr (kReadsForget) element.forget = element.forget / arguments.forget_count;
    if constexpr (kReadsRemain) element.remain = element.remain / arguments.remain_count;
    if constexpr (kReadsGradient) element.gradient = element.gradient / arguments.forget_count;
    float stack[4] = {};  // no criterion goes deeper: step() checks
    steps<0, 0, kOps...>(arguments, element, stack);
    return stack[0];
  }

 private:
  template <int kIndex, int kDepth, ScoreOp kOp, ScoreOp... kRest>
  static __device__ __forceinline__ void steps(const ScoreArguments& arguments,
                                               const Element& element, float (&stack)[4]) {
    step<kOp, kDepth>(element, arguments.constants[kIndex], stack);
    if constexpr (sizeof...(kRest) > 0) {
      steps<kIndex + 1, kDepth + 1 - operand_count(kOp), kRest...>(arguments, element, stack);
    }
  }

  template <ScoreOp kOp, int kDepth>
  static __device__ __forceinline__ void step(const Element& element, float constant,
                                              float (&stack)[4]) {
    if constexpr (kOp <= ScoreOp::kUniform) {
      static_assert(kDepth < 4 && kOp != ScoreOp::kUniform);
      if constexpr (kOp == ScoreOp::kForgetFisher) stack[kDepth] = element.forget;
      if constexpr (kOp == ScoreOp::kRemainFisher) stack[kDepth] = element.remain;
      if constexpr (kOp == ScoreOp::kWeight) stack[kDepth] = element.weight;
      if constexpr (kOp == ScoreOp::kForgetGradient) stack[kDepth] = element.gradient;
      if constexpr (kOp == ScoreOp::kConstant) stack[kDepth] = constant;
    } else if constexpr (kOp == ScoreOp::kSqrt) {
      stack[kDepth - 1] = __fsqrt_rn(stack[kDepth - 1]);
    } else if constexpr (kOp == ScoreOp::kAbs) {
      stack[kDepth - 1] = fabsf(stack[kDepth - 1]);
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
};

struct InterpretedScore {
  static constexpr int kRows = 1;
  // Where the tensor has them: the host has checked that those that the program reads are there.
  static constexpr bool kReadsForget = true, kReadsRemain = true, kReadsGradient = true;

  // `draw`: the word of the random stream that kUniform takes.
  static __device__ __forceinline__ float of(const ScoreArguments& arguments,
                                             const Element& element, std::uint64_t draw) {
    float stack[kMostStackDepth];
    int top = -1;
    for (int i = 0; i < arguments.instruction_count; ++i) {
      const ScoreInstruction instruction = arguments.instructions[i];
      const int operands = operand_count(instruction.op);
      if (operands == 0) {
        stack[++top] = pushed(arguments, instruction, element, draw);
      } else if (operands == 1) {
        stack[top] = unary(instruction.op, stack[top]);
      } else {
        --top;
        stack[top] = binary(instruction.op, stack[top], stack[top + 1]);
      }
    }
    return stack[0];
  }

 private:
  static __device__ __forceinline__ float pushed(const ScoreArguments& arguments,
                                                 const ScoreInstruction& instruction,
                                                 const Element& element, std::uint64_t draw) {
    switch (instruction.op) {
      case ScoreOp::kForgetFisher:
        return element.forget / arguments.forget_count;
      case ScoreOp::kRemainFisher:
        return element.remain / arguments.remain_count;
      case ScoreOp::kForgetGradient:
        return element.gradient / arguments.forget_count;
      case ScoreOp::kWeight:
        return element.weight;
      case ScoreOp::kUniform:
        return uniform_at(arguments.key, draw);
      default:
        return instruction.value;
    }
  }
  static __device__ __forceinline__ float unary(ScoreOp op, float a) {
    return op == ScoreOp::kSqrt ? __fsqrt_rn(a) : op == ScoreOp::kAbs ? fabsf(a) : -a;
  }
  static __device__ __forceinline__ float binary(ScoreOp op, float a, float b) {
    switch (op) {
      case ScoreOp::kAdd:
        return a + b;
      case ScoreOp::kSub:
        return a - b;
      case ScoreOp::kMul:
        return a * b;
      case ScoreOp::kDiv:
        return a / b;
      case ScoreOp::kMax:
        return score_maximum(a, b);
      default:
        return score_minimum(a, b);
    }
  }
};

}  // namespace fishermask::cuda
