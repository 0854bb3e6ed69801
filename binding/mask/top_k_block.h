// classify_block: the scores of a block that reach the lowest mark of mask_top_k, as a list.
// TopKLists: what follows from the three marks for a segment, block by block. Both walk lists and
// never look for bits: loops over bits guess wrongly once a word. Shapes:    scores (count,), count
// <= kMaxUnits. Deterministic: yes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

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
  static constexpr std::int64_t kVector = 16;  // whole vectors are stored at a list's end

  std::int64_t nan_count = 0;
  std::int64_t eligible = 0;
  std::int32_t unfiltered_blocks = 0;  // so many to come are scored whole: the filter did not pay
  std::int64_t reached = 0;            // scores that reach low: the first so many of the next two
  std::array<std::uint32_t, kMaxUnits + kVector> units;  // in the block, ascending
  std::array<float, kMaxUnits + kVector> scores;
};

// portable: takes the loops that need no particular processor (for tests; the
// result is the same).
void classify_block(const float* scores, std::int64_t count, float low, TopKBlock& block,
                    bool portable = false);

// Units of one segment, ascending. Kept from segment to segment, so that the memory grows once.
class TopKLists {
 public:
  // A unit between low and high; masked: it reaches the guess.
  struct Inside {
    float score = 0.0F;
    std::uint32_t unit = 0;
    bool masked = false;
  };

  // Empties the lists; the next segment has at most so many units.
  void clear(std::int64_t units);
  // Adds what a block has listed; `first` is its first unit in the segment.
  void add(const TopKBlock& block, std::int64_t first, const TopKMarks& marks,
           bool portable = false);

  // Those that reach the guess, which includes those that reach high.
  [[nodiscard]] std::span<const std::uint32_t> masked() const {
    return {masked_.data(), masked_count_};
  }
  [[nodiscard]] std::int64_t inside_count() const {
    return static_cast<std::int64_t>(inside_count_);
  }
  [[nodiscard]] Inside inside(std::size_t i) const {
    return {inside_scores_[i], inside_units_[i] & ~kMaskedBit,
            (inside_units_[i] & kMaskedBit) != 0};
  }
  // How many reach high.
  [[nodiscard]] std::int64_t certain() const { return certain_; }

 private:
  static constexpr std::uint32_t kMaskedBit = 0x80000000U;

  void add_avx512(const TopKBlock& block, std::int64_t first, const TopKMarks& marks);
  void add_portable(const TopKBlock& block, std::int64_t first, const TopKMarks& marks);

  std::vector<std::uint32_t> masked_;
  std::vector<std::uint32_t> inside_units_;
  std::vector<float> inside_scores_;
  std::size_t masked_count_ = 0;
  std::size_t inside_count_ = 0;
  std::int64_t certain_ = 0;
};

}  // namespace fishermask
