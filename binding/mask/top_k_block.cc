#include "mask/top_k_block.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "core/vector_clones.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#if defined(__GNUC__) && defined(__x86_64__)
#define FM_TOP_K_AVX512 1
#include <immintrin.h>
#endif

namespace fishermask {
namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();  // every eligible score is >= this

#if defined(FM_TOP_K_AVX512)

__attribute__((target("avx512f,popcnt"))) void classify_avx512(const float* scores,
                                                               std::int64_t count, float mark,
                                                               TopKBlock& block) {
  const __m512 low = _mm512_set1_ps(mark);
  const __m512 lowest = _mm512_set1_ps(kLowest);
  __m512i units = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  std::int64_t nan_count = 0;
  std::int64_t eligible = 0;
  std::int64_t reached = 0;
  for (std::int64_t first = 0; first < count; first += 16) {
    const std::int64_t left = count - first;
    const auto valid = static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1 << left) - 1);
    const __m512 score = _mm512_maskz_loadu_ps(valid, scores + first);
    const __mmask16 found = _mm512_mask_cmp_ps_mask(valid, score, low, _CMP_GE_OQ);
    nan_count += __builtin_popcount(_mm512_mask_cmp_ps_mask(valid, score, score, _CMP_UNORD_Q));
    eligible += __builtin_popcount(_mm512_mask_cmp_ps_mask(valid, score, lowest, _CMP_GE_OQ));
    _mm512_storeu_si512(block.units.data() + reached, _mm512_maskz_compress_epi32(found, units));
    _mm512_storeu_ps(block.scores.data() + reached, _mm512_maskz_compress_ps(found, score));
    reached += __builtin_popcount(found);
    units = _mm512_add_epi32(units, _mm512_set1_epi32(16));
  }
  block.nan_count = nan_count;
  block.eligible = eligible;
  block.reached = reached;
}

#endif

struct Counts {
  std::int32_t nan_count = 0;
  std::int32_t eligible = 0;
  std::int32_t reached = 0;
};

FM_VECTOR_CLONES Counts count_scores(const float* scores, std::int64_t count, float mark) {
  Counts counts;
  for (std::int64_t i = 0; i < count; ++i) {
    counts.nan_count += scores[i] != scores[i] ? 1 : 0;
    counts.eligible += scores[i] >= kLowest ? 1 : 0;
    counts.reached += scores[i] >= mark ? 1 : 0;
  }
  return counts;
}

// Bit i set where scores[i] >= mark; count <= 64.
std::uint64_t reached_word(const float* scores, std::int64_t count, float mark) {
  std::uint64_t word = 0;
  std::int64_t i = 0;
#if defined(__SSE2__)
  const __m128 bound = _mm_set1_ps(mark);
  for (; i + 4 <= count; i += 4) {
    const int four = _mm_movemask_ps(_mm_cmpge_ps(_mm_loadu_ps(scores + i), bound));
    word |= static_cast<std::uint64_t>(static_cast<unsigned>(four)) << i;
  }
#endif
  for (; i < count; ++i) word |= std::uint64_t{scores[i] >= mark} << i;
  return word;
}

void classify_portable(const float* scores, std::int64_t count, float low, TopKBlock& block) {
  const Counts counts = count_scores(scores, count, low);
  block.nan_count = counts.nan_count;
  block.eligible = counts.eligible;
  block.reached = counts.reached;
  if (counts.reached == 0) return;
  std::size_t listed = 0;
  for (std::int64_t first = 0; first < count; first += 64) {
    std::uint64_t word =
        reached_word(scores + first, std::min<std::int64_t>(count - first, 64), low);
    for (; word != 0; word &= word - 1U) {
      const std::int64_t unit = first + std::countr_zero(word);
      block.units[listed] = static_cast<std::uint32_t>(unit);
      block.scores[listed] = scores[unit];
      ++listed;
    }
  }
}

#if defined(FM_TOP_K_AVX512)
bool has_avx512() {
  static const bool kHas =
      __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("popcnt") != 0;
  return kHas;
}
#else
bool has_avx512() { return false; }
void classify_avx512(const float* scores, std::int64_t count, float low, TopKBlock& block) {
  classify_portable(scores, count, low, block);
}
#endif

}  // namespace

void classify_block(const float* scores, std::int64_t count, float low, TopKBlock& block,
                    bool portable) {
  !portable&& has_avx512() ? classify_avx512(scores, count, low, block)
                           : classify_portable(scores, count, low, block);
}

void TopKLists::clear(std::int64_t units) {
  const auto size = static_cast<std::size_t>(units + TopKBlock::kVector);
  if (masked_.size() < size) {
    masked_.resize(size);
    inside_units_.resize(size);
    inside_scores_.resize(size);
  }
  masked_count_ = inside_count_ = 0;
  certain_ = 0;
}

void TopKLists::add(const TopKBlock& block, std::int64_t first, const TopKMarks& marks,
                    bool portable) {
  const std::size_t before = inside_count_;
  !portable&& has_avx512() ? add_avx512(block, first, marks) : add_portable(block, first, marks);
  certain_ += block.reached - static_cast<std::int64_t>(inside_count_ - before);
}

void TopKLists::add_portable(const TopKBlock& block, std::int64_t first, const TopKMarks& marks) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(block.reached); ++i) {
    const float score = block.scores[i];
    const std::uint32_t unit = static_cast<std::uint32_t>(first) + block.units[i];
    const bool now = score >= marks.guess;
    masked_[masked_count_] = unit;
    masked_count_ += now ? 1U : 0U;
    inside_units_[inside_count_] = unit | (now ? kMaskedBit : 0U);
    inside_scores_[inside_count_] = score;
    inside_count_ += score >= marks.high ? 0U : 1U;
  }
}

#if defined(FM_TOP_K_AVX512)
__attribute__((target("avx512f,popcnt"))) void TopKLists::add_avx512(const TopKBlock& block,
                                                                     std::int64_t first,
                                                                     const TopKMarks& marks) {
  const __m512 guess = _mm512_set1_ps(marks.guess);
  const __m512 high = _mm512_set1_ps(marks.high);
  const __m512i offset = _mm512_set1_epi32(static_cast<std::int32_t>(first));
  const __m512i masked_bit = _mm512_set1_epi32(static_cast<std::int32_t>(kMaskedBit));
  for (std::int64_t i = 0; i < block.reached; i += TopKBlock::kVector) {
    const std::int64_t left = block.reached - i;
    const auto valid = static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1 << left) - 1);
    const __m512 score = _mm512_loadu_ps(block.scores.data() + i);
    const __m512i unit = _mm512_add_epi32(_mm512_loadu_si512(block.units.data() + i), offset);
    const __mmask16 now = _mm512_mask_cmp_ps_mask(valid, score, guess, _CMP_GE_OQ);
    const auto inside =
        static_cast<__mmask16>(valid & ~_mm512_mask_cmp_ps_mask(valid, score, high, _CMP_GE_OQ));
    const __m512i marked = _mm512_mask_or_epi32(unit, now, unit, masked_bit);
    _mm512_storeu_si512(masked_.data() + masked_count_, _mm512_maskz_compress_epi32(now, unit));
    _mm512_storeu_si512(inside_units_.data() + inside_count_,
                        _mm512_maskz_compress_epi32(inside, marked));
    _mm512_storeu_ps(inside_scores_.data() + inside_count_,
                     _mm512_maskz_compress_ps(inside, score));
    masked_count_ += static_cast<std::size_t>(__builtin_popcount(now));
    inside_count_ += static_cast<std::size_t>(__builtin_popcount(inside));
  }
}
#else
void TopKLists::add_avx512(const TopKBlock& block, std::int64_t first, const TopKMarks& marks) {
  add_portable(block, first, marks);
}
#endif

}  // namespace fishermask
