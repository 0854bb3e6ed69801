// conv_weights: for each group, partial (depth, columns) = gatheredᵀ (depth, positions) · grad y
// (positions, columns), depth = (tap, input channel), columns = output channels; positions are
// split over blocks, and the splits are added in order.
//
// A block owns 128 of the depth (it is the longer side for all but the first layer), 16 to 128
// columns and one split. Both operands are copied position by position, channels contiguous.
// Shapes:     x (N, H, W, I), grad y (N, H', W', O), grad W (O, I/groups, K_h, K_w).
// Workspace:  scratch: one grad W per split, at most kMostPartial bytes if there is more than one.
// Deterministic: yes, on one kind of device: how many splits there are follows from the sizes and
//             the device's processors.
// Bound by:   arithmetic where channels fill the tiles.
#include "common/launch.cuh"
#include "ops/conv_tile.cuh"
#include "ops/conv_weights.h"

namespace fishermask::cuda {
namespace {

// Not measured on a GPU: enough blocks to fill every processor four times, and no split so short
// that its partial sums cost more than its products.
struct SplitTuning {
  static constexpr std::int64_t kBlocksPerProcessor = 4;
  static constexpr std::int64_t kLeastPositions = 256;
  static constexpr std::int64_t kMostPartial = std::int64_t{128} << 20;
};

constexpr int kOutside = -(1 << 29);

// One place of the depth: which tap, and which channel of the group.
struct DepthPlace {
  int row, column;  // the tap's offset in the source
  int channel;
};
__device__ __forceinline__ DepthPlace depth_place(const ConvWeights& p, int depth) {
  if (depth >= p.depth) return {kOutside, kOutside, 0};
  const int tap = p.by_source_channel(depth);
  const int tap_row = p.by_tap_column(tap);
  const int tap_column = tap - tap_row * p.columns.taps;
  return {p.rows.offset + tap_row * p.rows.offset_step,
          p.columns.offset + tap_column * p.columns.offset_step, depth - tap * p.source_per_group};
}

struct SourcePlace {
  std::int64_t offset;
  bool inside;
};
__device__ __forceinline__ SourcePlace source_place(const ConvWeights& p, const DepthPlace& depth,
                                                    int first_channel, int position, int end) {
  if (position >= end) return {0, false};
  const GridPosition at = grid_position(position, p.rows.positions * p.columns.positions,
                                        p.columns.positions, p.by_sample, p.by_row);
  const int row = at.row * p.rows.step + depth.row;
  const int column = at.column * p.columns.step + depth.column;
  const bool inside = row >= 0 && row < p.rows.source && column >= 0 && column < p.columns.source;
  if (!inside) return {0, false};
  const int source = (at.sample * p.rows.source + row) * p.columns.source + column;
  return {std::int64_t{source} * p.source_channels + first_channel + depth.channel, true};
}

// A [positions][depth], kWidth floats at a time. depth: this thread's place, the same for all
// positions.
template <typename Tile, int kWidth>
__device__ __forceinline__ void load_source(const ConvWeights& p, const DepthPlace& depth,
                                            SharedArray<float> a, int first, int end) {
  constexpr int kLanes = Tile::kRows / kWidth;
  constexpr int kStep = Tile::kThreads / kLanes;
  const int thread = static_cast<int>(threadIdx.x);
  const int first_channel = static_cast<int>(blockIdx.z) * p.source_per_group;
#pragma unroll 2
  for (int i = 0; i < Tile::kDepth / kStep; ++i) {
    const int k = thread / kLanes + i * kStep;
    const SourcePlace at = source_place(p, depth, first_channel, first + k, end);
    const int to = k * Tile::kAStride + thread % kLanes * kWidth;
    if constexpr (kWidth == 4) {
      cp_async16(a, to, p.source + at.offset, at.inside);
    } else {
      cp_async4(a, to, p.source + at.offset, at.inside);
    }
  }
}

// B [positions][columns].
template <typename Tile, int kWidth>
__device__ __forceinline__ void load_grad(const ConvWeights& p, SharedArray<float> b,
                                          int first_column, int first, int end) {
  constexpr int kLanes = Tile::kColumns / kWidth;
  constexpr int kPieces = Tile::kDepth * kLanes;
  const int first_channel = static_cast<int>(blockIdx.z) * p.grad_per_group;
#pragma unroll 2
  for (int i = 0; i < (kPieces + Tile::kThreads - 1) / Tile::kThreads; ++i) {
    const int piece = static_cast<int>(threadIdx.x) + i * Tile::kThreads;
    if (kPieces % Tile::kThreads != 0 && piece >= kPieces) break;
    const int k = piece / kLanes;
    const int column = piece % kLanes * kWidth;
    const bool inside = first + k < end && first_column + column < p.grad_per_group;
    const std::int64_t offset =
        std::int64_t{first + k} * p.grad_channels + first_channel + first_column + column;
    const float* const from = p.grad + (inside ? offset : 0);
    const int to = k * Tile::kBStride + column;
    if constexpr (kWidth == 4) {
      cp_async16(b, to, from, inside);
    } else {
      cp_async4(b, to, from, inside);
    }
  }
}

template <Precision kPrecision, int kColumns>
__global__ void __launch_bounds__(
    ConvTile<kPrecision, kColumns, TileLayout::kDepthOuter>::kThreads,
    ConvTile<kPrecision, kColumns, TileLayout::kDepthOuter>::kLeastBlocks)
    weights_kernel(const ConvWeights p) {
  using Tile = ConvTile<kPrecision, kColumns, TileLayout::kDepthOuter>;
  FM_DYNAMIC_SHARED(float, a, 0, Tile::kStages* Tile::kA);
  FM_DYNAMIC_SHARED(float, b, Tile::kBFirstByte, Tile::kStages* Tile::kB);
  const int column_tiles = (p.grad_per_group + kColumns - 1) / kColumns;
  const int first_row = static_cast<int>(blockIdx.x) / column_tiles * Tile::kRows;
  const int first_column = static_cast<int>(blockIdx.x) % column_tiles * kColumns;
  const int begin = static_cast<int>(blockIdx.y) * p.per_split;
  const int end = p.positions - begin < p.per_split ? p.positions : begin + p.per_split;
  const int thread = static_cast<int>(threadIdx.x);
  const DepthPlace depth = depth_place(
      p, first_row + (p.vector_source ? thread % (Tile::kRows / 4) * 4 : thread % Tile::kRows));

  typename Tile::Sums sums;
  Tile::clear(sums);
  const auto load = [&](int stage, int tile) {
    const int first = begin + tile * Tile::kDepth;
    if (p.vector_source) {
      load_source<Tile, 4>(p, depth, a.from(stage * Tile::kA), first, end);
    } else {
      load_source<Tile, 1>(p, depth, a.from(stage * Tile::kA), first, end);
    }
    if (p.vector_grad) {
      load_grad<Tile, 4>(p, b.from(stage * Tile::kB), first_column, first, end);
    } else {
      load_grad<Tile, 1>(p, b.from(stage * Tile::kB), first_column, first, end);
    }
  };
  multiply_tiles<Tile>(a, b, (end - begin + Tile::kDepth - 1) / Tile::kDepth, load, sums);

  float* const partial =
      p.partial + (std::int64_t{blockIdx.y} * p.groups + blockIdx.z) * p.depth * p.grad_per_group;
  Tile::for_each(sums, [&](int row, int column, const float* values, auto width) {
#pragma unroll
    for (int j = 0; j < decltype(width)::value; ++j) {
      const int o = first_column + column + j;
      if (first_row + row < p.depth && o < p.grad_per_group) {
        partial[std::int64_t{first_row + row} * p.grad_per_group + o] = values[j];
      }
    }
  });
}

constexpr int kDirectLanes = 32;
constexpr int kDirectHigh = 8;

// One (tap, channel of the group) for 32 output channels: 8 threads a channel share the positions.
__global__ void __launch_bounds__(kDirectLanes* kDirectHigh) weights_direct(const ConvWeights p) {
  FM_SHARED(float, parts, kDirectLanes* kDirectHigh);
  const int lane = static_cast<int>(threadIdx.x);
  const int high = static_cast<int>(threadIdx.y);
  const int o = static_cast<int>(blockIdx.z) * kDirectLanes + lane;
  const int begin = static_cast<int>(blockIdx.x) * p.per_split;
  const int end = p.positions - begin < p.per_split ? p.positions : begin + p.per_split;
  const DepthPlace depth = depth_place(p, static_cast<int>(blockIdx.y));
  const bool exists = o < p.grad_channels;
  const int first_channel = o / p.grad_per_group * p.source_per_group;
  float sum = 0.0F;
  for (int position = begin + high; exists && position < end; position += kDirectHigh) {
    const SourcePlace at = source_place(p, depth, first_channel, position, end);
    if (!at.inside) continue;
    sum += p.grad[std::int64_t{position} * p.grad_channels + o] * p.source[at.offset];
  }
  parts[high * kDirectLanes + lane] = sum;
  __syncthreads();
  if (high != 0 || !exists) return;
  for (int j = 1; j < kDirectHigh; ++j) sum += parts[j * kDirectLanes + lane];
  const int group = o / p.grad_per_group;
  p.partial[((std::int64_t{blockIdx.x} * p.groups + group) * p.depth + blockIdx.y) *
                p.grad_per_group +
            o % p.grad_per_group] = sum;
}

// grad W (O, I/groups, taps) += the partial sums of all splits, in order.
__global__ void add_splits(const ConvWeights p, int splits, float* grad_weight) {
  const std::int64_t count = std::int64_t{p.groups} * p.depth * p.grad_per_group;
  const int taps = p.rows.taps * p.columns.taps;
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    double sum = 0.0;
    for (int split = 0; split < splits; ++split) sum += p.partial[split * count + i];
    const int o = static_cast<int>(i % p.grad_per_group);
    const std::int64_t rest = i / p.grad_per_group;
    const int depth = static_cast<int>(rest % p.depth);
    const std::int64_t out = rest / p.depth * p.grad_per_group + o;
    const int tap = depth / p.source_per_group;
    const int in = depth - tap * p.source_per_group;
    grad_weight[(out * p.source_per_group + in) * taps + tap] += static_cast<float>(sum);
  }
}

// Whether a block may take as much shared memory as the widest tile wants (102 KiB): not on the
// smaller devices of a generation (8.6, 8.9, 12.0), whose blocks have 99.
bool has_wide_shared_memory(const DeviceInfo& info) {
  switch (info.compute_capability) {
    case 80:
    case 87:
    case 90:
    case 100:
    case 103:
      return true;
    default:
      return false;
  }
}

int tile_columns(Precision precision, int columns, bool wide) {
  if (columns <= 16 && precision == Precision::kF32) return 16;
  if (columns <= 32) return 32;
  if (columns <= 64 || precision == Precision::kF32 || !wide) return 64;
  return 128;
}

template <Precision kPrecision, int kColumns>
void launch_weights(cudaStream_t stream, const ConvWeights& p, int splits) {
  using Tile = ConvTile<kPrecision, kColumns, TileLayout::kDepthOuter>;
  const std::int64_t tiles = ((std::int64_t{p.depth} + Tile::kRows - 1) / Tile::kRows) *
                             ((p.grad_per_group + kColumns - 1) / kColumns);
  const LaunchShape shape{dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(splits),
                               static_cast<unsigned>(p.groups)),
                          dim3(Tile::kThreads), Tile::kSharedBytes};
  launch("conv_weights", stream, shape, weights_kernel<kPrecision, kColumns>, p);
}

template <Precision kPrecision>
void launch_weights_mma(cudaStream_t stream, int columns, const ConvWeights& p, int splits) {
  switch (columns) {
    case 32:
      return launch_weights<kPrecision, 32>(stream, p, splits);
    case 64:
      return launch_weights<kPrecision, 64>(stream, p, splits);
    default:
      return launch_weights<kPrecision, 128>(stream, p, splits);
  }
}

void launch_tiles(cudaStream_t stream, Precision precision, int columns, const ConvWeights& p,
                  int splits) {
  if (precision == Precision::kTf32) {
    return launch_weights_mma<Precision::kTf32>(stream, columns, p, splits);
  }
  if (precision == Precision::kBf16) {
    return launch_weights_mma<Precision::kBf16>(stream, columns, p, splits);
  }
  switch (columns) {
    case 16:
      return launch_weights<Precision::kF32, 16>(stream, p, splits);
    case 32:
      return launch_weights<Precision::kF32, 32>(stream, p, splits);
    default:
      return launch_weights<Precision::kF32, 64>(stream, p, splits);
  }
}

// blocks: of one split.
int choose_splits(const Backend& backend, const ConvWeights& p, std::int64_t blocks) {
  const std::int64_t wanted =
      SplitTuning::kBlocksPerProcessor * backend.device_info().processors / blocks;
  const std::int64_t useful = p.positions / SplitTuning::kLeastPositions;
  const std::int64_t bytes = std::int64_t{p.groups} * p.depth * p.grad_per_group *
                             static_cast<std::int64_t>(sizeof(float));
  const std::int64_t fitting = SplitTuning::kMostPartial / bytes;
  return static_cast<int>(
      std::max<std::int64_t>(1, std::min({wanted, useful, fitting, std::int64_t{65535}})));
}

}  // namespace

void add_weight_gradient(Backend& backend, Precision precision, ConvWeights problem, bool direct,
                         float* grad_weight) {
  const std::int64_t count = std::int64_t{problem.groups} * problem.depth * problem.grad_per_group;
  if (count == 0 || problem.positions == 0) return;
  const int columns = tile_columns(precision, problem.grad_per_group,
                                   has_wide_shared_memory(backend.device_info()));
  const std::int64_t channel_tiles =
      (problem.grad_channels + kDirectLanes - 1) / std::int64_t{kDirectLanes};
  const std::int64_t blocks =
      direct ? problem.depth * channel_tiles
             : std::int64_t{problem.groups} *
                   ((problem.depth + ConvTuning::kRows - 1) / ConvTuning::kRows) *
                   ((problem.grad_per_group + columns - 1) / columns);
  int splits = choose_splits(backend, problem, blocks);
  // Whole tiles, so that only the last split ends in the middle of one.
  const std::int64_t each = (std::int64_t{problem.positions} + splits - 1) / splits;
  problem.per_split = static_cast<int>((each + ConvTuning::kMmaDepth - 1) / ConvTuning::kMmaDepth *
                                       ConvTuning::kMmaDepth);
  splits = static_cast<int>((std::int64_t{problem.positions} + problem.per_split - 1) /
                            problem.per_split);
  problem.partial = reinterpret_cast<float*>(
      backend.scratch(splits * count * static_cast<std::int64_t>(sizeof(float))));
  if (direct) {
    const LaunchShape shape{
        dim3(static_cast<unsigned>(splits), static_cast<unsigned>(problem.depth),
             static_cast<unsigned>(channel_tiles)),
        dim3(kDirectLanes, kDirectHigh), 0};
    launch("conv_weights_direct", backend.stream(), shape, weights_direct, problem);
  } else {
    launch_tiles(backend.stream(), precision, columns, problem, splits);
  }
  launch("conv_weights_sum", backend.stream(), over(count), add_splits, problem, splits,
         grad_weight);
}

}  // namespace fishermask::cuda
