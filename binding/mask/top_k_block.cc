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

// Which scores reach low and which high, as words, and the counts over the
// block.
using Classify = void (*)(const float* scores, std::int64_t count, const TopKMarks& marks,
                          TopKBlock::Words& certain, TopKBlock& block);

#if defined(FM_TOP_K_AVX512)

// One load and four compares for 16 scores. Measured on Zen 4 at 1 % masked:
// 0.05 ns a score, the portable form 0.23.
__attribute__((target("avx512f,popcnt"))) void classify_avx512(const float* scores,
                                                               std::int64_t count,
                                                               const TopKMarks& marks,
                                                               TopKBlock::Words& certain,
                                                               TopKBlock& block) {
  const __m512 low = _mm512_set1_ps(marks.low);
  const __m512 high = _mm512_set1_ps(marks.high);
  const __m512 lowest = _mm512_set1_ps(kLowest);
  std::int64_t nan_count = 0;
  std::int64_t eligible = 0;
  for (std::int64_t first = 0; first < count; first += 64) {
    std::uint64_t nan_word = 0;
    std::uint64_t eligible_word = 0;
    std::uint64_t low_word = 0;
    std::uint64_t high_word = 0;
    for (int part = 0; part < 64 && first + part < count; part += 16) {
      const std::int64_t left = count - first - part;
      const auto valid = static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1 << left) - 1);
      const __m512 score = _mm512_maskz_loadu_ps(valid, scores + first + part);
      const auto place = [part](__mmask16 bits) {
        return static_cast<std::uint64_t>(bits) << part;
      };
      nan_word |= place(_mm512_mask_cmp_ps_mask(valid, score, score, _CMP_UNORD_Q));
      eligible_word |= place(_mm512_mask_cmp_ps_mask(valid, score, lowest, _CMP_GE_OQ));
      low_word |= place(_mm512_mask_cmp_ps_mask(valid, score, low, _CMP_GE_OQ));
      high_word |= place(_mm512_mask_cmp_ps_mask(valid, score, high, _CMP_GE_OQ));
    }
    nan_count += __builtin_popcountll(nan_word);
    eligible += __builtin_popcountll(eligible_word);
    block.certain += __builtin_popcountll(high_word);
    block.inside_count += __builtin_popcountll(low_word & ~high_word);
    certain[static_cast<std::size_t>(first / 64)] = high_word;
    block.inside[static_cast<std::size_t>(first / 64)] = low_word & ~high_word;
  }
  block.nan_count = nan_count;
  block.eligible = eligible;
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

// Bit i of the words set where scores[i] >= mark.
void fill_words(const float* scores, std::int64_t count, float mark, TopKBlock::Words& words) {
  for (std::int64_t first = 0; first < count; first += 64) {
    std::uint64_t word = 0;
    std::int64_t i = first;
#if defined(__SSE2__)
    const __m128 bound = _mm_set1_ps(mark);
    for (; i + 4 <= std::min(first + 64, count); i += 4) {
      const int four = _mm_movemask_ps(_mm_cmpge_ps(_mm_loadu_ps(scores + i), bound));
      word |= static_cast<std::uint64_t>(static_cast<unsigned>(four)) << (i - first);
    }
#endif
    for (; i < std::min(first + 64, count); ++i) {
      word |= std::uint64_t{scores[i] >= mark} << (i - first);
    }
    words[static_cast<std::size_t>(first / 64)] = word;
  }
}

void classify_portable(const float* scores, std::int64_t count, const TopKMarks& marks,
                       TopKBlock::Words& certain, TopKBlock& block) {
  const Counts counts = count_scores(scores, count, marks.low);
  block.nan_count = counts.nan_count;
  block.eligible = counts.eligible;
  if (counts.reached == 0) {
    certain.fill(0);
    block.inside.fill(0);
    return;
  }
  fill_words(scores, count, marks.low, block.inside);
  fill_words(scores, count, marks.high, certain);
  for (std::size_t w = 0; w < static_cast<std::size_t>((count + 63) / 64); ++w) {
    block.inside[w] &= ~certain[w];
    block.certain += std::popcount(certain[w]);
    block.inside_count += std::popcount(block.inside[w]);
  }
}

Classify best_classify() {
#if defined(FM_TOP_K_AVX512)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("popcnt")) return classify_avx512;
#endif
  return classify_portable;
}

}  // namespace

void classify_block(const float* scores, std::int64_t count, const TopKMarks& marks,
                    TopKBlock& block, bool portable) {
  static const Classify kBest = best_classify();
  TopKBlock::Words certain;
  block.certain = 0;
  block.inside_count = 0;
  (portable ? classify_portable : kBest)(scores, count, marks, certain, block);
  std::copy(certain.begin(), certain.begin() + (count + 63) / 64, block.masked.begin());
  guess_inside(scores, count, marks.guess, block);
}

void guess_inside(const float* scores, std::int64_t count, float guess, TopKBlock& block) {
  block.masked_count = block.certain;
  for (std::size_t w = 0; w < static_cast<std::size_t>((count + 63) / 64); ++w) {
    for (std::uint64_t left = block.inside[w]; left != 0; left &= left - 1U) {
      const int bit = std::countr_zero(left);
      const bool now = scores[w * 64 + static_cast<std::size_t>(bit)] >= guess;
      block.masked[w] |= std::uint64_t{now} << bit;
      block.masked_count += now ? 1 : 0;
    }
  }
}

}  // namespace fishermask
