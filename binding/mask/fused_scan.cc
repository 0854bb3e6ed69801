#include "mask/fused_scan.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#define FM_FUSED_SCAN_AVX512 1
#include <immintrin.h>
#endif

namespace fishermask {
namespace {

#if defined(FM_FUSED_SCAN_AVX512)

#pragma GCC push_options
#pragma GCC target("avx512f,popcnt")

using Vector = __m512;

struct Vectors {
  Vector forget, remain, weight, gradient;
};

[[gnu::always_inline]] inline Vector bits_and(Vector a, std::uint32_t mask) {
  return _mm512_castsi512_ps(
      _mm512_and_epi32(_mm512_castps_si512(a), _mm512_set1_epi32(static_cast<int>(mask))));
}

// As score_maximum: NaN if either is NaN, max(-0, +0) = +0.
[[gnu::always_inline]] inline Vector maximum(Vector a, Vector b) {
  const Vector equal =
      _mm512_castsi512_ps(_mm512_and_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
  Vector result = _mm512_add_ps(a, b);  // NaN where they are unordered
  result = _mm512_mask_mov_ps(result, _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ), equal);
  result = _mm512_mask_mov_ps(result, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), b);
  return _mm512_mask_mov_ps(result, _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), a);
}

template <ScoreOp kOp, std::size_t kDepth>
[[gnu::always_inline]] inline void step(const Vectors& in, float constant, Vector* stack) {
  using enum ScoreOp;
  if constexpr (kOp == kForgetFisher) stack[kDepth] = in.forget;
  if constexpr (kOp == kRemainFisher) stack[kDepth] = in.remain;
  if constexpr (kOp == kWeight) stack[kDepth] = in.weight;
  if constexpr (kOp == kForgetGradient) stack[kDepth] = in.gradient;
  if constexpr (kOp == kConstant) stack[kDepth] = _mm512_set1_ps(constant);
  if constexpr (kOp == kSqrt) {
    // The unmasked form trips GCC 12 over its own undefined operand
    // (-Wmaybe-uninitialized).
    stack[kDepth - 1] = _mm512_maskz_sqrt_ps(0xFFFF, stack[kDepth - 1]);
  }
  if constexpr (kOp == kAbs) stack[kDepth - 1] = bits_and(stack[kDepth - 1], 0x7FFFFFFFU);
  if constexpr (kOp == kNeg) {
    stack[kDepth - 1] = _mm512_castsi512_ps(_mm512_xor_epi32(
        _mm512_castps_si512(stack[kDepth - 1]), _mm512_set1_epi32(static_cast<int>(0x80000000U))));
  }
  if constexpr (kOp >= kAdd && kOp != kSqrt && kOp != kAbs && kOp != kNeg) {
    static_assert(kOp != kMin);
    Vector& a = stack[kDepth - 2];
    const Vector b = stack[kDepth - 1];
    if constexpr (kOp == kAdd) a = _mm512_add_ps(a, b);
    if constexpr (kOp == kSub) a = _mm512_sub_ps(a, b);
    if constexpr (kOp == kMul) a = _mm512_mul_ps(a, b);
    if constexpr (kOp == kDiv) a = _mm512_div_ps(a, b);
    if constexpr (kOp == kMax) a = maximum(a, b);
  }
}

template <std::size_t kIndex, std::size_t kDepth, ScoreOp kOp, ScoreOp... kRest>
[[gnu::always_inline]] inline void steps(const Vectors& in, const float* constants, Vector* stack) {
  step<kOp, kDepth>(in, constants[kIndex], stack);
  if constexpr (sizeof...(kRest) > 0) {
    steps<kIndex + 1, kDepth + 1 - operand_count(kOp), kRest...>(in, constants, stack);
  }
}

// What one pass over a block needs beside its data.
struct Bounds {
  Vector low, high, lowest, not_eligible, forget_count, remain_count;
};

struct Found {
  std::uint64_t nan = 0;
  std::uint64_t eligible = 0;
  std::uint64_t low = 0;
  std::uint64_t high = 0;
};

// 16 elements from `i` on, of which `valid` count; their bits go to bit `part`
// of the words.
template <ScoreOp... kOps>
[[gnu::always_inline]] inline void sixteen(const float* constants, const ScoreInputs& in,
                                           const Bounds& bounds, std::int64_t i, __mmask16 valid,
                                           int part, float* scores, Found& found) {
  using enum ScoreOp;
  Vectors data{};
  data.weight = _mm512_maskz_loadu_ps(valid, in.weight + i);
  if constexpr (((kOps == kForgetFisher) || ...)) {
    data.forget =
        _mm512_div_ps(_mm512_maskz_loadu_ps(valid, in.forget_sums + i), bounds.forget_count);
  }
  if constexpr (((kOps == kRemainFisher) || ...)) {
    data.remain =
        _mm512_div_ps(_mm512_maskz_loadu_ps(valid, in.remain_sums + i), bounds.remain_count);
  }
  if constexpr (((kOps == kForgetGradient) || ...)) {
    data.gradient = _mm512_div_ps(_mm512_maskz_loadu_ps(valid, in.forget_gradient_sums + i),
                                  bounds.forget_count);
  }
  Vector stack[4];
  steps<0, 0, kOps...>(data, constants, stack);
  const __mmask16 zero = _mm512_cmp_ps_mask(data.weight, _mm512_setzero_ps(), _CMP_EQ_OQ);
  const Vector score = _mm512_mask_mov_ps(stack[0], zero, bounds.not_eligible);
  _mm512_mask_storeu_ps(scores + i, valid, score);
  const auto place = [part](__mmask16 bits) { return static_cast<std::uint64_t>(bits) << part; };
  found.nan |= place(_mm512_mask_cmp_ps_mask(valid, score, score, _CMP_UNORD_Q));
  found.eligible |= place(_mm512_mask_cmp_ps_mask(valid, score, bounds.lowest, _CMP_GE_OQ));
  found.low |= place(_mm512_mask_cmp_ps_mask(valid, score, bounds.low, _CMP_GE_OQ));
  found.high |= place(_mm512_mask_cmp_ps_mask(valid, score, bounds.high, _CMP_GE_OQ));
}

[[gnu::always_inline]] inline void note(const Found& found, std::int64_t word, TopKBlock& block) {
  const auto w = static_cast<std::size_t>(word);
  block.nan_count += __builtin_popcountll(found.nan);
  block.eligible += __builtin_popcountll(found.eligible);
  block.certain += __builtin_popcountll(found.high);
  block.inside_count += __builtin_popcountll(found.low & ~found.high);
  block.masked[w] = found.high;
  block.inside[w] = found.low & ~found.high;
}

template <ScoreOp... kOps>
void scan(const float* constants, const ScoreInputs& given, std::int64_t count,
          const TopKMarks& marks, float* scores, TopKBlock& block) {
  const ScoreInputs in = given;  // a copy, so that no store can change it
  const Bounds bounds{_mm512_set1_ps(marks.low),
                      _mm512_set1_ps(marks.high),
                      _mm512_set1_ps(std::numeric_limits<float>::lowest()),
                      _mm512_set1_ps(-std::numeric_limits<float>::infinity()),
                      _mm512_set1_ps(in.forget_count),
                      _mm512_set1_ps(in.remain_count)};
  float copies[sizeof...(kOps)];
  for (std::size_t i = 0; i < sizeof...(kOps); ++i) copies[i] = constants[i];
  std::int64_t first = 0;
  for (; first + 64 <= count; first += 64) {
    Found found;
    sixteen<kOps...>(copies, in, bounds, first, 0xFFFF, 0, scores, found);
    sixteen<kOps...>(copies, in, bounds, first + 16, 0xFFFF, 16, scores, found);
    sixteen<kOps...>(copies, in, bounds, first + 32, 0xFFFF, 32, scores, found);
    sixteen<kOps...>(copies, in, bounds, first + 48, 0xFFFF, 48, scores, found);
    note(found, first / 64, block);
  }
  if (first == count) return;
  Found found;
  for (int part = 0; first + part < count; part += 16) {
    const std::int64_t left = count - first - part;
    const auto valid = static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1 << left) - 1);
    sixteen<kOps...>(copies, in, bounds, first + part, valid, part, scores, found);
  }
  note(found, first / 64, block);
}

#pragma GCC pop_options

using Scan = void (*)(const float* constants, const ScoreInputs& inputs, std::int64_t count,
                      const TopKMarks& marks, float* scores, TopKBlock& block);

struct Entry {
  FusedProgram program = FusedProgram::kNone;
  Scan scan = nullptr;
};

using enum ScoreOp;
constexpr Entry kScans[] = {
#define FM_FUSED_CRITERION(constant, name, ...) {FusedProgram::constant, scan<__VA_ARGS__>},
#include "core/fused_criteria.def"
#undef FM_FUSED_CRITERION
};

Scan scan_of(FusedProgram program) {
  static const bool kSupported =
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("popcnt");
  if (!kSupported) return nullptr;
  for (const Entry& entry : kScans) {
    if (entry.program == program) return entry.scan;
  }
  return nullptr;
}

#endif

}  // namespace

void score_and_classify(const ScoreProgram& program, const ScoreInputs& inputs, std::int64_t count,
                        const TopKMarks& marks, float* scores, TopKBlock& block) {
#if defined(FM_FUSED_SCAN_AVX512)
  if (const Scan scan = scan_of(program.fused_program()); scan != nullptr) {
    program.check_inputs(inputs, true);
    block.nan_count = block.eligible = block.certain = block.inside_count = 0;
    scan(program.constants(), inputs, count, marks, scores, block);
    guess_inside(scores, count, marks.guess, block);
    return;
  }
#endif
  program.evaluate_eligible(inputs, count, scores);
  classify_block(scores, count, marks, block);
}

}  // namespace fishermask
