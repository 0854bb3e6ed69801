// classify_block: where the scores of a block lie against the three marks of mask_top_k.
// Shapes:    scores (count,), count <= kMaxUnits; masked and inside: one bit per unit, LSB first,
//            (count + 63) / 64 words, the bits beyond count 0.
// Deterministic: yes.
#pragma once

#include <array>
#include <cstdint>

namespace fishermask {

// Lowest scores of what is masked for good, masked for now, and remembered: low
// <= guess <= high. NaN: no score reaches it.
struct TopKMarks {
  float low = 0.0F;
  float guess = 0.0F;
  float high = 0.0F;
};

struct TopKBlock {
  static constexpr std::int64_t kMaxUnits = 1024;
  using Words = std::array<std::uint64_t, kMaxUnits / 64>;

  std::int64_t nan_count = 0;
  std::int64_t eligible = 0;
  std::int64_t certain = 0;       // scores that reach high
  std::int64_t inside_count = 0;  // scores that reach low but not high
  std::int64_t masked_count = 0;  // scores that reach guess
  Words masked;                   // which
  Words inside;                   // of inside_count
};

// portable: takes the loops that need no particular processor (for tests; the
// result is the same).
void classify_block(const float* scores, std::int64_t count, const TopKMarks& marks,
                    TopKBlock& block, bool portable = false);

// The last step: adds what is inside and reaches the guess to `masked`, which
// has what is certain.
void guess_inside(const float* scores, std::int64_t count, float guess, TopKBlock& block);

}  // namespace fishermask
