#include "mask/select.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <numeric>

#include "core/error.h"
#include "core/nan_report.h"
#include "core/parallel.h"
#include "core/score_key.h"
#include "core/vector_clones.h"
#include "mask/key_histogram.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace fishermask {
namespace {

constexpr std::array<std::string_view, 3> kScopeNames = {"global", "layer", "tensor"};
constexpr std::int64_t kSegmentUnits = 1
                                       << 16;  // a multiple of 8, so segments write their own bytes
constexpr std::int64_t kStrip = 32;  // units that are skipped together when none is in the bracket
constexpr std::int64_t kBatch = 128 * kStrip;      // stays in L1 between the loops over it
constexpr std::int64_t kSampleMinUnits = 1 << 20;  // below this full histograms are quick anyway
constexpr std::int64_t kSampleSize = 1 << 16;
constexpr std::int64_t kMaxCollectedShare =
    8;  // of the units, 1/8 at most: ties can fill a bracket
constexpr float kLowest = std::numeric_limits<float>::lowest();  // every eligible score is >= this

// A run of units of one tensor, the item of parallel work.
struct Segment {
  std::int64_t tensor = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t nan_count = 0;
  std::int64_t eligible = 0;
  std::int64_t masked = 0;
  std::int64_t ties = 0;
};

using Keys = std::vector<std::uint32_t>;

// Scores that the threshold very probably lies between, both included.
struct Bracket {
  float low = 0.0F;
  float high = 0.0F;
};

struct Tally {
  std::int64_t nan_count = 0;
  std::int64_t eligible = 0;
  std::int64_t above = 0;  // the bracket
};

// What one pass over the scores finds: how many are above the bracket, and the keys inside it.
struct Collected {
  std::vector<Keys> lists;  // in no particular order
  std::int64_t above = 0;
  std::int64_t inside = 0;
  bool complete = true;  // false when too many were inside to be worth keeping
};

std::vector<Segment> segments_of(std::span<const SelectTensor> tensors,
                                 std::span<const std::int64_t> members) {
  std::vector<Segment> segments;
  for (const std::int64_t tensor : members) {
    const auto units =
        static_cast<std::int64_t>(tensors[static_cast<std::size_t>(tensor)].scores.size());
    for (std::int64_t begin = 0; begin < units; begin += kSegmentUnits) {
      segments.push_back({tensor, begin, std::min(begin + kSegmentUnits, units), 0, 0, 0, 0});
    }
  }
  return segments;
}

// reaches[s] says whether strip s holds a score inside the bracket; `strips` whole strips.
FM_VECTOR_CLONES void mark_strips(const float* scores, std::int64_t strips, Bracket bracket,
                                  std::uint8_t* reaches) {
  for (std::int64_t strip = 0; strip < strips; ++strip) {
    std::int32_t any = 0;
    for (std::int64_t i = 0; i < kStrip; ++i) {
      const float score = scores[strip * kStrip + i];
      any |= (score >= bracket.low ? 1 : 0) & (score <= bracket.high ? 1 : 0);
    }
    reaches[strip] = static_cast<std::uint8_t>(any);
  }
}

FM_VECTOR_CLONES std::int64_t count_equal(const float* scores, std::int64_t count, float value) {
  std::int32_t equal = 0;  // count <= kSegmentUnits
  for (std::int64_t i = 0; i < count; ++i) equal += scores[i] == value ? 1 : 0;
  return equal;
}

FM_VECTOR_CLONES Tally tally(const float* scores, std::int64_t count, float high) {
  std::int32_t nan_count = 0;  // 32 bits fill more lanes; count <= kSegmentUnits
  std::int32_t eligible = 0;
  std::int32_t above = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    nan_count += scores[i] != scores[i] ? 1 : 0;
    eligible += scores[i] >= kLowest ? 1 : 0;
    above += scores[i] > high ? 1 : 0;
  }
  return {nan_count, eligible, above};
}

// Appends the keys inside the bracket; without a branch per score, which would be guessed wrong.
void collect_run(const float* scores, std::int64_t count, Bracket bracket, Keys& keys) {
  std::array<std::uint32_t, kStrip> found;
  std::size_t size = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    found[size] = score_key(scores[i]);
    size += static_cast<std::size_t>(scores[i] >= bracket.low) &
            static_cast<std::size_t>(scores[i] <= bracket.high);
  }
  keys.insert(keys.end(), found.begin(), found.begin() + static_cast<std::ptrdiff_t>(size));
}

void collect_batch(const float* scores, std::int64_t count, Bracket bracket, Keys& keys) {
  std::array<std::uint8_t, kBatch / kStrip> reaches;
  const std::int64_t strips = count / kStrip;
  mark_strips(scores, strips, bracket, reaches.data());
  for (std::int64_t s = 0; s < strips; ++s) {
    if (reaches[static_cast<std::size_t>(s)] == 0) continue;
    collect_run(scores + s * kStrip, kStrip, bracket, keys);
  }
  collect_run(scores + strips * kStrip, count % kStrip, bracket, keys);
}

// Bit i set where scores[i] >= threshold, for 64 scores.
FM_INLINE_IN_CLONES std::uint64_t at_least_word(const float* scores, float threshold) {
  std::uint64_t word = 0;
#if defined(__SSE2__)
  const __m128 bound = _mm_set1_ps(threshold);
  for (int i = 0; i < 64; i += 4) {
    const int four = _mm_movemask_ps(_mm_cmpge_ps(_mm_loadu_ps(scores + i), bound));
    word |= static_cast<std::uint64_t>(static_cast<unsigned>(four)) << i;
  }
#else
  for (int i = 0; i < 64; ++i) word |= std::uint64_t{scores[i] >= threshold} << i;
#endif
  return word;
}

// Writes the keep-bits of `words` * 64 scores; returns how many are masked.
FM_VECTOR_CLONES std::int64_t mask_words(const float* scores, std::int64_t words, float threshold,
                                         std::uint8_t* bytes) {
  static_assert(std::endian::native == std::endian::little);
  std::int64_t masked = 0;
  for (std::int64_t i = 0; i < words; ++i) {
    const std::uint64_t word = at_least_word(scores + i * 64, threshold);
    const std::uint64_t kept = ~word;
    std::memcpy(bytes + i * 8, &kept, sizeof kept);
    masked += std::popcount(word);
  }
  return masked;
}

// One ranking over some of the tensors.
class Ranker {
 public:
  Ranker(std::span<const SelectTensor> tensors, std::vector<std::int64_t> members)
      : tensors_(tensors), segments_(segments_of(tensors, members)) {
    ranking_.tensors = std::move(members);
    for (const Segment& segment : segments_) ranking_.units += segment.end - segment.begin;
  }

  Ranking run(std::int64_t k, Selection& selection) {
    ranking_.asked = k;
    const std::optional<Bracket> bracket = sampled_bracket(k);
    const Collected collected = bracket ? collect(*bracket) : tally_only();
    note_eligible();
    ranking_.masked = std::min(k, ranking_.eligible);
    if (ranking_.masked > 0) {
      find_threshold(collected);
      mask_at_least_threshold(selection);
      keep_surplus_ties(selection);
      report_masked(selection);
    }
    return ranking_;
  }

 private:
  [[nodiscard]] const float* scores_of(const Segment& segment) const {
    return tensors_[static_cast<std::size_t>(segment.tensor)].scores.data() + segment.begin;
  }

  void for_each_segment(const std::function<void(Segment&)>& body) {
    parallel_items(static_cast<std::int64_t>(segments_.size()),
                   [&](std::int64_t i) { body(segments_[static_cast<std::size_t>(i)]); });
  }

  // Scores at the ranks of a strided sample around the k-th; none where a sample cannot say.
  [[nodiscard]] std::optional<Bracket> sampled_bracket(std::int64_t k) const {
    if (ranking_.units < kSampleMinUnits || k == 0 || k >= ranking_.units) return std::nullopt;
    Keys keys = sample();
    const auto size = static_cast<double>(keys.size());
    const double share = static_cast<double>(k) / static_cast<double>(ranking_.units);
    // Six standard deviations of the sample's count: a miss costs more passes, never a result.
    const double margin = 6.0 * std::sqrt(size * share * (1.0 - share)) + 8.0;
    const double lower_rank = size * share + margin;
    const double upper_rank = size * share - margin;
    if (lower_rank >= size) return std::nullopt;
    const auto low = keys.begin() + static_cast<std::ptrdiff_t>(lower_rank);
    std::nth_element(keys.begin(), low, keys.end(), std::greater<>());
    Bracket bracket{std::max(score_of_key(*low), kLowest), std::numeric_limits<float>::infinity()};
    if (upper_rank >= 0.0) {
      const auto high = keys.begin() + static_cast<std::ptrdiff_t>(upper_rank);
      std::nth_element(keys.begin(), high, low, std::greater<>());
      bracket.high = score_of_key(*high);
    }
    return bracket;
  }

  [[nodiscard]] Keys sample() const {
    Keys keys;
    const std::int64_t stride = std::max<std::int64_t>(ranking_.units / kSampleSize, 1);
    std::int64_t next = 0;  // flat index over the segments
    std::int64_t before = 0;
    for (const Segment& segment : segments_) {
      const std::int64_t size = segment.end - segment.begin;
      for (; next < before + size; next += stride) {
        keys.push_back(score_key(scores_of(segment)[next - before]));
      }
      before += size;
    }
    return keys;
  }

  Collected tally_only() {
    for_each_segment([&](Segment& segment) {
      note_tally(segment, tally(scores_of(segment), segment.end - segment.begin, 0.0F));
    });
    Collected collected;
    collected.complete = false;
    return collected;
  }

  Collected collect(Bracket bracket) {
    Collected collected;
    std::mutex mutex;
    const auto most =
        static_cast<std::size_t>(ranking_.units / kMaxCollectedShare / thread_count());
    parallel_for(static_cast<std::int64_t>(segments_.size()), 1,
                 [&](std::int64_t begin, std::int64_t end) {
                   Keys keys;
                   std::int64_t above = 0;
                   for (std::int64_t i = begin; i < end; ++i) {
                     Segment& segment = segments_[static_cast<std::size_t>(i)];
                     above += collect_segment(segment, bracket, most, keys);
                   }
                   const std::lock_guard lock(mutex);
                   collected.above += above;
                   collected.inside += static_cast<std::int64_t>(keys.size());
                   collected.complete = collected.complete && keys.size() <= most;
                   collected.lists.push_back(std::move(keys));
                 });
    return collected;
  }

  // Returns how many are above the bracket. Stops collecting once there are more than `most` keys.
  std::int64_t collect_segment(Segment& segment, Bracket bracket, std::size_t most, Keys& keys) {
    const std::int64_t size = segment.end - segment.begin;
    std::int64_t above = 0;
    for (std::int64_t first = 0; first < size; first += kBatch) {
      const float* const scores = scores_of(segment) + first;
      const std::int64_t count = std::min(kBatch, size - first);
      const Tally found = tally(scores, count, bracket.high);
      note_tally(segment, found);
      above += found.above;
      if (keys.size() <= most) collect_batch(scores, count, bracket, keys);
    }
    return above;
  }

  static void note_tally(Segment& segment, const Tally& found) {
    segment.nan_count += found.nan_count;
    segment.eligible += found.eligible;
  }

  // Errors: NON_FINITE.
  void note_eligible() {
    NanReport report;
    for (std::size_t i = 0; i < segments_.size();) {
      const std::int64_t tensor = segments_[i].tensor;
      std::int64_t nan_count = 0;
      for (; i < segments_.size() && segments_[i].tensor == tensor; ++i) {
        nan_count += segments_[i].nan_count;
        ranking_.eligible += segments_[i].eligible;
      }
      report.add(tensors_[static_cast<std::size_t>(tensor)].name, nan_count);
    }
    report.fail_if_any();
  }

  void find_threshold(const Collected& collected) {
    const bool holds = collected.complete && collected.above < ranking_.masked &&
                       collected.above + collected.inside >= ranking_.masked;
    if (holds) {
      find_among(static_cast<std::int64_t>(collected.lists.size()),
                 ranking_.masked - collected.above, [&](std::int64_t item, const auto& add) {
                   for (const auto key : collected.lists[static_cast<std::size_t>(item)]) add(key);
                 });
      return;
    }
    find_among(static_cast<std::int64_t>(segments_.size()), ranking_.masked,
               [&](std::int64_t item, const auto& add) {
                 const Segment& segment = segments_[static_cast<std::size_t>(item)];
                 const float* const scores = scores_of(segment);
                 for (std::int64_t i = 0; i < segment.end - segment.begin; ++i) {
                   if (scores[i] >= kLowest) add(score_key(scores[i]));
                 }
               });
  }

  // The threshold is the wanted-th largest of the keys that keys_of(item, add) gives for each item.
  template <typename KeysOf>
  void find_among(std::int64_t items, std::int64_t wanted, const KeysOf& keys_of) {
    const auto count = [&](const auto& note) {
      return parallel_histogram(items, 1, kKeyBuckets,
                                [&](std::int64_t begin, std::int64_t end, KeyHistogram& own) {
                                  const auto add = [&](std::uint32_t key) { note(key, own); };
                                  for (std::int64_t item = begin; item < end; ++item)
                                    keys_of(item, add);
                                });
    };
    KeyHistogram counts = count([](std::uint32_t key, KeyHistogram& own) { ++own[key >> 16U]; });
    const auto high = static_cast<std::uint32_t>(boundary_bucket(counts, wanted));
    counts = count([high](std::uint32_t key, KeyHistogram& own) {
      if (key >> 16U == high) ++own[key & 0xFFFFU];
    });
    const auto low = static_cast<std::uint32_t>(boundary_bucket(counts, wanted));
    threshold_ = score_of_key((high << 16U) | low);
    surplus_ties_ = counts[low] - wanted;
    ranking_.threshold = threshold_;
  }

  void mask_at_least_threshold(Selection& selection) {
    for_each_segment([&](Segment& segment) {
      KeepMask& mask = selection.masks[static_cast<std::size_t>(segment.tensor)];
      const float* const scores = scores_of(segment);
      const std::int64_t size = segment.end - segment.begin;
      segment.masked =
          mask_words(scores, size / 64, threshold_, mask.bits.data() + segment.begin / 8);
      for (std::int64_t i = size / 64 * 64; i < size; ++i) {
        if (scores[i] < threshold_) continue;
        mask.set_masked(segment.begin + i);
        ++segment.masked;
      }
      if (surplus_ties_ > 0) segment.ties = count_equal(scores, size, threshold_);
    });
  }

  // Of the units that equal the threshold, the last ones by index are given back.
  void keep_surplus_ties(Selection& selection) {
    std::vector<std::int64_t> surplus(segments_.size(), 0);
    std::int64_t left = surplus_ties_;
    for (std::size_t i = segments_.size(); i > 0 && left > 0; --i) {
      surplus[i - 1] = std::min(left, segments_[i - 1].ties);
      left -= surplus[i - 1];
    }
    parallel_items(static_cast<std::int64_t>(segments_.size()), [&](std::int64_t item) {
      Segment& segment = segments_[static_cast<std::size_t>(item)];
      std::int64_t to_keep = surplus[static_cast<std::size_t>(item)];
      segment.masked -= to_keep;
      KeepMask& mask = selection.masks[static_cast<std::size_t>(segment.tensor)];
      const float* const scores = scores_of(segment);
      for (std::int64_t i = segment.end - segment.begin - 1; to_keep > 0; --i) {
        if (scores[i] != threshold_) continue;
        mask.set_kept(segment.begin + i);
        --to_keep;
      }
    });
  }

  void report_masked(Selection& selection) const {
    for (const Segment& segment : segments_) {
      selection.masked[static_cast<std::size_t>(segment.tensor)] += segment.masked;
    }
  }

  std::span<const SelectTensor> tensors_;
  std::vector<Segment> segments_;
  Ranking ranking_;
  float threshold_ = 0.0F;
  std::int64_t surplus_ties_ = 0;
};

Selection everything_kept(std::span<const SelectTensor> tensors) {
  Selection selection;
  for (const SelectTensor& tensor : tensors) {
    const auto units = static_cast<std::int64_t>(tensor.scores.size());
    selection.masks.emplace_back(units);
    selection.total_units += units;
  }
  selection.masked.assign(tensors.size(), 0);
  return selection;
}

std::int64_t units_of(std::span<const SelectTensor> tensors,
                      const std::vector<std::int64_t>& members) {
  std::int64_t units = 0;
  for (const std::int64_t t : members) {
    units += static_cast<std::int64_t>(tensors[static_cast<std::size_t>(t)].scores.size());
  }
  return units;
}

void rank(std::span<const SelectTensor> tensors, std::vector<std::int64_t> members, std::int64_t k,
          Selection& selection) {
  selection.rankings.push_back(Ranker(tensors, std::move(members)).run(k, selection));
  selection.total_masked += selection.rankings.back().masked;
}

}  // namespace

std::string_view scope_name(Scope scope) noexcept {
  return kScopeNames[static_cast<std::size_t>(scope)];
}

Scope parse_scope(std::string_view name) {
  for (std::size_t i = 0; i < kScopeNames.size(); ++i) {
    if (kScopeNames[i] == name) return static_cast<Scope>(i);
  }
  fail(ErrorCode::kARGUMENT, "Expected global, layer or tensor for scope but received ", name);
}

std::int64_t ratio_to_k(double ratio, std::int64_t units) {
  FM_CHECK(ratio >= 0.0 && ratio <= 1.0, ARGUMENT,
           "Expected a number between 0 and 1 for ratio but received ", ratio);
  FM_CHECK(units >= 0, ARGUMENT, "Expected 0 or more for units but received ", units);
  if (units == 0) return 0;
  const auto total = static_cast<double>(units);
  auto k = std::min(static_cast<std::int64_t>(ratio * total), units);
  while (k > 0 && static_cast<double>(k) / total > ratio) --k;
  while (k < units && static_cast<double>(k + 1) / total <= ratio) ++k;
  return k;
}

std::vector<std::vector<std::int64_t>> ranking_members(std::span<const std::int64_t> groups,
                                                       Scope scope) {
  std::vector<std::vector<std::int64_t>> rankings;
  std::map<std::int64_t, std::size_t> place;
  for (std::size_t t = 0; t < groups.size(); ++t) {
    const auto position = static_cast<std::int64_t>(t);
    std::int64_t group = 0;
    if (scope == Scope::kLayer) group = groups[t];
    if (scope == Scope::kTensor) group = position;
    const auto [entry, added] = place.try_emplace(group, rankings.size());
    if (added) rankings.emplace_back();
    rankings[entry->second].push_back(position);
  }
  return rankings;
}

Selection select_top_k(std::span<const SelectTensor> tensors, std::int64_t k) {
  FM_CHECK(k >= 0, ARGUMENT, "Expected 0 or more for k but received ", k);
  Selection selection = everything_kept(tensors);
  std::vector<std::int64_t> members(tensors.size());
  std::iota(members.begin(), members.end(), 0);
  rank(tensors, std::move(members), k, selection);
  return selection;
}

Selection select_ratio(std::span<const SelectTensor> tensors, Scope scope, double ratio) {
  [[maybe_unused]] const std::int64_t checked = ratio_to_k(ratio, 0);  // also with no tensor at all
  Selection selection = everything_kept(tensors);
  std::vector<std::int64_t> groups;
  for (const SelectTensor& tensor : tensors) groups.push_back(tensor.group);
  for (std::vector<std::int64_t>& members : ranking_members(groups, scope)) {
    const std::int64_t k = ratio_to_k(ratio, units_of(tensors, members));
    rank(tensors, std::move(members), k, selection);
  }
  return selection;
}

}  // namespace fishermask
