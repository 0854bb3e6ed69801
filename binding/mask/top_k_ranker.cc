#include "mask/top_k_ranker.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <functional>
#include <mutex>
#include <numeric>

#include "core/error.h"
#include "core/nan_report.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "core/score_key.h"
#include "mask/fused_scan.h"
#include "mask/key_histogram.h"
#include "mask/top_k_bits.h"
#include "mask/top_k_block.h"
#include "mask/top_k_sample.h"

namespace fishermask {
namespace {

constexpr std::int64_t kLeastCandidates = 1 << 17;  // a quick amount whatever the ranking's size
constexpr PhiloxKey kJitter{0x746f706b, 0};         // any fixed key: results do not depend on it
constexpr std::int64_t kSampledShare = 64;          // of the units, 1/64 at most
constexpr std::int64_t kSampleAhead = 8;            // strata to prefetch ahead

struct Candidate {
  std::uint32_t key = 0;
  std::uint32_t unit : 31 = 0;   // inside the segment
  std::uint32_t masked : 1 = 0;  // already, by the pass
};

struct Segment {
  UnitRange range;
  std::int64_t flat = 0;  // its first unit in the ranking
  std::int64_t nan_count = 0;
  std::int64_t eligible = 0;
  std::int64_t certain = 0;  // masked for good by the pass
  std::int64_t inside = 0;   // between the marks
  std::int64_t masked = 0;   // in the end
  std::vector<Candidate> candidates;

  [[nodiscard]] std::int64_t units() const { return range.end - range.begin; }
};

// Windows hold buffers, so that they are handed on from segment to segment.
class WindowPool {
 public:
  explicit WindowPool(TopKStore& store) : store_(store) {}

  class Lease {
   public:
    explicit Lease(WindowPool& pool) : pool_(pool), window_(pool.take()) {}
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() { pool_.give(std::move(window_)); }
    [[nodiscard]] TopKWindow& operator*() const { return *window_; }

   private:
    WindowPool& pool_;
    std::unique_ptr<TopKWindow> window_;
  };

 private:
  std::unique_ptr<TopKWindow> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) {
      free_.reserve(++made_);  // so that give() cannot fail
      return store_.window();
    }
    std::unique_ptr<TopKWindow> window = std::move(free_.back());
    free_.pop_back();
    return window;
  }
  void give(std::unique_ptr<TopKWindow> window) noexcept {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(window));
  }

  TopKStore& store_;
  std::mutex mutex_;
  std::size_t made_ = 0;
  std::vector<std::unique_ptr<TopKWindow>> free_;
};

// What all rankings of one call share.
struct Job {
  const ScoreProgram& program;
  const ScoreSettings& settings;
  std::span<const TopKUnits> tensors;
  TopKStore& store;
  const TopKControl& control;
  const TopKTuning& tuning;
  std::int64_t total_units = 0;
  std::atomic<std::int64_t> done_units = 0;
  WindowPool windows{store};

  void check_cancelled() const {
    if (control.cancel == nullptr) return;
    // The flag belongs to the caller, whose type is not atomic.
    auto& flag = const_cast<std::int32_t&>(*control.cancel);
    FM_CHECK(std::atomic_ref(flag).load(std::memory_order_relaxed) == 0, ABORTED,
             "the work was stopped by its AbortSignal");
  }
  void note_done(std::int64_t units) {
    if (control.per_mille == nullptr) return;
    const std::int64_t done = std::min(done_units += units, total_units);
    std::atomic_ref(*control.per_mille)
        .store(static_cast<std::int32_t>(done * 1000 / std::max<std::int64_t>(total_units, 1)),
               std::memory_order_relaxed);
  }
};

std::vector<Segment> segments_of(const Job& job, std::span<const std::int64_t> members) {
  std::vector<Segment> segments;
  std::int64_t flat = 0;
  for (const std::int64_t t : members) {
    const TopKUnits& tensor = job.tensors[static_cast<std::size_t>(t)];
    const std::int64_t size = segment_units(tensor.elements_per_unit, job.tuning);
    for (std::int64_t begin = 0; begin < tensor.units; begin += size) {
      Segment segment;
      segment.range = {t, begin, std::min(begin + size, tensor.units)};
      segment.flat = flat + begin;
      segments.push_back(std::move(segment));
    }
    flat += tensor.units;
  }
  return segments;
}

// One ranking over some of the tensors.
class TopKRanker {
 public:
  TopKRanker(Job& job, std::vector<std::int64_t> members, std::vector<KeepMask>& masks)
      : job_(job), masks_(masks), segments_(segments_of(job, members)) {
    ranking_.tensors = std::move(members);
    for (const Segment& segment : segments_) ranking_.units += segment.units();
  }

  // Returns false when there are NaNs: nothing is decided then.
  bool run(std::int64_t k) {
    ranking_.asked = k;
    bracket_ = k == 0 ? TopKBracket{kBeforeAll, kBeforeAll, kBeforeAll} : bracket_for(k);
    stream(bracket_);
    work_.passes = 1.0;
    for (const Segment& segment : segments_) work_.candidates += segment.inside;
    if (!given_up_) note_eligible();
    if (nan_count_ > 0) return false;
    if (given_up_ || !decided_by_candidates()) {
      if (!count_exactly(k)) return false;
    }
    for (Segment& segment : segments_) segment.candidates = {};
    return true;
  }

  [[nodiscard]] const Ranking& ranking() const { return ranking_; }
  [[nodiscard]] const TopKWork& work() const { return work_; }
  [[nodiscard]] const std::vector<Segment>& segments() const { return segments_; }

  void undo() {
    parallel_items(static_cast<std::int64_t>(segments_.size()), [&](std::int64_t i) {
      const Segment& segment = segments_[static_cast<std::size_t>(i)];
      job_.store.undo(segment.range, kept_bytes(segment));
    });
  }

 private:
  [[nodiscard]] std::uint8_t* kept_bytes(const Segment& segment) const {
    return masks_[static_cast<std::size_t>(segment.range.tensor)].bits.data() +
           segment.range.begin / 8;
  }

  // Segments in parallel, neighbours at about the same time.
  void for_each_segment(const std::function<void(std::int64_t, TopKWindow&)>& body) {
    parallel_items(static_cast<std::int64_t>(segments_.size()), [&](std::int64_t item) {
      job_.check_cancelled();
      const WindowPool::Lease window(job_.windows);
      const auto ahead = static_cast<std::size_t>(item + thread_count());
      if (ahead < segments_.size()) (*window).prefetch(segments_[ahead].range);
      body(item, *window);
    });
  }

  // The blocks of a segment: visit(first unit in the segment, count, inputs of
  // the block).
  template <typename Visit>
  void for_each_block(const Segment& segment, TopKWindow& window, const Visit& visit) {
    const std::int64_t elements = tensor_of(segment).elements_per_unit;
    const UnitData data = window.read(segment.range);
    for (std::int64_t first = 0; first < segment.units(); first += TopKBlock::kMaxUnits) {
      const std::int64_t count = std::min(TopKBlock::kMaxUnits, segment.units() - first);
      visit(first, count, data.at(first * elements));
    }
  }

  using Scores = std::array<float, TopKBlock::kMaxUnits>;

  [[nodiscard]] const TopKUnits& tensor_of(const Segment& segment) const {
    return job_.tensors[static_cast<std::size_t>(segment.range.tensor)];
  }

  void score_block(const Segment& segment, std::int64_t first, std::int64_t count,
                   const UnitData& data, Scores& scores) const {
    const TopKUnits& tensor = tensor_of(segment);
    const std::int64_t unit = segment.range.begin + first;
    score_unit_run(job_.program, job_.settings, data, tensor.elements_per_unit,
                   tensor.first_unit + static_cast<std::uint64_t>(unit), count, scores.data());
    exclude_masked(tensor.previous_keep, unit, count, scores.data());
  }

  void classify(const Segment& segment, std::int64_t first, std::int64_t count,
                const UnitData& data, float low, Scores& scores, TopKBlock& block) const {
    const TopKUnits& tensor = tensor_of(segment);
    if (tensor.elements_per_unit == 1 && tensor.previous_keep == nullptr) {
      const auto unit = tensor.first_unit + static_cast<std::uint64_t>(segment.range.begin + first);
      score_and_classify(job_.program, score_inputs(data, job_.settings, 1, unit, 0), count, low,
                         scores.data(), block);
      return;
    }
    score_block(segment, first, count, data, scores);
    classify_block(scores.data(), count, low, block);
  }

  // --- the marks
  // ---------------------------------------------------------------------------------

  [[nodiscard]] TopKBracket bracket_for(std::int64_t k) {
    if (ranking_.units <= job_.tuning.least_sampled) return {};  // all are candidates
    const std::int64_t run = job_.tuning.run;
    const std::int64_t strata =
        std::clamp<std::int64_t>(ranking_.units / (kSampledShare * run), 1, job_.tuning.strata);
    std::vector<TopKSampled> sampled(static_cast<std::size_t>(strata * run));
    std::vector<std::int64_t> lengths(static_cast<std::size_t>(strata));
    parallel_for(strata, 256, [&](std::int64_t begin, std::int64_t end) {
      const WindowPool::Lease window(job_.windows);
      for (std::int64_t s = begin; s < end; ++s) {
        if (s + kSampleAhead < end)
          (*window).prefetch(sampled_range(s + kSampleAhead, strata).first);
        lengths[static_cast<std::size_t>(s)] =
            draw(s, strata, *window, sampled.data() + static_cast<std::size_t>(s * run));
      }
    });
    return bracket_of(compacted(sampled, lengths), lengths,
                      static_cast<double>(k) / static_cast<double>(ranking_.units), job_.tuning);
  }

  // Runs that a tensor's end cut short leave holes; lengths become the runs'
  // ends.
  [[nodiscard]] std::span<const TopKSampled> compacted(std::vector<TopKSampled>& sampled,
                                                       std::vector<std::int64_t>& lengths) const {
    std::int64_t size = 0;
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      const auto from = sampled.begin() + static_cast<std::ptrdiff_t>(s) * job_.tuning.run;
      std::move(from, from + lengths[s], sampled.begin() + size);
      size += lengths[s];
      lengths[s] = size;
    }
    return {sampled.data(), static_cast<std::size_t>(size)};
  }

  // Stratum s's run of units, and the flat index of its first.
  [[nodiscard]] std::pair<UnitRange, std::int64_t> sampled_range(std::int64_t s,
                                                                 std::int64_t strata) const {
    const auto edge = [&](std::int64_t i) {  // i * units / strata without overflow
      return ranking_.units / strata * i + ranking_.units % strata * i / strata;
    };
    const std::int64_t width = edge(s + 1) - edge(s);
    const double jitter = static_cast<double>(philox_u32(kJitter, static_cast<std::uint64_t>(s)));
    const std::int64_t flat =
        edge(s) + std::min(static_cast<std::int64_t>(jitter * 0x1p-32 * static_cast<double>(width)),
                           width - 1);
    const auto after = std::upper_bound(
        segments_.begin(), segments_.end(), flat,
        [](std::int64_t value, const Segment& segment) { return value < segment.flat; });
    const Segment& segment = *std::prev(after);
    const std::int64_t units = job_.tensors[static_cast<std::size_t>(segment.range.tensor)].units;
    const std::int64_t unit = segment.range.begin + (flat - segment.flat);
    const std::int64_t begin = std::max<std::int64_t>(std::min(unit, units - job_.tuning.run), 0);
    const std::int64_t end = std::min(begin + job_.tuning.run, units);
    return {{segment.range.tensor, begin, end}, flat - unit + begin};
  }

  std::int64_t draw(std::int64_t s, std::int64_t strata, TopKWindow& window,
                    TopKSampled* sampled) const {
    const auto [range, flat] = sampled_range(s, strata);
    const TopKUnits& tensor = job_.tensors[static_cast<std::size_t>(range.tensor)];
    const std::int64_t count = range.end - range.begin;
    std::array<float, TopKBlock::kMaxUnits> scores;
    score_unit_run(job_.program, job_.settings, window.read(range), tensor.elements_per_unit,
                   tensor.first_unit + static_cast<std::uint64_t>(range.begin), count,
                   scores.data());
    exclude_masked(tensor.previous_keep, range.begin, count, scores.data());
    for (std::int64_t i = 0; i < count; ++i) {
      sampled[i] = {score_key(scores[static_cast<std::size_t>(i)]), flat + i};
    }
    return count;
  }

  // --- the pass
  // ----------------------------------------------------------------------------------

  void stream(const TopKBracket& bracket) {
    const std::int64_t most =
        std::max(kLeastCandidates, job_.tuning.least_sampled) +
        ranking_.units / std::max<std::int64_t>(job_.tuning.candidate_divisor, 1);
    const bool collects = job_.tuning.candidate_divisor > 0;
    std::atomic<std::int64_t> inside = 0;
    std::atomic<bool> too_many = false;
    for_each_segment([&](std::int64_t item, TopKWindow& window) {
      if (too_many) return;
      Segment& segment = segments_[static_cast<std::size_t>(item)];
      stream_segment(segment, window, bracket);
      const std::int64_t so_far = inside += segment.inside;
      if (so_far > most || (!collects && segment.inside > 0)) too_many = true;
      job_.note_done(segment.units());
    });
    given_up_ = too_many;
  }

  void stream_segment(Segment& segment, TopKWindow& window, const TopKBracket& bracket) {
    thread_local TopKLists lists;
    list_segment(segment, window, bracket, lists);
    segment.certain = lists.certain();
    segment.inside = lists.inside_count();
    segment.candidates.resize(static_cast<std::size_t>(lists.inside_count()));
    for (std::size_t i = 0; i < segment.candidates.size(); ++i) {
      const TopKLists::Inside inside = lists.inside(i);
      segment.candidates[i] = {score_key(inside.score), inside.unit & 0x7FFFFFFFU,
                               inside.masked ? 1U : 0U};
    }
    mask_listed(segment, window, lists);
  }

  void list_segment(Segment& segment, TopKWindow& window, const TopKBracket& bracket,
                    TopKLists& lists) {
    TopKBlock block;
    alignas(64) Scores scores;
    lists.clear(segment.units());
    for_each_block(segment, window,
                   [&](std::int64_t first, std::int64_t count, const UnitData& data) {
                     const TopKMarks marks = bracket.at(segment.flat + first);
                     classify(segment, first, count, data, marks.low, scores, block);
                     segment.nan_count += block.nan_count;
                     segment.eligible += block.eligible;
                     lists.add(block, first, marks);
                   });
  }

  // The segment's keep-bits must all be set.
  void mask_listed(const Segment& segment, TopKWindow& window, const TopKLists& lists) {
    std::uint8_t* const kept = kept_bytes(segment);
    for (const std::uint32_t unit : lists.masked()) {
      kept[unit / 8] = static_cast<std::uint8_t>(kept[unit / 8] & ~(1U << (unit % 8)));
    }
    window.mask(segment.range, lists.masked());
  }

  void note_eligible() {
    for (const Segment& segment : segments_) {
      nan_count_ += segment.nan_count;
      ranking_.eligible += segment.eligible;
    }
    ranking_.masked = std::min(ranking_.asked, ranking_.eligible);
  }

  // --- the decision
  // ------------------------------------------------------------------------------

  // Returns false when the k-th unit is not among the candidates.
  bool decided_by_candidates() {
    std::int64_t certain = 0;
    std::int64_t inside = 0;
    for (Segment& segment : segments_) {
      certain += segment.certain;
      inside += segment.inside;
      segment.masked = segment.certain;
    }
    if (ranking_.masked == 0) return certain == 0;
    const std::int64_t wanted = ranking_.masked - certain;
    if (wanted <= 0 || wanted > inside) return false;
    const LastCandidate last = last_candidate(wanted);
    ranking_.threshold = score_of_key(last.key);
    correct(last);
    return true;
  }

  // What a candidate's key says in a histogram of few buckets over the bracket's keys.
  struct KeyBuckets {
    static constexpr int kBits = 12;
    std::uint32_t least = 0;
    int shift = 0;

    [[nodiscard]] std::size_t of(std::uint32_t key) const {
      return static_cast<std::size_t>((key - least) >> shift);
    }
  };

  [[nodiscard]] KeyBuckets candidate_buckets() const {
    const std::uint32_t least = bracket_.low.key;
    const std::uint32_t span = bracket_.high.key - least;
    return {least, std::max(static_cast<int>(std::bit_width(span)) - KeyBuckets::kBits, 0)};
  }

  // body(first segment, end), in parallel.
  void for_segment_runs(const std::function<void(std::size_t, std::size_t)>& body) const {
    parallel_for(static_cast<std::int64_t>(segments_.size()), 64,
                 [&](std::int64_t begin, std::int64_t end) {
                   body(static_cast<std::size_t>(begin), static_cast<std::size_t>(end));
                 });
  }

  [[nodiscard]] KeyHistogram count_candidates(const KeyBuckets& buckets) const {
    return parallel_histogram(
        static_cast<std::int64_t>(segments_.size()), 64, std::int64_t{1} << KeyBuckets::kBits,
        [&](std::int64_t begin, std::int64_t end, KeyHistogram& own) {
          for (std::int64_t i = begin; i < end; ++i) {
            for (const Candidate& candidate : segments_[static_cast<std::size_t>(i)].candidates) {
              ++own[buckets.of(candidate.key)];
            }
          }
        });
  }

  // In no particular order.
  [[nodiscard]] std::vector<std::uint32_t> candidates_in(const KeyBuckets& buckets,
                                                         std::size_t bucket) const {
    std::vector<std::uint32_t> keys;
    std::mutex mutex;
    for_segment_runs([&](std::size_t begin, std::size_t end) {
      std::vector<std::uint32_t> own;
      for (std::size_t i = begin; i < end; ++i) {
        for (const Candidate& candidate : segments_[i].candidates) {
          if (buckets.of(candidate.key) == bucket) own.push_back(candidate.key);
        }
      }
      const std::lock_guard lock(mutex);
      keys.insert(keys.end(), own.begin(), own.end());
    });
    return keys;
  }

  struct LastCandidate {
    std::uint32_t key = 0;
    std::int64_t wanted = 0;  // how many with that key are to be masked
    std::int64_t count = 0;   // how many have it
  };

  // The wanted-th candidate's key.
  [[nodiscard]] LastCandidate last_candidate(std::int64_t wanted) const {
    const KeyBuckets buckets = candidate_buckets();
    const KeyHistogram counts = count_candidates(buckets);
    const std::size_t bucket = boundary_bucket(counts, wanted);
    if (buckets.shift == 0) {
      return {buckets.least + static_cast<std::uint32_t>(bucket), wanted, counts[bucket]};
    }
    std::vector<std::uint32_t> keys = candidates_in(buckets, bucket);
    const auto nth = keys.begin() + static_cast<std::ptrdiff_t>(wanted - 1);
    std::nth_element(keys.begin(), nth, keys.end(), std::greater<>());
    const std::uint32_t key = *nth;
    const auto above = std::count_if(keys.begin(), nth, [&](auto other) { return other > key; });
    return {key, wanted - above, std::count(keys.begin(), keys.end(), key)};
  }

  // Candidates are masked where their key is above the last one's, and the first `wanted` equal
  // ones.
  void correct(const LastCandidate& last) {
    std::vector<std::int64_t> quota(segments_.size(), last.count);
    if (last.wanted < last.count) share_ties(last, quota);
    for_segment_runs([&](std::size_t begin, std::size_t end) {
      std::vector<TopKCorrection> corrections;
      for (std::size_t i = begin; i < end; ++i) {
        correct_segment(segments_[i], last.key, quota[i], corrections);
      }
    });
  }

  // In order of the segments.
  void share_ties(const LastCandidate& last, std::vector<std::int64_t>& quota) const {
    for_segment_runs([&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        const auto& candidates = segments_[i].candidates;
        quota[i] = std::count_if(candidates.begin(), candidates.end(),
                                 [&](const Candidate& c) { return c.key == last.key; });
      }
    });
    std::int64_t left = last.wanted;
    for (std::int64_t& ties : quota) {
      ties = std::min(ties, left);
      left -= ties;
    }
  }

  void correct_segment(Segment& segment, std::uint32_t threshold, std::int64_t ties,
                       std::vector<TopKCorrection>& corrections) {
    corrections.clear();
    for (const Candidate& candidate : segment.candidates) {
      const bool masked = candidate.key > threshold || (candidate.key == threshold && ties-- > 0);
      segment.masked += masked ? 1 : 0;
      if (masked != (candidate.masked != 0)) corrections.push_back({candidate.unit, masked});
    }
    apply(segment, corrections);
  }

  void apply(const Segment& segment, std::span<const TopKCorrection> corrections) {
    if (corrections.empty()) return;
    job_.store.correct(segment.range, kept_bytes(segment), corrections);
    KeepMask& mask = masks_[static_cast<std::size_t>(segment.range.tensor)];
    for (const TopKCorrection& correction : corrections) {
      const std::int64_t unit = segment.range.begin + correction.unit;
      correction.masked ? mask.set_masked(unit) : mask.set_kept(unit);
    }
  }

  // --- when the sample misled
  // --------------------------------------------------------------------

  // Returns false when there are NaNs.
  bool count_exactly(std::int64_t k) {
    work_.bracket_missed = true;
    undo();
    for (Segment& segment : segments_) {
      Segment fresh;
      fresh.range = segment.range;
      fresh.flat = segment.flat;
      segment = std::move(fresh);
    }
    for (const std::int64_t t : ranking_.tensors) {
      KeepMask& mask = masks_[static_cast<std::size_t>(t)];
      mask = KeepMask(mask.units);
    }
    ranking_.eligible = 0;
    KeyHistogram counts =
        histogram([](std::uint32_t key) { return static_cast<std::int64_t>(key >> 16U); }, true);
    note_eligible();
    work_.passes += 1.0;
    if (nan_count_ > 0) return false;
    ranking_.masked = std::min(k, ranking_.eligible);
    if (ranking_.masked == 0) {
      stream({kBeforeAll, kBeforeAll, kBeforeAll});
      return true;
    }
    std::int64_t wanted = ranking_.masked;
    const auto high = static_cast<std::uint32_t>(boundary_bucket(counts, wanted));
    counts = histogram(
        [high](std::uint32_t key) {
          return key >> 16U == high ? static_cast<std::int64_t>(key & 0xFFFFU) : std::int64_t{-1};
        },
        false);
    const auto low = static_cast<std::uint32_t>(boundary_bucket(counts, wanted));
    const std::uint32_t threshold = (high << 16U) | low;
    ranking_.threshold = score_of_key(threshold);
    mask_above(threshold);
    work_.passes += 2.0;
    mask_first_ties(threshold, wanted);
    return true;
  }

  // counts[bucket(key)] over the eligible units; bucket -1: none.
  template <typename Bucket>
  KeyHistogram histogram(const Bucket& bucket, bool count_units) {
    return parallel_histogram(static_cast<std::int64_t>(segments_.size()), 1, kKeyBuckets,
                              [&](std::int64_t begin, std::int64_t end, KeyHistogram& own) {
                                const WindowPool::Lease window(job_.windows);
                                for (std::int64_t item = begin; item < end; ++item) {
                                  job_.check_cancelled();
                                  count_segment(segments_[static_cast<std::size_t>(item)], *window,
                                                bucket, count_units, own);
                                }
                              });
  }

  template <typename Bucket>
  void count_segment(Segment& segment, TopKWindow& window, const Bucket& bucket, bool count_units,
                     KeyHistogram& own) {
    Scores scores;
    for_each_block(
        segment, window, [&](std::int64_t first, std::int64_t count, const UnitData& data) {
          score_block(segment, first, count, data, scores);
          for (const float score : std::span(scores.data(), static_cast<std::size_t>(count))) {
            if (count_units) segment.nan_count += score != score ? 1 : 0;
            if (!(score > kNotEligible)) continue;
            if (count_units) ++segment.eligible;
            const std::int64_t place = bucket(score_key(score));
            if (place >= 0) ++own[static_cast<std::size_t>(place)];
          }
        });
  }

  // Masks every key above the threshold; counts those that equal it as
  // `inside`.
  void mask_above(std::uint32_t threshold) {
    const TopKMark above{threshold + 1U, kEverywhere};
    const TopKBracket bracket{{threshold, kEverywhere}, above, above};
    for_each_segment([&](std::int64_t item, TopKWindow& window) {
      Segment& segment = segments_[static_cast<std::size_t>(item)];
      segment.eligible = 0;
      thread_local TopKLists lists;
      list_segment(segment, window, bracket, lists);
      segment.masked = lists.certain();
      segment.inside = lists.inside_count();
      mask_listed(segment, window, lists);
    });
  }

  void mask_first_ties(std::uint32_t threshold, std::int64_t wanted) {
    std::vector<std::int64_t> quota(segments_.size(), 0);
    for (std::size_t i = 0; i < segments_.size() && wanted > 0; ++i) {
      quota[i] = std::min(wanted, segments_[i].inside);
      wanted -= quota[i];
      if (quota[i] > 0) {
        work_.passes +=
            static_cast<double>(segments_[i].units()) / static_cast<double>(ranking_.units);
      }
    }
    for_each_segment([&](std::int64_t item, TopKWindow& window) {
      std::int64_t left = quota[static_cast<std::size_t>(item)];
      if (left == 0) return;
      Segment& segment = segments_[static_cast<std::size_t>(item)];
      segment.masked += left;
      const float tie = score_of_key(threshold);
      std::vector<TopKCorrection> corrections;
      Scores scores;
      for_each_block(segment, window,
                     [&](std::int64_t first, std::int64_t count, const UnitData& data) {
                       if (left == 0) return;
                       score_block(segment, first, count, data, scores);
                       for (std::int64_t i = 0; i < count && left > 0; ++i) {
                         if (scores[static_cast<std::size_t>(i)] != tie) continue;
                         corrections.push_back({static_cast<std::uint32_t>(first + i), true});
                         --left;
                       }
                     });
      apply(segment, corrections);
    });
  }

  Job& job_;
  std::vector<KeepMask>& masks_;
  std::vector<Segment> segments_;
  Ranking ranking_;
  TopKBracket bracket_;
  TopKWork work_;
  std::int64_t nan_count_ = 0;
  bool given_up_ = false;
};

std::vector<std::int64_t> all_members(std::size_t tensors) {
  std::vector<std::int64_t> members(tensors);
  std::iota(members.begin(), members.end(), 0);
  return members;
}

// The tensors of each ranking and its k.
std::vector<std::pair<std::vector<std::int64_t>, std::int64_t>> plan(
    std::span<const TopKUnits> tensors, const TopKAmount& amount) {
  std::vector<std::pair<std::vector<std::int64_t>, std::int64_t>> rankings;
  if (amount.k) {
    FM_CHECK(*amount.k >= 0, ARGUMENT, "Expected 0 or more for k but received ", *amount.k);
    rankings.emplace_back(all_members(tensors.size()), *amount.k);
    return rankings;
  }
  [[maybe_unused]] const std::int64_t checked = ratio_to_k(amount.ratio, 0);
  std::vector<std::int64_t> groups;
  for (const TopKUnits& tensor : tensors) groups.push_back(tensor.group);
  for (std::vector<std::int64_t>& members : ranking_members(groups, amount.scope)) {
    std::int64_t units = 0;
    for (const std::int64_t t : members) units += tensors[static_cast<std::size_t>(t)].units;
    rankings.emplace_back(std::move(members), ratio_to_k(amount.ratio, units));
  }
  return rankings;
}

void report_nan(std::span<const TopKUnits> tensors, const std::vector<TopKRanker>& rankers) {
  std::vector<std::int64_t> nan_counts(tensors.size(), 0);
  for (const TopKRanker& ranker : rankers) {
    for (const Segment& segment : ranker.segments()) {
      nan_counts[static_cast<std::size_t>(segment.range.tensor)] += segment.nan_count;
    }
  }
  NanReport report;
  for (std::size_t t = 0; t < tensors.size(); ++t) report.add(tensors[t].name, nan_counts[t]);
  report.fail_if_any();
}

void take_result(std::vector<TopKRanker>& rankers, TopKResult& result) {
  for (const TopKRanker& ranker : rankers) {
    result.selection.rankings.push_back(ranker.ranking());
    result.selection.total_masked += ranker.ranking().masked;
    result.work.push_back(ranker.work());
    for (const Segment& segment : ranker.segments()) {
      result.selection.masked[static_cast<std::size_t>(segment.range.tensor)] += segment.masked;
    }
  }
}

}  // namespace

std::int64_t segment_units(std::int64_t elements_per_unit, const TopKTuning& tuning) {
  return std::max<std::int64_t>(tuning.segment_elements / elements_per_unit / 64 * 64, 8);
}

TopKResult rank_top_k(const ScoreProgram& program, const ScoreSettings& settings,
                      std::span<const TopKUnits> tensors, TopKStore& store,
                      const TopKAmount& amount, const TopKControl& control,
                      const TopKTuning& tuning) {
  FM_CHECK(tuning.run >= 1 && tuning.run <= TopKBlock::kMaxUnits, ARGUMENT, "Expected 1 to ",
           TopKBlock::kMaxUnits, " for the run of the sample but received ", tuning.run);
  Job job{program, settings, tensors, store, control, tuning};
  TopKResult result;
  for (const TopKUnits& tensor : tensors) {
    result.selection.masks.emplace_back(tensor.units);
    job.total_units += tensor.units;
  }
  result.selection.total_units = job.total_units;
  result.selection.masked.assign(tensors.size(), 0);
  auto rankings = plan(tensors, amount);
  std::vector<TopKRanker> rankers;
  rankers.reserve(rankings.size());
  try {
    bool numbers = true;
    for (auto& [members, k] : rankings) {
      rankers.emplace_back(job, std::move(members), result.selection.masks);
      numbers = rankers.back().run(k) && numbers;
    }
    if (!numbers) report_nan(tensors, rankers);
  } catch (...) {
    for (TopKRanker& ranker : rankers) ranker.undo();
    throw;
  }
  take_result(rankers, result);
  return result;
}

}  // namespace fishermask
