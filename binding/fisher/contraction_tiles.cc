// The fused tile kernel: squares of per-sample gradients of convolutions and sequence linears.
//
// A tile is (lanes × broadcasts) weights at one kernel position (kh, kw): lanes are 1 or 2 vectors
// of consecutive channels of one operand, broadcasts up to 8 consecutive channels of the other (16
// with one vector was no faster: 16->16 at 32x32, 178 against 179 GFLOP/s at a GEMM ceiling of 175
// to 188, two threads, 2026-11-23). For each sample the tile's gradient grows in registers over the
// valid positions (no im2col: only addresses), is squared and added to the tile's f32 partial sums;
// every 16 samples those go to f64, and after the batch to the caller's sums.
//
//            x …  lanes: δ[p, o0 … o0+31]          (or a, where its channels are more)
//   p = (y, x) →  broadcasts: a[p + (kh, kw), i0 … i0+7]
//
// Threads take blocks of tiles. A block's partial sums stay in cache while the batch streams
// through.
#include <algorithm>
#include <cstdint>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "fisher/contraction_tiles.cc"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include "core/parallel.h"
#include "fisher/contraction.h"
#include "fisher/contraction_tile.h"

HWY_BEFORE_NAMESPACE();
namespace fishermask {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVec = hn::Vec<FloatTag>;

template <bool kMasked>
HWY_INLINE FloatVec load_lanes(FloatTag d, const float* from, std::int64_t lanes) {
  if constexpr (kMasked) {
#if HWY_MEM_OPS_MIGHT_FAULT && HWY_TARGET != HWY_AVX2
    // Here MaskedLoad is a full, aligned load and a blend: it would fault past the array's end.
    HWY_ALIGN float safe[HWY_MAX_BYTES / sizeof(float)] = {};
    std::copy_n(from, std::min(lanes, static_cast<std::int64_t>(hn::Lanes(d))), safe);
    return hn::Load(d, safe);
#else
    return hn::MaskedLoad(hn::FirstN(d, static_cast<std::size_t>(lanes)), d, from);
#endif
  } else {
    return hn::LoadU(d, from);
  }
}

// partial[(v·N + lane) + b·(kVectors·N)] += G² of one sample.
template <int kVectors, int kBroadcasts, bool kMasked>
HWY_INLINE void tile_sample(const TilePass& pass, const float* lane_base, const float* bcast_base,
                            std::int64_t lanes, float* HWY_RESTRICT partial) {
  const FloatTag d;
  const auto width = static_cast<std::int64_t>(hn::Lanes(d));
  FloatVec sum[kVectors * kBroadcasts];
  for (int i = 0; i < kVectors * kBroadcasts; ++i) sum[i] = hn::Zero(d);
  for (std::int64_t y = 0; y < pass.rows; ++y) {
    const float* lane = lane_base + y * pass.lane_row;
    const float* bcast = bcast_base + y * pass.bcast_row;
    for (std::int64_t x = 0; x < pass.cols; ++x) {
      FloatVec a[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        a[v] = load_lanes<kMasked>(d, lane + v * width, lanes - v * width);
      }
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
  for (int i = 0; i < kVectors * kBroadcasts; ++i) {
    float* to = partial + i * width;
    hn::StoreU(hn::MulAdd(sum[i], sum[i], hn::LoadU(d, to)), d, to);
  }
}

template <int kVectors, int kBroadcasts>
HWY_INLINE void tile_any(const Tile& tile, const TilePass& pass, const float* lane,
                         const float* bcast, float* partial, std::int64_t width) {
  if (tile.lanes < kVectors * width) {
    tile_sample<kVectors, kBroadcasts, true>(pass, lane, bcast, tile.lanes, partial);
  } else {
    tile_sample<kVectors, kBroadcasts, false>(pass, lane, bcast, tile.lanes, partial);
  }
}

template <int kVectors>
HWY_INLINE void tile_of_width(const Tile& tile, const TilePass& pass, const float* lane,
                              const float* bcast, float* partial) {
  const auto width = static_cast<std::int64_t>(hn::Lanes(FloatTag()));
  switch (tile.broadcasts) {
    case 8:
      return tile_any<kVectors, 8>(tile, pass, lane, bcast, partial, width);
    case 4:
      return tile_any<kVectors, 4>(tile, pass, lane, bcast, partial, width);
    case 3:
      return tile_any<kVectors, 3>(tile, pass, lane, bcast, partial, width);
    case 2:
      return tile_any<kVectors, 2>(tile, pass, lane, bcast, partial, width);
    default:
      return tile_any<kVectors, 1>(tile, pass, lane, bcast, partial, width);
  }
}

HWY_ATTR void run_tile(const Tile& tile, const TilePass& pass, const float* lane,
                       const float* bcast, float* partial) {
  if (tile.vectors == 2) return tile_of_width<2>(tile, pass, lane, bcast, partial);
  tile_of_width<1>(tile, pass, lane, bcast, partial);
}

std::int64_t vector_width() { return static_cast<std::int64_t>(hn::Lanes(FloatTag())); }

}  // namespace HWY_NAMESPACE
}  // namespace fishermask
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fishermask {
namespace {

HWY_EXPORT(run_tile);
HWY_EXPORT(vector_width);

constexpr std::int64_t kFlushSamples = 16;
constexpr std::int64_t kBlockBytes = 192 << 10;
constexpr std::int64_t kBytesPerWeight = sizeof(float) + sizeof(double);

std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// The outputs along one axis whose window element k lies inside the image: [first, last).
struct ValidRange {
  std::int64_t first;
  std::int64_t last;
};
ValidRange valid_outputs(std::int64_t out, std::int64_t in, std::int64_t stride, std::int64_t pad,
                         std::int64_t offset) {
  const std::int64_t shift = offset - pad;  // in = out · stride + shift
  const std::int64_t first = shift >= 0 ? 0 : ceil_divide(-shift, stride);
  const std::int64_t last = in - shift <= 0 ? 0 : ceil_divide(in - shift, stride);
  return {std::min(first, out), std::max(std::min(last, out), std::min(first, out))};
}

// Where the tile's operands start in sample 0, and how they step.
TilePass tile_pass(const ContractionForm& f, const Tile& tile, bool lanes_are_outputs) {
  const ValidRange rows = valid_outputs(f.out_height, f.in_height, f.stride_height, f.pad_top,
                                        tile.kernel_row * f.dilation_height);
  const ValidRange cols = valid_outputs(f.out_width, f.in_width, f.stride_width, f.pad_left,
                                        tile.kernel_col * f.dilation_width);
  const std::int64_t in_row =
      rows.first * f.stride_height - f.pad_top + tile.kernel_row * f.dilation_height;
  const std::int64_t in_col =
      cols.first * f.stride_width - f.pad_left + tile.kernel_col * f.dilation_width;
  const std::int64_t group_out = tile.group * (f.out_channels / f.groups);
  const std::int64_t group_in = tile.group * (f.in_channels / f.groups);
  const std::int64_t out_start = (rows.first * f.out_width + cols.first) * f.out_channels +
                                 group_out + (lanes_are_outputs ? tile.lane : tile.broadcast);
  const std::int64_t in_start = (in_row * f.in_width + in_col) * f.in_channels + group_in +
                                (lanes_are_outputs ? tile.broadcast : tile.lane);
  const std::int64_t out_row_step = f.out_width * f.out_channels;
  const std::int64_t in_row_step = f.stride_height * f.in_width * f.in_channels;
  const std::int64_t in_col_step = f.stride_width * f.in_channels;
  TilePass pass;
  pass.rows = rows.last - rows.first;
  pass.cols = cols.last - cols.first;
  pass.lane_start = lanes_are_outputs ? out_start : in_start;
  pass.bcast_start = lanes_are_outputs ? in_start : out_start;
  pass.lane_row = lanes_are_outputs ? out_row_step : in_row_step;
  pass.bcast_row = lanes_are_outputs ? in_row_step : out_row_step;
  pass.lane_col = lanes_are_outputs ? f.out_channels : in_col_step;
  pass.bcast_col = lanes_are_outputs ? in_col_step : f.out_channels;
  return pass;
}

std::int64_t broadcast_step(std::int64_t left) {
  if (left >= 8) return 8;
  return left >= 4 ? 4 : left;
}

std::vector<Tile> make_tiles(const ContractionForm& f, bool lanes_are_outputs, std::int64_t width) {
  const std::int64_t out = f.out_channels / f.groups;
  const std::int64_t in = f.in_channels / f.groups;
  const std::int64_t lane_count = lanes_are_outputs ? out : in;
  const std::int64_t broadcast_count = lanes_are_outputs ? in : out;
  std::vector<Tile> tiles;
  for (std::int64_t group = 0; group < f.groups; ++group) {
    for (std::int64_t lane = 0; lane < lane_count;) {
      Tile tile;
      tile.group = group;
      tile.lane = lane;
      tile.vectors = lane_count - lane > width ? 2 : 1;
      tile.lanes = std::min(lane_count - lane, tile.vectors * width);
      for (tile.kernel_row = 0; tile.kernel_row < f.kernel_height; ++tile.kernel_row) {
        for (tile.kernel_col = 0; tile.kernel_col < f.kernel_width; ++tile.kernel_col) {
          for (tile.broadcast = 0; tile.broadcast < broadcast_count;
               tile.broadcast += tile.broadcasts) {
            tile.broadcasts = broadcast_step(broadcast_count - tile.broadcast);
            tiles.push_back(tile);
          }
        }
      }
      lane += tile.lanes;
    }
  }
  return tiles;
}

// One thread's work: a run of tiles over the whole batch.
class TileBlock {
 public:
  TileBlock(const ContractionForm& form, const Tile* tiles, std::int64_t count,
            bool lanes_are_outputs, std::int64_t width)
      : form_(form), tiles_(tiles), count_(count), lanes_are_outputs_(lanes_are_outputs) {
    std::int64_t size = 0;
    for (std::int64_t t = 0; t < count; ++t) {
      offsets_.push_back(size);
      passes_.push_back(tile_pass(form, tiles[t], lanes_are_outputs));
      size += tiles[t].vectors * width * tiles[t].broadcasts;
    }
    width_ = width;
    partial_.assign(static_cast<std::size_t>(size), 0.0F);
    total_.assign(static_cast<std::size_t>(size), 0.0);
  }

  void run(double* sums) {
    const std::int64_t out_sample = form_.out_height * form_.out_width * form_.out_channels;
    const std::int64_t in_sample = form_.in_height * form_.in_width * form_.in_channels;
    const float* lanes = lanes_are_outputs_ ? form_.grad_output : form_.input;
    const float* broadcasts = lanes_are_outputs_ ? form_.input : form_.grad_output;
    const std::int64_t lane_sample = lanes_are_outputs_ ? out_sample : in_sample;
    const std::int64_t bcast_sample = lanes_are_outputs_ ? in_sample : out_sample;
    for (std::int64_t n = 0; n < form_.batch; ++n) {
      for (std::int64_t t = 0; t < count_; ++t) {
        const auto index = static_cast<std::size_t>(t);
        const TilePass& pass = passes_[index];
        if (pass.rows <= 0 || pass.cols <= 0) continue;
        HWY_DYNAMIC_DISPATCH(run_tile)
        (tiles_[t], pass, lanes + n * lane_sample + pass.lane_start,
         broadcasts + n * bcast_sample + pass.bcast_start, partial_.data() + offsets_[index]);
      }
      if ((n + 1) % kFlushSamples == 0) flush();
    }
    flush();
    for (std::int64_t t = 0; t < count_; ++t) scatter(static_cast<std::size_t>(t), sums);
  }

 private:
  void flush() {
    for (std::size_t i = 0; i < partial_.size(); ++i) {
      total_[i] += static_cast<double>(partial_[i]);
      partial_[i] = 0.0F;
    }
  }

  void scatter(std::size_t t, double* sums) const {
    const Tile& tile = tiles_[t];
    const std::int64_t in = form_.in_channels / form_.groups;
    const std::int64_t out = form_.out_channels / form_.groups;
    const std::int64_t row = tile.vectors * width_;
    for (std::int64_t b = 0; b < tile.broadcasts; ++b) {
      for (std::int64_t l = 0; l < tile.lanes; ++l) {
        const std::int64_t o =
            tile.group * out + (lanes_are_outputs_ ? tile.lane + l : tile.broadcast + b);
        const std::int64_t i = lanes_are_outputs_ ? tile.broadcast + b : tile.lane + l;
        const std::int64_t index =
            ((o * in + i) * form_.kernel_height + tile.kernel_row) * form_.kernel_width +
            tile.kernel_col;
        sums[index] += total_[static_cast<std::size_t>(offsets_[t] + b * row + l)];
      }
    }
  }

  const ContractionForm& form_;
  const Tile* tiles_;
  std::int64_t count_;
  bool lanes_are_outputs_;
  std::int64_t width_ = 0;
  std::vector<std::int64_t> offsets_;
  std::vector<TilePass> passes_;
  std::vector<float> partial_;
  std::vector<double> total_;
};

}  // namespace

void accumulate_contraction_tiles(const ContractionForm& form, double* sums) {
  const std::int64_t width = HWY_DYNAMIC_DISPATCH(vector_width)();
  // Vectors run along the operand with more channels: a full vector wastes nothing.
  const bool lanes_are_outputs = form.out_channels >= form.in_channels;
  const std::vector<Tile> tiles = make_tiles(form, lanes_are_outputs, width);
  const auto tile_count = static_cast<std::int64_t>(tiles.size());
  const std::int64_t by_cache =
      std::max<std::int64_t>(kBlockBytes / (kBytesPerWeight * 16 * width), 1);
  // Enough blocks that the last ones to finish do not leave threads idle for long.
  const std::int64_t by_balance = ceil_divide(tile_count, std::int64_t{4} * thread_count());
  const std::int64_t per_block = std::max<std::int64_t>(std::min(by_cache, by_balance), 1);
  parallel_items(ceil_divide(tile_count, per_block), [&](std::int64_t block) {
    const std::int64_t first = block * per_block;
    TileBlock work(form, tiles.data() + first, std::min(per_block, tile_count - first),
                   lanes_are_outputs, width);
    work.run(sums);
  });
}

}  // namespace fishermask
#endif  // HWY_ONCE
