// conv_gather: dest (positions, columns) = gathered source (positions, depth) · packed weights
// (depth, columns) for each group, depth = (tap, source channel): an implicit GEMM.
//
// A block owns 128 positions and 16 to 128 columns. The gathered rows are copied to shared memory
// by cp.async, 16 bytes at a time where the channels of a group are a multiple of 4, else 4; what
// lies in the padding or beyond the depth arrives as zeros. Three stages: two tiles are on their
// way while one is multiplied (conv_tile.cuh).
// Where positions and columns are too few to fill the device, the depth is split over blocks too;
// a second launch adds the splits in order.
// Shapes:     source (N, rows.source, columns.source, C), dest (N, rows.dest, columns.dest, D).
// Workspace:  where the depth is split, scratch: dest once per split. The packed weights are the
//             caller's.
// Deterministic: yes, on one kind of device: whether the depth is split follows from the sizes and
//             the device's processors.
// Bound by:   arithmetic where columns fill a tile; by memory for few channels.
#include "common/launch.cuh"
#include "ops/conv_gather.h"
#include "ops/conv_tile.cuh"

namespace fishermask::cuda {
namespace {

// Not measured on a GPU: no split where there are blocks for half of the processors; else as many
// as fill them twice, and none so short that its partial sums cost more than its products.
struct GatherSplitTuning {
  static constexpr std::int64_t kBlocksPerProcessor = 2;
  static constexpr std::int64_t kLeastDepth = 256;
  static constexpr std::int64_t kMostPartial = std::int64_t{64} << 20;
};

constexpr int kOutside = -(1 << 29);  // a source position that no tap brings inside

// z counts groups, then splits.
__device__ __forceinline__ int group_of_block(const ConvGather& p) {
  return static_cast<int>(blockIdx.z) % p.groups;
}
__device__ __forceinline__ int split_of_block(const ConvGather& p) {
  return static_cast<int>(blockIdx.z) / p.groups;
}

// What the block knows of its 128 positions, in shared memory.
struct RowPlaces {
  SharedArray<int> row, column;  // of the source, before the tap's offset
  SharedArray<int> first;        // source position of the sample's first
  SharedArray<int> dest;         // destination position; -1: none
};

__device__ __forceinline__ int dest_of(const ConvGather& p, const GridPosition& at) {
  return (at.sample * p.rows.dest + p.rows.dest_first + at.row * p.rows.dest_step) *
             p.columns.dest +
         p.columns.dest_first + at.column * p.columns.dest_step;
}

__device__ __forceinline__ void find_places(const ConvGather& p, const RowPlaces& places,
                                            int tile_rows) {
  const auto r = static_cast<int>(threadIdx.x);
  if (r >= tile_rows) return;
  const std::int64_t position = std::int64_t{blockIdx.x} * tile_rows + r;
  if (position >= p.positions) {
    places.row[r] = kOutside, places.column[r] = kOutside;
    places.first[r] = 0, places.dest[r] = -1;
    return;
  }
  const GridPosition at =
      grid_position(static_cast<int>(position), p.rows.positions * p.columns.positions,
                    p.columns.positions, p.by_sample, p.by_row);
  places.row[r] = at.row * p.rows.step;
  places.column[r] = at.column * p.columns.step;
  places.first[r] = at.sample * p.rows.source * p.columns.source;
  places.dest[r] = dest_of(p, at);
}

// One place of the depth: which tap, and which channel of the group.
struct DepthPlace {
  int row, column;  // the tap's offset in the source
  int channel;
};
__device__ __forceinline__ DepthPlace depth_place(const ConvGather& p, int depth) {
  if (depth >= p.depth) return {kOutside, kOutside, 0};
  const int tap = p.by_source_channel(depth);
  const int tap_row = p.by_tap_column(tap);
  const int tap_column = tap - tap_row * p.columns.taps;
  return {p.rows.offset + tap_row * p.rows.offset_step,
          p.columns.offset + tap_column * p.columns.offset_step, depth - tap * p.source_per_group};
}

// kWidth floats at a time into A [depth/16][rows][16].
template <typename Tile, int kWidth>
__device__ __forceinline__ void load_rows(const ConvGather& p, const RowPlaces& places,
                                          SharedArray<float> a, int first_depth) {
  constexpr int kPieces = 16 / kWidth;  // of a row's 16 depths
  constexpr int kRowStep = Tile::kThreads / kPieces;
  const int thread = static_cast<int>(threadIdx.x);
  const int piece = thread % kPieces * kWidth;
  const int first_channel = group_of_block(p) * p.source_per_group;
#pragma unroll
  for (int sub = 0; sub < Tile::kDepth / 16; ++sub) {
    const DepthPlace at = depth_place(p, first_depth + sub * 16 + piece);
#pragma unroll 2
    for (int i = 0; i < Tile::kRows / kRowStep; ++i) {
      const int r = thread / kPieces + i * kRowStep;
      const int row = places.row[r] + at.row;
      const int column = places.column[r] + at.column;
      const bool inside =
          row >= 0 && row < p.rows.source && column >= 0 && column < p.columns.source;
      const int position = places.first[r] + row * p.columns.source + column;
      const std::int64_t offset =
          std::int64_t{position} * p.source_channels + first_channel + at.channel;
      const float* const from = p.source + (inside ? offset : 0);
      const int to = (sub * Tile::kRows + r) * 16 + piece;
      if constexpr (kWidth == 4) {
        cp_async16(a, to, from, inside);
      } else {
        cp_async4(a, to, from, inside);
      }
    }
  }
}

// B: [depth][columns] (f32) or [depth/16][columns][16]; padded, so nothing is checked.
template <typename Tile>
__device__ __forceinline__ void load_weights(const ConvGather& p, SharedArray<float> b,
                                             int first_depth) {
  constexpr int kFours = Tile::kDepth * Tile::kColumns / 4;
  const int first_column = static_cast<int>(blockIdx.y) * Tile::kColumns;
  const float* const packed =
      p.packed + std::int64_t{group_of_block(p)} * p.packed_depth * p.packed_columns;
#pragma unroll
  for (int i = 0; i < (kFours + Tile::kThreads - 1) / Tile::kThreads; ++i) {
    const int four = static_cast<int>(threadIdx.x) + i * Tile::kThreads;
    if (kFours % Tile::kThreads != 0 && four >= kFours) break;
    std::int64_t from;
    if constexpr (Tile::kMma) {
      const int column = four / 4 % Tile::kColumns;
      const int depth = four / (4 * Tile::kColumns) * 16 + four % 4 * 4;
      from = std::int64_t{first_column + column} * p.packed_depth + first_depth + depth;
    } else {
      const int column = four % (Tile::kColumns / 4) * 4;
      const int depth = four / (Tile::kColumns / 4);
      from = std::int64_t{first_depth + depth} * p.packed_columns + first_column + column;
    }
    cp_async16(b, four * 4, packed + from, true);
  }
}

// What a destination becomes: + bias, + what it was, + residual, then max(·, 0).
__device__ __forceinline__ float ended(const ConvGather& p, float sum, int channel,
                                       std::int64_t offset) {
  if (p.bias != nullptr) sum += p.bias[channel];
  if (p.add) sum += p.dest[offset];
  if (p.residual != nullptr) sum += p.residual[offset];
  return p.relu && sum < 0.0F ? 0.0F : sum;  // NaN passes through
}

template <int kWidth>
__device__ __forceinline__ void store(float* to, const float* values, int exist, bool vector) {
  if (vector) {
    if constexpr (kWidth == 4) {
      *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
    } else {
      *reinterpret_cast<float2*>(to) = make_float2(values[0], values[1]);
    }
    return;
  }
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    if (j < exist) to[j] = values[j];
  }
}

// kWidth sums of one position, from `column` of the group on.
template <int kWidth>
__device__ __forceinline__ void put(const ConvGather& p, const RowPlaces& places, int row,
                                    int column, const float* sums) {
  const int dest_position = places.dest[row];
  const int exist = p.dest_per_group - column;
  if (dest_position < 0 || exist <= 0) return;
  const int channel = group_of_block(p) * p.dest_per_group + column;
  if (p.partial != nullptr) {
    const std::int64_t position = std::int64_t{blockIdx.x} * ConvTuning::kRows + row;
    const std::int64_t line = std::int64_t{split_of_block(p)} * p.positions + position;
    store<kWidth>(p.partial + line * p.dest_channels + channel, sums, exist, p.vector_dest);
    return;
  }
  const std::int64_t offset = std::int64_t{dest_position} * p.dest_channels + channel;
  float values[kWidth];
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    values[j] = j < exist ? ended(p, sums[j], channel + j, offset + j) : 0.0F;
  }
  store<kWidth>(p.dest + offset, values, exist, p.vector_dest);
}

template <Precision kPrecision, int kColumns>
__global__ void __launch_bounds__(
    ConvTile<kPrecision, kColumns, TileLayout::kDepthInner>::kThreads,
    ConvTile<kPrecision, kColumns, TileLayout::kDepthInner>::kLeastBlocks)
    gather_kernel(const ConvGather p) {
  using Tile = ConvTile<kPrecision, kColumns, TileLayout::kDepthInner>;
  FM_DYNAMIC_SHARED(float, a, 0, Tile::kStages* Tile::kA);
  FM_DYNAMIC_SHARED(float, b, Tile::kBFirstByte, Tile::kStages* Tile::kB);
  FM_SHARED(int, place_row, Tile::kRows);
  FM_SHARED(int, place_column, Tile::kRows);
  FM_SHARED(int, place_first, Tile::kRows);
  FM_SHARED(int, place_dest, Tile::kRows);
  const RowPlaces places{place_row, place_column, place_first, place_dest};
  find_places(p, places, Tile::kRows);
  __syncthreads();

  typename Tile::Sums sums;
  Tile::clear(sums);
  const int tiles = (p.depth + Tile::kDepth - 1) / Tile::kDepth;
  const int first_tile = split_of_block(p) * p.tiles_per_split;
  const int last_tile =
      tiles - first_tile < p.tiles_per_split ? tiles : first_tile + p.tiles_per_split;
  const auto load = [&](int stage, int tile) {
    const int first_depth = (first_tile + tile) * Tile::kDepth;
    if (p.vector_source) {
      load_rows<Tile, 4>(p, places, a.from(stage * Tile::kA), first_depth);
    } else {
      load_rows<Tile, 1>(p, places, a.from(stage * Tile::kA), first_depth);
    }
    load_weights<Tile>(p, b.from(stage * Tile::kB), first_depth);
  };
  multiply_tiles<Tile>(a, b, last_tile - first_tile, load, sums);

  const int first_column = static_cast<int>(blockIdx.y) * Tile::kColumns;
  Tile::for_each(sums, [&](int row, int column, const float* values, auto width) {
    put<decltype(width)::value>(p, places, row, first_column + column, values);
  });
}

// The splits' sums, in order.
__global__ void add_gather_splits(const ConvGather p, int splits) {
  const std::int64_t count = std::int64_t{p.positions} * p.dest_channels;
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const auto position = static_cast<int>(i / p.dest_channels);
    const auto channel = static_cast<int>(i - std::int64_t{position} * p.dest_channels);
    float sum = 0.0F;
    for (int split = 0; split < splits; ++split) sum += p.partial[split * count + i];
    const GridPosition at = grid_position(position, p.rows.positions * p.columns.positions,
                                          p.columns.positions, p.by_sample, p.by_row);
    const std::int64_t offset = std::int64_t{dest_of(p, at)} * p.dest_channels + channel;
    p.dest[offset] = ended(p, sum, channel, offset);
  }
}

constexpr int kDirectThreads = 256;

// Threads along x take channels, along y positions.
__global__ void __launch_bounds__(kDirectThreads) gather_direct(const ConvGather p) {
  const int channel = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
  if (channel >= p.dest_channels) return;
  const int first_source = channel / p.dest_per_group * p.source_per_group;
  const int step = static_cast<int>(gridDim.x * blockDim.y);
  for (std::int64_t position = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
       position < p.positions; position += step) {
    const GridPosition at =
        grid_position(static_cast<int>(position), p.rows.positions * p.columns.positions,
                      p.columns.positions, p.by_sample, p.by_row);
    float sum = 0.0F;
    for (int j = 0; j < p.rows.taps; ++j) {
      const int row = at.row * p.rows.step + p.rows.offset + j * p.rows.offset_step;
      if (row < 0 || row >= p.rows.source) continue;
      const int line = (at.sample * p.rows.source + row) * p.columns.source;
      for (int k = 0; k < p.columns.taps; ++k) {
        const int column =
            at.column * p.columns.step + p.columns.offset + k * p.columns.offset_step;
        if (column < 0 || column >= p.columns.source) continue;
        const float* const from =
            p.source + std::int64_t{line + column} * p.source_channels + first_source;
        const float* const weight =
            p.packed +
            std::int64_t{(j * p.columns.taps + k) * p.source_per_group} * p.dest_channels + channel;
        for (int s = 0; s < p.source_per_group; ++s) {
          sum += from[s] * weight[std::int64_t{s} * p.dest_channels];
        }
      }
    }
    const std::int64_t offset = std::int64_t{dest_of(p, at)} * p.dest_channels + channel;
    p.dest[offset] = ended(p, sum, channel, offset);
  }
}

int tile_columns(Precision precision, int dest_per_group) {
  if (dest_per_group <= 16 && precision == Precision::kF32) return 16;
  if (dest_per_group <= 32) return 32;
  if (dest_per_group <= 64 || precision == Precision::kF32) return 64;
  return 128;
}

int rounded_up(int value, int to) { return (value + to - 1) / to * to; }

template <Precision kPrecision, int kColumns>
void launch_gather(cudaStream_t stream, const ConvGather& p, int splits) {
  using Tile = ConvTile<kPrecision, kColumns, TileLayout::kDepthInner>;
  const LaunchShape shape{
      dim3(static_cast<unsigned>((std::int64_t{p.positions} + Tile::kRows - 1) / Tile::kRows),
           static_cast<unsigned>((p.dest_per_group + kColumns - 1) / kColumns),
           static_cast<unsigned>(p.groups * splits)),
      dim3(Tile::kThreads), Tile::kSharedBytes};
  launch("conv_gather", stream, shape, gather_kernel<kPrecision, kColumns>, p);
}

template <Precision kPrecision>
void launch_gather_mma(cudaStream_t stream, const ConvGather& p, int splits) {
  switch (tile_columns(kPrecision, p.dest_per_group)) {
    case 32:
      return launch_gather<kPrecision, 32>(stream, p, splits);
    case 64:
      return launch_gather<kPrecision, 64>(stream, p, splits);
    default:
      return launch_gather<kPrecision, 128>(stream, p, splits);
  }
}

void launch_tiles(cudaStream_t stream, Precision precision, const ConvGather& p, int splits) {
  if (precision == Precision::kTf32) return launch_gather_mma<Precision::kTf32>(stream, p, splits);
  if (precision == Precision::kBf16) return launch_gather_mma<Precision::kBf16>(stream, p, splits);
  switch (tile_columns(precision, p.dest_per_group)) {
    case 16:
      return launch_gather<Precision::kF32, 16>(stream, p, splits);
    case 32:
      return launch_gather<Precision::kF32, 32>(stream, p, splits);
    default:
      return launch_gather<Precision::kF32, 64>(stream, p, splits);
  }
}

int tile_depth(Precision precision) {
  return precision == Precision::kF32 ? ConvTuning::kF32Depth : ConvTuning::kMmaDepth;
}

int choose_splits(const Backend& backend, Precision precision, const ConvGather& p) {
  const int columns = tile_columns(precision, p.dest_per_group);
  const std::int64_t blocks =
      ((std::int64_t{p.positions} + ConvTuning::kRows - 1) / ConvTuning::kRows) *
      ((p.dest_per_group + columns - 1) / columns) * p.groups;
  const std::int64_t processors = backend.device_info().processors;
  if (2 * blocks > processors) return 1;
  const std::int64_t bytes =
      std::int64_t{p.positions} * p.dest_channels * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t splits =
      std::min({GatherSplitTuning::kBlocksPerProcessor * processors / blocks,
                p.depth / GatherSplitTuning::kLeastDepth, GatherSplitTuning::kMostPartial / bytes});
  return static_cast<int>(std::max<std::int64_t>(splits, 1));
}

}  // namespace

PackOrder plan_gather(Precision precision, ConvGather& gather) {
  const bool f32 = precision == Precision::kF32;
  gather.packed_depth = rounded_up(gather.depth, tile_depth(precision));
  gather.packed_columns =
      rounded_up(gather.dest_per_group, tile_columns(precision, gather.dest_per_group));
  return f32 ? PackOrder::kDepthColumn : PackOrder::kColumnDepth;
}

void run_gather(Backend& backend, Precision precision, ConvGather gather) {
  if (gather.positions == 0) return;
  const int depth = tile_depth(precision);
  const int tiles = (gather.depth + depth - 1) / depth;
  int splits = choose_splits(backend, precision, gather);
  gather.tiles_per_split = (tiles + splits - 1) / splits;
  if (gather.tiles_per_split > 0)
    splits = (tiles + gather.tiles_per_split - 1) / gather.tiles_per_split;
  const std::int64_t count = std::int64_t{gather.positions} * gather.dest_channels;
  if (splits > 1) {
    gather.partial = reinterpret_cast<float*>(
        backend.scratch(splits * count * static_cast<std::int64_t>(sizeof(float))));
  }
  launch_tiles(backend.stream(), precision, gather, splits);
  if (splits == 1) return;
  launch("conv_gather_sum", backend.stream(), over(count), add_gather_splits, gather, splits);
}

void run_gather_direct(cudaStream_t stream, const ConvGather& gather) {
  if (gather.positions == 0) return;
  int lanes = 4;
  while (lanes < 32 && lanes < gather.dest_channels) lanes *= 2;
  const int high = kDirectThreads / lanes;
  const std::int64_t blocks = (std::int64_t{gather.positions} + high - 1) / high;
  const LaunchShape shape{dim3(static_cast<unsigned>(std::min(blocks, kMostBlocks)),
                               static_cast<unsigned>((gather.dest_channels + lanes - 1) / lanes)),
                          dim3(static_cast<unsigned>(lanes), static_cast<unsigned>(high)), 0};
  launch("conv_gather_direct", stream, shape, gather_direct, gather);
}

}  // namespace fishermask::cuda
