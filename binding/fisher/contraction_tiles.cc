// The fused tile kernel: squares of per-sample gradients of convolutions and sequence linears.
//
// A tile is (lanes x broadcasts) weights at one kernel position (kh, kw): lanes are 1 or 2 vectors
// of consecutive channels of one operand, broadcasts up to 8 consecutive channels of the other. For
// each sample the tile's gradient grows in registers over the valid positions (no im2col: only
// addresses), is squared and added to the tile's sum of squares, in registers too; after a chunk of
// at most 16 samples those go to f64, and after the batch to the caller's sums.
//
//            x …  lanes: δ[p, o0 … o0+31]          (or a, where its channels are more)
//   p = (y, x) →  broadcasts: a[p + (kh, kw), i0 … i0+5]
//
// A block is a range of lanes and a range of broadcasts, at all kernel positions: the item of
// parallel work. Its f64 totals and a chunk of its operands stay in the second-level cache while
// the batch streams through. Operands of many channels are copied chunk by chunk into panels, in
// which a tile's channels lie side by side: rows of a power of two apart would fall onto the same
// few cache lines.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "fisher/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "fisher/contraction_tiles.cc"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include "core/parallel.h"
#include "core/scratch.h"
#include "fisher/contraction.h"
#include "fisher/contraction_taps.h"
#include "fisher/contraction_tile.h"

HWY_BEFORE_NAMESPACE();
namespace fishermask {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVec = hn::Vec<FloatTag>;

// totals[(b·kVectors + v)·N + lane] += Σ over the pass's samples of G².
template <int kVectors, int kBroadcasts>
HWY_INLINE void tile_samples(const TilePass& pass, const float* lane_base, const float* bcast_base,
                             double* HWY_RESTRICT totals, Prefetcher& next) {
  constexpr int kSums = kVectors * kBroadcasts;
  const FloatTag d;
  const auto width = static_cast<std::int64_t>(hn::Lanes(d));
  FloatVec squares[kSums];
  for (int i = 0; i < kSums; ++i) squares[i] = hn::Zero(d);
  for (std::int64_t n = 0; n < pass.samples; ++n) {
    FloatVec sum[kSums];
    for (int i = 0; i < kSums; ++i) sum[i] = hn::Zero(d);
    for (std::int64_t y = 0; y < pass.rows; ++y) {
      const float* lane = lane_base + n * pass.lane_sample + y * pass.lane_row;
      const float* bcast = bcast_base + n * pass.bcast_sample + y * pass.bcast_row;
      for (std::int64_t x = 0; x < pass.cols; ++x) {
        if (x % kPrefetchPositions == 0) next.advance();
        FloatVec a[kVectors];
        for (int v = 0; v < kVectors; ++v) a[v] = hn::LoadU(d, lane + v * width);
#pragma GCC unroll 16
        for (int b = 0; b < kBroadcasts; ++b) {
          const FloatVec value = hn::Set(d, bcast[b]);
          for (int v = 0; v < kVectors; ++v) {
            sum[b * kVectors + v] = hn::MulAdd(a[v], value, sum[b * kVectors + v]);
          }
        }
        lane += pass.lane_col;
        bcast += pass.bcast_col;
      }
    }
    for (int i = 0; i < kSums; ++i) squares[i] = hn::MulAdd(sum[i], sum[i], squares[i]);
  }
  HWY_ALIGN float rounded[std::size_t{kSums} * HWY_MAX_BYTES / sizeof(float)];
  for (int i = 0; i < kSums; ++i) hn::Store(squares[i], d, rounded + i * width);
  for (std::int64_t i = 0; i < kSums * width; ++i) totals[i] += static_cast<double>(rounded[i]);
}

template <int kVectors>
HWY_INLINE void tile_of_width(std::int64_t broadcasts, const TilePass& pass, const float* lane,
                              const float* bcast, double* totals, Prefetcher& next) {
  switch (broadcasts) {
    case 8:
      return tile_samples<kVectors, 8>(pass, lane, bcast, totals, next);
    case 7:
      return tile_samples<kVectors, 7>(pass, lane, bcast, totals, next);
    case 6:
      return tile_samples<kVectors, 6>(pass, lane, bcast, totals, next);
    case 5:
      return tile_samples<kVectors, 5>(pass, lane, bcast, totals, next);
    case 4:
      return tile_samples<kVectors, 4>(pass, lane, bcast, totals, next);
    case 3:
      return tile_samples<kVectors, 3>(pass, lane, bcast, totals, next);
    case 2:
      return tile_samples<kVectors, 2>(pass, lane, bcast, totals, next);
    default:
      return tile_samples<kVectors, 1>(pass, lane, bcast, totals, next);
  }
}

HWY_ATTR void run_tile(const TileShape& shape, const TilePass& pass, const float* lane,
                       const float* bcast, double* totals, Prefetcher& next) {
  if (shape.vectors == 2) {
    tile_of_width<2>(shape.broadcasts, pass, lane, bcast, totals, next);
  } else {
    tile_of_width<1>(shape.broadcasts, pass, lane, bcast, totals, next);
  }
}

std::int64_t vector_width() { return static_cast<std::int64_t>(hn::Lanes(FloatTag())); }

// One row of a run of panels: `width` floats each.
template <std::int64_t kWidth>
HWY_INLINE void pack_row(const float* from, std::int64_t panels, std::int64_t panel_step,
                         float* to) {
  for (std::int64_t p = 0; p < panels; ++p) {
    std::memcpy(to + p * panel_step, from + p * kWidth, kWidth * sizeof(float));
  }
}

HWY_INLINE void pack_row_any(const float* from, std::int64_t width, std::int64_t panels,
                             std::int64_t panel_step, float* to) {
  for (std::int64_t p = 0; p < panels; ++p) {
    for (std::int64_t c = 0; c < width; ++c) to[p * panel_step + c] = from[p * width + c];
  }
}

// Row after row, so that each row of the operand is read once and in one go.
HWY_ATTR void pack(const float* from, std::int64_t step, std::int64_t rows, const PanelRun& run,
                   float* to) {
  for (std::int64_t r = 0; r < rows; ++r, from += step, to += run.width) {
    switch (run.count) {
      case 32:
        pack_row<32>(from, run.panels, run.panel_step, to);
        break;
      case 16:
        pack_row<16>(from, run.panels, run.panel_step, to);
        break;
      case 8:
        pack_row<8>(from, run.panels, run.panel_step, to);
        break;
      default:
        pack_row_any(from, run.count, run.panels, run.panel_step, to);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace fishermask
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fishermask {
namespace {

HWY_EXPORT(run_tile);
HWY_EXPORT(vector_width);
HWY_EXPORT(pack);

// A chunk has so many positions (and one sample at the least): f64 is reached before the squares
// in f32 lose digits, and a panel of lanes stays in the first-level cache.
constexpr std::int64_t kChunkPositions = 256;
constexpr std::int64_t kChunkSamples = 16;
// Weights of a block: 8 bytes each beside the panels in a second-level cache of 1 MiB.
constexpr std::int64_t kBlockWeights = 48 << 10;
constexpr std::int64_t kLineDoubles = 64 / sizeof(double);
constexpr std::int64_t kMostLanes = 256;
// Broadcasts of a panel: one cache line.
constexpr std::int64_t kPanelBroadcasts = 16;
// From so many positions on, a tile is as large as its sums allow; below, its squares must stay in
// registers too.
constexpr std::int64_t kLongPositions = 32;
// Operands of at most so many channels are read where they lie.
constexpr std::int64_t kDirectChannels = 32;

std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Channels [first, first + count), inside their group.
struct Range {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

// `count` channels in parts as equal as can be, the larger ones first, none larger than `most`.
std::vector<Range> split(Range whole, std::int64_t most) {
  const std::int64_t parts = std::max<std::int64_t>(ceil_divide(whole.count, most), 1);
  std::vector<Range> ranges;
  std::int64_t begin = whole.first;
  for (std::int64_t i = 0; i < parts; ++i) {
    const std::int64_t count = whole.count / parts + (i < whole.count % parts ? 1 : 0);
    ranges.push_back({begin, count});
    begin += count;
  }
  return ranges;
}

// Whole steps of `most`, the last one smaller.
std::vector<Range> steps(Range whole, std::int64_t most) {
  std::vector<Range> ranges;
  for (std::int64_t begin = 0; begin < whole.count; begin += most) {
    ranges.push_back({whole.first + begin, std::min(most, whole.count - begin)});
  }
  return ranges;
}

// δ or a: rows of `channels` floats, one per position.
struct Operand {
  const float* data = nullptr;
  std::int64_t channels = 1;
  std::int64_t per_group = 1;
  std::int64_t positions = 1;  // per sample
};

// The whole problem: which operand runs along the vectors, and what all blocks share.
struct Problem {
  explicit Problem(const ContractionForm& f)
      : form(f),
        lanes_are_outputs(f.out_channels >= f.in_channels),
        output{f.grad_output, f.out_channels, f.out_channels / f.groups,
               f.out_height * f.out_width},
        input{f.input, f.in_channels, f.in_channels / f.groups, f.in_height * f.in_width},
        taps(contraction_taps(f)),
        width(HWY_DYNAMIC_DISPATCH(vector_width)()),
        chunk(std::clamp<std::int64_t>(
            kChunkPositions / std::max<std::int64_t>(output.positions, 1), 1, kChunkSamples)) {}

  [[nodiscard]] const Operand& lanes() const { return lanes_are_outputs ? output : input; }
  [[nodiscard]] const Operand& broadcasts() const { return lanes_are_outputs ? input : output; }
  // Of a tile.
  [[nodiscard]] std::int64_t most_broadcasts() const {
    const bool short_sums = output.positions < kLongPositions && lanes().per_group > width;
    return short_sums ? kMostBroadcastsOfShort : kMostBroadcasts;
  }

  const ContractionForm& form;
  bool lanes_are_outputs;
  Operand output, input;
  std::vector<Tap> taps;
  std::int64_t width;
  std::int64_t chunk;  // samples
};

// Runs of channels of an operand as the tiles read them: in place, or copied chunk by chunk.
class Panels {
 public:
  // vector: lanes are padded with zeros to whole vectors of so many floats; 1: not padded.
  Panels(const Operand& operand, std::int64_t group, std::vector<Range> ranges, std::int64_t vector,
         std::int64_t chunk)
      : operand_(operand),
        offset_(group * operand.per_group),
        ranges_(std::move(ranges)),
        rows_(chunk * operand.positions) {
    std::int64_t size = 0;
    direct_ = operand.channels <= kDirectChannels;
    for (const Range& range : ranges_) {
      widths_.push_back(ceil_divide(range.count, vector) * vector);
      starts_.push_back(size);
      size += widths_.back() * rows_;
      direct_ = direct_ && widths_.back() == range.count;
    }
    if (!direct_) floats_ = ceil_divide(size, Prefetcher::kLine) * Prefetcher::kLine;
  }

  // What the copies take, a whole number of cache lines.
  [[nodiscard]] std::int64_t floats() const { return floats_; }
  // `memory` holds floats() and outlives the panels.
  void place(float* memory) {
    copy_ = memory;
    for (std::size_t i = 0; i < ranges_.size(); ++i) {
      const bool padded = widths_[i] != ranges_[i].count;
      if (padded && !direct_) std::fill_n(copy_ + starts_[i], widths_[i] * rows_, 0.0F);
    }
  }

  void load(std::int64_t first_sample, std::int64_t samples) {
    data_ = operand_.data + first_sample * operand_.positions * operand_.channels + offset_;
    if (direct_) return;
    // Panels of one width go together.
    for (std::size_t first = 0; first < ranges_.size();) {
      std::size_t last = first + 1;
      while (last < ranges_.size() && ranges_[last].count == ranges_[first].count) ++last;
      const PanelRun run{ranges_[first].count, widths_[first],
                         static_cast<std::int64_t>(last - first), widths_[first] * rows_};
      HWY_DYNAMIC_DISPATCH(pack)
      (data_ + ranges_[first].first, operand_.channels, samples * operand_.positions, run,
       copy_ + starts_[first]);
      first = last;
    }
  }

  // The rows that `load` of these samples reads.
  [[nodiscard]] Prefetcher::Rows rows(std::int64_t first_sample, std::int64_t samples) const {
    const std::int64_t first_row = first_sample * operand_.positions;
    const std::int64_t channels =
        ranges_.back().first + ranges_.back().count - ranges_.front().first;
    return {operand_.data + first_row * operand_.channels + offset_ + ranges_.front().first,
            operand_.channels, samples * operand_.positions,
            ceil_divide(channels, Prefetcher::kLine)};
  }

  [[nodiscard]] std::size_t size() const { return ranges_.size(); }
  [[nodiscard]] const Range& range(std::size_t panel) const { return ranges_[panel]; }
  [[nodiscard]] std::int64_t width(std::size_t panel) const { return widths_[panel]; }
  [[nodiscard]] const float* at(std::size_t panel, std::int64_t position) const {
    if (direct_) return data_ + position * operand_.channels + ranges_[panel].first;
    return copy_ + starts_[panel] + position * widths_[panel];
  }
  [[nodiscard]] std::int64_t step(std::size_t panel) const {
    return direct_ ? operand_.channels : widths_[panel];
  }
  [[nodiscard]] std::int64_t sample_step(std::size_t panel) const {
    return operand_.positions * step(panel);
  }

 private:
  const Operand& operand_;
  std::int64_t offset_;
  std::vector<Range> ranges_;
  std::int64_t rows_;  // of a panel
  bool direct_ = false;
  std::vector<std::int64_t> widths_, starts_;
  std::int64_t floats_ = 0;
  float* copy_ = nullptr;
  const float* data_ = nullptr;
};

struct BlockRange {
  std::int64_t group = 0;
  Range lanes, broadcasts, taps;
};

// One item of parallel work: a range of weights over the whole batch.
class Block {
 public:
  Block(const Problem& problem, const BlockRange& range)
      : problem_(problem),
        group_(range.group),
        first_tap_(range.taps.first),
        taps_(std::span(problem.taps)
                  .subspan(static_cast<std::size_t>(range.taps.first),
                           static_cast<std::size_t>(range.taps.count))),
        lanes_(problem.lanes(), group_, steps(range.lanes, 2 * problem.width), problem.width,
               problem.chunk),
        broadcasts_(problem.broadcasts(), group_, steps(range.broadcasts, kPanelBroadcasts), 1,
                    problem.chunk),
        bcast_count_(range.broadcasts.count) {
    for (std::size_t b = 0; b < broadcasts_.size(); ++b) {
      tiles_.push_back(split({0, broadcasts_.width(b)}, problem.most_broadcasts()));
    }
    std::int64_t size = 0;
    for (std::size_t l = 0; l < lanes_.size(); ++l) {
      lane_totals_.push_back(size);
      size += taps() * tap_step(l);
    }
    total_count_ = ceil_divide(size, kLineDoubles) * kLineDoubles;
    tile_calls_ = count_tile_calls();
    place();
  }

  void run(double* sums) {
    const std::int64_t batch = problem_.form.batch;
    for (std::int64_t n = 0; n < batch; n += problem_.chunk) {
      prefetch(n + problem_.chunk);
      run_chunk(n, std::min(problem_.chunk, batch - n));
    }
    for (std::size_t l = 0; l < lanes_.size(); ++l) add_totals(l, sums);
  }

 private:
  [[nodiscard]] std::int64_t taps() const { return static_cast<std::int64_t>(taps_.size()); }
  // Totals of one lane panel at one kernel position.
  [[nodiscard]] std::int64_t tap_step(std::size_t l) const {
    return lanes_.width(l) * bcast_count_;
  }

  // How often the tiles ask for the next lines to prefetch, per sample.
  [[nodiscard]] std::int64_t count_tile_calls() const {
    std::int64_t calls = 0;  // of one tile
    for (const Tap& tap : taps_) {
      calls += tap.rows * ceil_divide(tap.cols, kPrefetchPositions);
    }
    std::int64_t tile_count = 0;
    for (const std::vector<Range>& tiles : tiles_) {
      tile_count += static_cast<std::int64_t>(tiles.size());
    }
    return calls * tile_count * static_cast<std::int64_t>(lanes_.size());
  }

  // Totals first, then the panels: all begin on a cache line.
  void place() {
    const auto doubles = static_cast<std::int64_t>(sizeof(double));
    const auto floats = static_cast<std::int64_t>(sizeof(float));
    std::byte* memory =
        thread_scratch(total_count_ * doubles + (lanes_.floats() + broadcasts_.floats()) * floats);
    totals_ = reinterpret_cast<double*>(memory);
    std::fill_n(totals_, total_count_, 0.0);
    auto* copies = reinterpret_cast<float*>(memory + total_count_ * doubles);
    lanes_.place(copies);
    broadcasts_.place(copies + lanes_.floats());
  }

  void prefetch(std::int64_t first) {
    const std::int64_t samples = std::min(problem_.chunk, problem_.form.batch - first);
    if (samples <= 0) return next_.begin({}, {}, 1);
    next_.begin(lanes_.rows(first, samples), broadcasts_.rows(first, samples),
                std::max<std::int64_t>(tile_calls_ * samples, 1));
  }

  void run_chunk(std::int64_t first, std::int64_t samples) {
    lanes_.load(first, samples);
    broadcasts_.load(first, samples);
    for (std::size_t l = 0; l < lanes_.size(); ++l) {
      double* totals = totals_ + lane_totals_[l];
      for (const Tap& tap : taps_) {
        if (tap.rows > 0 && tap.cols > 0) run_tap(tap, samples, l, totals);
        totals += tap_step(l);
      }
    }
  }

  void run_tap(const Tap& tap, std::int64_t samples, std::size_t l, double* totals) {
    const Walk& lane_walk = problem_.lanes_are_outputs ? tap.output : tap.input;
    const Walk& bcast_walk = problem_.lanes_are_outputs ? tap.input : tap.output;
    TilePass pass;
    pass.samples = samples;
    pass.rows = tap.rows;
    pass.cols = tap.cols;
    pass.lane_row = lane_walk.row * lanes_.step(l);
    pass.lane_col = lane_walk.col * lanes_.step(l);
    pass.lane_sample = lanes_.sample_step(l);
    for (std::size_t b = 0; b < broadcasts_.size(); ++b) {
      pass.bcast_row = bcast_walk.row * broadcasts_.step(b);
      pass.bcast_col = bcast_walk.col * broadcasts_.step(b);
      pass.bcast_sample = broadcasts_.sample_step(b);
      const float* bcast = broadcasts_.at(b, bcast_walk.start);
      for (const Range& tile : tiles_[b]) {
        const TileShape shape{lanes_.width(l) / problem_.width, tile.count};
        HWY_DYNAMIC_DISPATCH(run_tile)
        (shape, pass, lanes_.at(l, lane_walk.start), bcast + tile.first, totals, next_);
        totals += lanes_.width(l) * tile.count;
      }
    }
  }

  // Eight lanes at a time, a cache line of totals.
  void add_totals(std::size_t l, double* sums) const {
    constexpr std::int64_t kLanes = 8;
    const Range& lanes = lanes_.range(l);
    for (std::int64_t lane = 0; lane < lanes.count; lane += kLanes) {
      const std::int64_t count = std::min(kLanes, lanes.count - lane);
      const double* at = totals_ + lane_totals_[l] + lane;
      for (std::int64_t b = 0; b < bcast_count_; ++b, at += lanes_.width(l)) {
        add_lanes(at, tap_step(l), count, lanes.first + lane, broadcasts_.range(0).first + b, sums);
      }
    }
  }

  // totals (taps, `step` apart) of `count` lanes.
  void add_lanes(const double* totals, std::int64_t step, std::int64_t count, std::int64_t lane,
                 std::int64_t bcast, double* sums) const {
    double* to = sums + flat_index(lane, bcast);
    const auto tap_count = static_cast<std::int64_t>(problem_.taps.size());
    const std::int64_t lane_step =
        problem_.lanes_are_outputs ? problem_.input.per_group * tap_count : tap_count;
    for (std::int64_t t = 0; t < taps(); ++t) {
      for (std::int64_t i = 0; i < count; ++i) to[i * lane_step + t] += totals[t * step + i];
    }
  }

  // Of the weight at the block's first kernel position.
  [[nodiscard]] std::int64_t flat_index(std::int64_t lane, std::int64_t bcast) const {
    const std::int64_t in = problem_.input.per_group;
    const std::int64_t o =
        group_ * problem_.output.per_group + (problem_.lanes_are_outputs ? lane : bcast);
    const std::int64_t i = problem_.lanes_are_outputs ? bcast : lane;
    return (o * in + i) * static_cast<std::int64_t>(problem_.taps.size()) + first_tap_;
  }

  const Problem& problem_;
  std::int64_t group_;
  std::int64_t first_tap_;
  std::span<const Tap> taps_;
  Panels lanes_, broadcasts_;
  Prefetcher next_;
  std::vector<std::vector<Range>> tiles_;  // by broadcast panel
  std::int64_t bcast_count_;
  std::vector<std::int64_t> lane_totals_;  // where each lane panel begins in totals_
  std::int64_t total_count_ = 0;
  std::int64_t tile_calls_ = 0;  // per sample
  double* totals_ = nullptr;     // by lane panel, kernel position, broadcast, lane
};

// How many channels and kernel positions a block has at most.
struct BlockSize {
  std::int64_t lanes = 1, broadcasts = 1, taps = 1;
};

std::int64_t block_count(const Problem& problem, const BlockSize& most) {
  return problem.form.groups * ceil_divide(problem.lanes().per_group, most.lanes) *
         ceil_divide(problem.broadcasts().per_group, most.broadcasts) *
         ceil_divide(static_cast<std::int64_t>(problem.taps.size()), most.taps);
}

// One part more, none smaller than `least`; false where there is nothing left to cut.
bool cut(std::int64_t whole, std::int64_t least, std::int64_t& most) {
  if (most <= least) return false;
  most = std::max(std::min(ceil_divide(whole, ceil_divide(whole, most) + 1), most - 1), least);
  return true;
}

// Blocks that fit the cache; few ones are a multiple of the threads, so that all of them are busy
// to the end. How the weights are cut changes no sum.
BlockSize block_size(const Problem& problem) {
  const std::int64_t lanes = problem.lanes().per_group;
  const std::int64_t bcasts = problem.broadcasts().per_group;
  const auto taps = static_cast<std::int64_t>(problem.taps.size());
  const std::int64_t step = 2 * problem.width;
  const std::int64_t threads = thread_count();
  BlockSize most{std::min(taps > 1 ? kMostLanes / 2 : kMostLanes, ceil_divide(lanes, step) * step),
                 1, taps};
  const std::int64_t panels = kBlockWeights / (most.lanes * taps) / kPanelBroadcasts;
  most.broadcasts = std::min(std::max<std::int64_t>(panels, 1) * kPanelBroadcasts, bcasts);
  while (block_count(problem, most) < 8 * threads && block_count(problem, most) % threads != 0) {
    if (cut(bcasts, kMostBroadcasts, most.broadcasts)) continue;
    if (most.lanes > step) {
      most.lanes -= step;
    } else if (!cut(taps, 1, most.taps)) {
      break;
    }
  }
  return most;
}

std::vector<BlockRange> make_blocks(const Problem& problem) {
  const BlockSize most = block_size(problem);
  const auto taps = static_cast<std::int64_t>(problem.taps.size());
  std::vector<BlockRange> blocks;
  for (std::int64_t group = 0; group < problem.form.groups; ++group) {
    for (const Range& lanes : steps({0, problem.lanes().per_group}, most.lanes)) {
      for (const Range& bcasts : split({0, problem.broadcasts().per_group}, most.broadcasts)) {
        for (const Range& tap_range : split({0, taps}, most.taps)) {
          blocks.push_back({group, lanes, bcasts, tap_range});
        }
      }
    }
  }
  return blocks;
}

}  // namespace

void accumulate_contraction_tiles(const ContractionForm& form, double* sums) {
  const Problem problem(form);
  const std::vector<BlockRange> blocks = make_blocks(problem);
  parallel_items(static_cast<std::int64_t>(blocks.size()), [&](std::int64_t i) {
    Block(problem, blocks[static_cast<std::size_t>(i)]).run(sums);
  });
}

}  // namespace fishermask
#endif  // HWY_ONCE
