#include "mask/select.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <numeric>

#include "core/error.h"
#include "core/parallel.h"
#include "mask/nan_report.h"
#include "mask/score_key.h"
#include "mask/vector_clones.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace fishermask {
namespace {

constexpr std::array<std::string_view, 3> kScopeNames = {"global", "layer", "tensor"};
constexpr std::int64_t kSegmentUnits = 1
                                       << 16;  // a multiple of 8, so segments write their own bytes
constexpr std::int64_t kBuckets = 1 << 16;
constexpr std::int64_t kStrip = 32;  // units that are skipped together when none reaches the bound
constexpr std::int64_t kStripsPerBatch = 128;
constexpr std::int64_t kSampleMinUnits = 1 << 20;  // below this a full histogram is quick anyway
constexpr std::int64_t kSampleSize = 1 << 14;
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

using Histogram = std::vector<std::int64_t>;

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

// reaches[s] says whether strip s holds a score of at least `bound`; `strips` whole strips.
FM_VECTOR_CLONES void mark_strips(const float* scores, std::int64_t strips, float bound,
                                  std::uint8_t* reaches) {
  for (std::int64_t strip = 0; strip < strips; ++strip) {
    std::int32_t any = 0;
    for (std::int64_t i = 0; i < kStrip; ++i) any |= scores[strip * kStrip + i] >= bound ? 1 : 0;
    reaches[strip] = static_cast<std::uint8_t>(any);
  }
}

FM_VECTOR_CLONES std::int64_t count_equal(const float* scores, std::int64_t count, float value) {
  std::int32_t equal = 0;  // count <= kSegmentUnits
  for (std::int64_t i = 0; i < count; ++i) equal += scores[i] == value ? 1 : 0;
  return equal;
}

struct Tally {
  std::int32_t nan_count = 0;
  std::int32_t eligible = 0;
};

FM_VECTOR_CLONES Tally tally(const float* scores, std::int64_t count) {
  std::int32_t nan_count = 0;
  std::int32_t eligible = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    nan_count += scores[i] != scores[i] ? 1 : 0;
    eligible += scores[i] >= kLowest ? 1 : 0;
  }
  return {nan_count, eligible};
}

// Calls add(key) for the scores of [bound, ∞], skipping strips in which there are none.
template <typename Add>
void scan_keys(const float* scores, std::int64_t count, float bound, const Add& add) {
  const auto scan = [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      if (scores[i] >= bound) add(score_key(scores[i]));
    }
  };
  std::array<std::uint8_t, kStripsPerBatch> reaches;  // batches stay in L1 between the two loops
  const std::int64_t strips = count / kStrip;
  for (std::int64_t first = 0; first < strips; first += kStripsPerBatch) {
    const std::int64_t batch = std::min<std::int64_t>(kStripsPerBatch, strips - first);
    mark_strips(scores + first * kStrip, batch, bound, reaches.data());
    for (std::int64_t s = 0; s < batch; ++s) {
      const std::int64_t begin = (first + s) * kStrip;
      if (reaches[static_cast<std::size_t>(s)] != 0) scan(begin, begin + kStrip);
    }
  }
  scan(strips * kStrip, count);
}

// Bit i set where scores[i] >= threshold, for eight scores.
std::uint8_t at_least_bits(const float* scores, float threshold) {
#if defined(__SSE2__)
  const __m128 bound = _mm_set1_ps(threshold);
  const int low = _mm_movemask_ps(_mm_cmpge_ps(_mm_loadu_ps(scores), bound));
  const int high = _mm_movemask_ps(_mm_cmpge_ps(_mm_loadu_ps(scores + 4), bound));
  return static_cast<std::uint8_t>(low | (high << 4));
#else
  unsigned bits = 0;
  for (unsigned i = 0; i < 8; ++i) bits |= (scores[i] >= threshold ? 1U : 0U) << i;
  return static_cast<std::uint8_t>(bits);
#endif
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
    count_eligible();
    ranking_.masked = std::min(k, ranking_.eligible);
    if (ranking_.masked > 0) {
      find_threshold();
      mask_at_least_threshold(selection);
      keep_surplus_ties(selection);
      report_masked(selection);
    }
    return ranking_;
  }

 private:
  const float* scores_of(const Segment& segment) const {
    return tensors_[static_cast<std::size_t>(segment.tensor)].scores.data() + segment.begin;
  }

  void for_each_segment(const std::function<void(Segment&)>& body) {
    parallel_items(static_cast<std::int64_t>(segments_.size()),
                   [&](std::int64_t i) { body(segments_[static_cast<std::size_t>(i)]); });
  }

  void count_eligible() {
    for_each_segment([&](Segment& segment) {
      const Tally found = tally(scores_of(segment), segment.end - segment.begin);
      segment.nan_count = found.nan_count;
      segment.eligible = found.eligible;
    });
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

  // Every thread fills its own histogram; integer sums do not care in which order they meet.
  template <typename BucketOf>
  Histogram histogram(float bound, const BucketOf& bucket_of) {
    Histogram total(static_cast<std::size_t>(kBuckets), 0);
    std::mutex mutex;
    parallel_for(
        static_cast<std::int64_t>(segments_.size()), 1, [&](std::int64_t begin, std::int64_t end) {
          Histogram own(static_cast<std::size_t>(kBuckets), 0);
          for (std::int64_t i = begin; i < end; ++i) {
            const Segment& segment = segments_[static_cast<std::size_t>(i)];
            scan_keys(scores_of(segment), segment.end - segment.begin, bound,
                      [&](std::uint32_t key) { bucket_of(key, own); });
          }
          const std::lock_guard lock(mutex);
          std::transform(total.begin(), total.end(), own.begin(), total.begin(), std::plus<>());
        });
    return total;
  }

  // A score that about 5/4 of what is wanted reach, judged from a strided sample.
  float sampled_bound() const {
    if (ranking_.units < kSampleMinUnits || ranking_.masked > ranking_.units / 4) return kLowest;
    std::vector<std::uint32_t> keys;
    keys.reserve(static_cast<std::size_t>(kSampleSize) + 1);
    const std::int64_t stride = ranking_.units / kSampleSize;
    std::int64_t next = 0;  // flat index over the segments
    std::int64_t before = 0;
    for (const Segment& segment : segments_) {
      const std::int64_t size = segment.end - segment.begin;
      for (; next < before + size; next += stride) {
        keys.push_back(score_key(scores_of(segment)[next - before]));
      }
      before += size;
    }
    const double expected = static_cast<double>(ranking_.masked) *
                            static_cast<double>(keys.size()) / static_cast<double>(ranking_.units);
    // Six standard deviations of the sample's count: a miss costs a second pass, never a result.
    const auto rank = static_cast<std::size_t>(1.25 * expected + 6.0 * std::sqrt(expected) + 8.0);
    if (rank >= keys.size()) return kLowest;
    std::nth_element(keys.begin(), keys.begin() + static_cast<std::ptrdiff_t>(rank), keys.end(),
                     std::greater<>());
    return std::max(score_of_key(keys[rank]), kLowest);
  }

  // Walks down from the largest bucket to the one that holds the wanted-th unit; `wanted` becomes
  // the rank inside it.
  static std::int64_t boundary_bucket(const Histogram& counts, std::int64_t& wanted) {
    std::int64_t bucket = kBuckets - 1;
    while (counts[static_cast<std::size_t>(bucket)] < wanted) {
      wanted -= counts[static_cast<std::size_t>(bucket)];
      --bucket;
    }
    return bucket;
  }

  void find_threshold() {
    const auto by_high = [](std::uint32_t key, Histogram& counts) { ++counts[key >> 16U]; };
    Histogram counts = histogram(sampled_bound(), by_high);
    if (std::accumulate(counts.begin(), counts.end(), std::int64_t{0}) < ranking_.masked) {
      counts = histogram(kLowest, by_high);
    }
    std::int64_t wanted = ranking_.masked;
    const auto high = static_cast<std::uint32_t>(boundary_bucket(counts, wanted));
    const float bucket_floor = score_of_key(std::max(high << 16U, kNotEligibleKey + 1U));
    counts = histogram(bucket_floor, [high](std::uint32_t key, Histogram& low_counts) {
      if (key >> 16U == high) ++low_counts[key & 0xFFFFU];
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
      std::uint8_t* const bytes = mask.bits.data() + segment.begin / 8;
      for (std::int64_t byte = 0; byte < size / 8; ++byte) {
        const std::uint8_t chosen = at_least_bits(scores + byte * 8, threshold_);
        bytes[byte] = static_cast<std::uint8_t>(~chosen);
        segment.masked += std::popcount(chosen);
      }
      for (std::int64_t i = size / 8 * 8; i < size; ++i) {
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

// Positions of the tensors of each group, in order of the group's first tensor.
std::vector<std::vector<std::int64_t>> groups_of(std::span<const SelectTensor> tensors,
                                                 Scope scope) {
  std::vector<std::vector<std::int64_t>> groups;
  std::map<std::int64_t, std::size_t> place;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const auto position = static_cast<std::int64_t>(t);
    std::int64_t group = 0;
    if (scope == Scope::kLayer) group = tensors[t].group;
    if (scope == Scope::kTensor) group = position;
    const auto [entry, added] = place.try_emplace(group, groups.size());
    if (added) groups.emplace_back();
    groups[entry->second].push_back(position);
  }
  return groups;
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
  for (std::vector<std::int64_t>& members : groups_of(tensors, scope)) {
    const std::int64_t k = ratio_to_k(ratio, units_of(tensors, members));
    rank(tensors, std::move(members), k, selection);
  }
  return selection;
}

}  // namespace fishermask
