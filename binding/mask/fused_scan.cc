#include "mask/fused_scan.h"

#include <array>
#include <limits>
#include <optional>

#include "mask/score_filter.h"

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
  Vector low, lowest, not_eligible, forget_count, remain_count;
  __m512i places;  // 0, 1, 2, ...
};

// Programs of both Fishers and constants alone may have one: score_filter says so.
template <ScoreOp... kOps>
constexpr bool may_have_filter() {
  using enum ScoreOp;
  return ((kOps == kForgetFisher) || ...) &&
         !((kOps == kWeight || kOps == kForgetGradient || kOps == kSqrt) || ...);
}

// 16 elements from `i` on, of which `valid` count; those that reach low are listed.
template <ScoreOp... kOps>
[[gnu::always_inline]] inline void sixteen(const float* constants, const ScoreInputs& in,
                                           const Bounds& bounds, std::int64_t i, __mmask16 valid,
                                           TopKBlock& block) {
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
  const __mmask16 reached = _mm512_mask_cmp_ps_mask(valid, score, bounds.low, _CMP_GE_OQ);
  const __m512i unit =
      _mm512_add_epi32(_mm512_set1_epi32(static_cast<std::int32_t>(i)), bounds.places);
  _mm512_storeu_si512(block.units.data() + block.reached,
                      _mm512_maskz_compress_epi32(reached, unit));
  _mm512_storeu_ps(block.scores.data() + block.reached, _mm512_maskz_compress_ps(reached, score));
  block.nan_count += __builtin_popcount(_mm512_mask_cmp_ps_mask(valid, score, score, _CMP_UNORD_Q));
  block.eligible +=
      __builtin_popcount(_mm512_mask_cmp_ps_mask(valid, score, bounds.lowest, _CMP_GE_OQ));
  block.reached += __builtin_popcount(reached);
}

// What the filter cannot rule out of 16 elements, all there; nonzero: the weights that are not
// zero.
template <bool kReadsRemain>
[[gnu::always_inline]] inline __mmask16 undecided(const ScoreInputs& in, const Vector& slope,
                                                  const Vector& offset, std::int64_t i,
                                                  __mmask16& nonzero) {
  Vector forget = _mm512_loadu_ps(in.forget_sums + i);
  asm("" : "+v"(forget));  // or GCC reads it from memory twice
  __m512i signs = _mm512_castps_si512(forget);
  Vector bound = offset;
  if constexpr (kReadsRemain) {
    Vector remain = _mm512_loadu_ps(in.remain_sums + i);
    asm("" : "+v"(remain));
    bound = _mm512_fmadd_ps(slope, remain, offset);
    signs = _mm512_or_epi32(signs, _mm512_castps_si512(remain));
  }
  nonzero = _mm512_cmp_ps_mask(_mm512_loadu_ps(in.weight + i), _mm512_setzero_ps(), _CMP_NEQ_UQ);
  const __mmask16 negative = _mm512_cmplt_epi32_mask(signs, _mm512_setzero_si512());
  const auto maybe =
      static_cast<__mmask16>(_mm512_cmp_ps_mask(forget, bound, _CMP_NLT_UQ) | negative);
  return maybe & nonzero;
}

constexpr std::int32_t kUnfiltered = 31;  // blocks, before the filter is tried again

// How much of the next block is fetched ahead; measured: more is slower.
constexpr std::int64_t kPrefetched = 512;

[[gnu::always_inline]] inline void prefetch(const float* from) {
  _mm_prefetch(reinterpret_cast<const char*>(from), _MM_HINT_T1);
}

// As many whole sixteens as there are, those alone scored of which the filter does not rule out
// everything. Two loops, neither with a branch that depends on the data: the first lists what is
// left. Returns the first element that is in no whole sixteen.
template <ScoreOp... kOps>
[[gnu::always_inline]] inline std::int64_t filtered(const float* constants, const ScoreInputs& in,
                                                    const Bounds& bounds, const ScoreFilter& filter,
                                                    std::int64_t count, TopKBlock& block) {
  constexpr bool kReadsRemain = ((kOps == ScoreOp::kRemainFisher) || ...);
  const Vector slope = _mm512_set1_ps(filter.slope);
  const Vector offset = _mm512_set1_ps(filter.offset);
  std::array<std::int32_t, TopKBlock::kMaxUnits / 16 + 1> left;  // first elements
  std::array<__mmask16, TopKBlock::kMaxUnits / 16 + 1> left_nonzero;
  std::size_t left_count = 0;
  std::int64_t eligible = 0;
  const std::int64_t end = count / 16 * 16;
  for (std::int64_t i = 0; i < end; i += 16) {
    __mmask16 nonzero = 0;
    const __mmask16 maybe = undecided<kReadsRemain>(in, slope, offset, i, nonzero);
    eligible += __builtin_popcount(nonzero);
    left[left_count] = static_cast<std::int32_t>(i);
    left_nonzero[left_count] = nonzero;
    left_count += maybe != 0 ? 1U : 0U;
  }
  // Memory would idle through the second loop and whatever follows.
  for (std::int64_t ahead = end; ahead < end + kPrefetched; ahead += 16) {
    prefetch(in.forget_sums + ahead);
    prefetch(in.weight + ahead);
    if constexpr (kReadsRemain) prefetch(in.remain_sums + ahead);
  }
  for (std::size_t l = 0; l < left_count; ++l) {
    eligible -= __builtin_popcount(left_nonzero[l]);  // counted by its scores
    sixteen<kOps...>(constants, in, bounds, left[l], 0xFFFF, block);
  }
  block.eligible += eligible;
  // Ties with the mark, for instance: nothing but their score tells them from it.
  if (left_count * 16 * 2 > static_cast<std::size_t>(end)) block.unfiltered_blocks = kUnfiltered;
  return end;
}

// filter: or null.
template <ScoreOp... kOps>
void scan(const float* constants, const ScoreInputs& given, std::int64_t count, float low,
          const ScoreFilter* filter, TopKBlock& block) {
  const ScoreInputs in = given;  // a copy, so that no store can change it
  const Bounds bounds{_mm512_set1_ps(low),
                      _mm512_set1_ps(std::numeric_limits<float>::lowest()),
                      _mm512_set1_ps(-std::numeric_limits<float>::infinity()),
                      _mm512_set1_ps(in.forget_count),
                      _mm512_set1_ps(in.remain_count),
                      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)};
  float copies[sizeof...(kOps)];
  for (std::size_t i = 0; i < sizeof...(kOps); ++i) copies[i] = constants[i];
  std::int64_t first = 0;
  if constexpr (may_have_filter<kOps...>()) {
    if (filter != nullptr) first = filtered<kOps...>(copies, in, bounds, *filter, count, block);
  }
  for (; first + 16 <= count; first += 16) {
    sixteen<kOps...>(copies, in, bounds, first, 0xFFFF, block);
  }
  if (first == count) return;
  const auto valid = static_cast<__mmask16>((1 << (count - first)) - 1);
  sixteen<kOps...>(copies, in, bounds, first, valid, block);
}

#pragma GCC pop_options

using Scan = void (*)(const float* constants, const ScoreInputs& inputs, std::int64_t count,
                      float low, const ScoreFilter* filter, TopKBlock& block);

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
                        float low, float* scratch, TopKBlock& block) {
#if defined(FM_FUSED_SCAN_AVX512)
  if (const Scan scan = scan_of(program.fused_program()); scan != nullptr) {
    program.check_inputs(inputs, true);
    block.nan_count = block.eligible = block.reached = 0;
    std::optional<ScoreFilter> filter;
    if (block.unfiltered_blocks > 0) {
      --block.unfiltered_blocks;
    } else {
      filter = score_filter(program.fused_program(), program.constants(), inputs, low);
    }
    scan(program.constants(), inputs, count, low, filter ? &*filter : nullptr, block);
    return;
  }
#endif
  program.evaluate_eligible(inputs, count, scratch);
  classify_block(scratch, count, low, block);
}

}  // namespace fishermask
