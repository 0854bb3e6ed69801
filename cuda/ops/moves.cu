// Moving values without computing with them: plain copies, fills, and the copies between two
// layouts of core/strided_map.h, for transpose, slice, pad, concat, flatten, expand and their
// gradients.
// Kernels:    copy_words, one element or one quad of 16 bytes a thread, in the order of `to`;
//             copy_tiles, where the two layouts disagree on which axis is contiguous, through a
//             tile of shared memory, so that both sides are read and written in whole lines.
// Deterministic: yes, every element of `to` is written by one thread. Bound by memory.
#include <algorithm>
#include <bit>
#include <cstdlib>
#include <utility>

#include "common/shared.cuh"
#include "ops/elementwise.cuh"
#include "ops/strided_map.cuh"

namespace fishermask::cuda {
namespace {

// Not measured on a GPU: a tile is a warp wide, one column is added against bank conflicts, and a
// side of less than a quarter of a tile would leave most threads without work.
struct TileTuning {
  static constexpr int kTile = 32;
  static constexpr int kPitch = kTile + 1;
  static constexpr int kRowsOfThreads = 8;
  static constexpr std::int64_t kLeastSide = 8;
};

__global__ void fill_words(float* to, std::int64_t count, std::int64_t quads, float value) {
  for (std::int64_t i = first_item(); i < quads; i += item_step()) {
    set_quad(to, i, make_float4(value, value, value, value));
  }
  for (std::int64_t i = 4 * quads + first_item(); i < count; i += item_step()) to[i] = value;
}

__device__ __forceinline__ float added(float a, float b) { return a + b; }
__device__ __forceinline__ float4 added(float4 a, float4 b) { return sum_of(a, b); }

// Lane 0 is `from`, lane 1 `to`; strides in words.
template <typename Word>
__global__ void copy_words(const __grid_constant__ Walk<2> walk, const Word* from, Word* to,
                           bool add) {
  for (std::int64_t i = first_item(); i < walk.count; i += item_step()) {
    std::int64_t offset[2] = {0, 0};
    add_offsets(walk, i, offset);
    const Word value = from[offset[0]];
    to[offset[1]] = add ? added(to[offset[1]], value) : value;
  }
}

// Rows are contiguous in `from` and `row_step` apart in `to`; runs are contiguous in `to` and
// `run_step` apart in `from`.
struct Tiles {
  std::int64_t rows, runs;
  std::int64_t row_step, run_step;
  std::int64_t row_tiles, run_tiles;
};

__global__ void copy_tiles(const __grid_constant__ Walk<2> outer, Tiles tiles, const float* from,
                           float* to, bool add) {
  using Tuning = TileTuning;
  FM_SHARED(float, tile, Tuning::kTile* Tuning::kPitch);
  const int x = static_cast<int>(threadIdx.x) % Tuning::kTile;
  const int y = static_cast<int>(threadIdx.x) / Tuning::kTile;
  const std::int64_t count = outer.count * tiles.row_tiles * tiles.run_tiles;
  for (std::int64_t item = blockIdx.x; item < count; item += gridDim.x) {
    const std::int64_t first_run = item % tiles.run_tiles * Tuning::kTile;
    const std::int64_t rest = item / tiles.run_tiles;
    const std::int64_t first_row = rest % tiles.row_tiles * Tuning::kTile;
    std::int64_t offset[2] = {0, 0};
    add_offsets(outer, rest / tiles.row_tiles, offset);
    __syncthreads();  // the tile before this one has been read
    for (int i = y; i < Tuning::kTile; i += Tuning::kRowsOfThreads) {
      if (first_row + x < tiles.rows && first_run + i < tiles.runs) {
        tile[i * Tuning::kPitch + x] =
            from[offset[0] + (first_run + i) * tiles.run_step + first_row + x];
      }
    }
    __syncthreads();
    for (int i = y; i < Tuning::kTile; i += Tuning::kRowsOfThreads) {
      if (first_run + x < tiles.runs && first_row + i < tiles.rows) {
        float& element = to[offset[1] + (first_row + i) * tiles.row_step + first_run + x];
        const float value = tile[x * Tuning::kPitch + i];
        element = add ? element + value : value;
      }
    }
  }
}

// Joined, the axis that `to` is contiguous along last.
std::vector<StridedAxis> ordered_axes(const StridedMap& map, std::int64_t batch) {
  std::vector<StridedAxis> axes = map.batched_axes(batch);
  std::stable_sort(axes.begin(), axes.end(), [](const StridedAxis& a, const StridedAxis& b) {
    return std::abs(a.to) > std::abs(b.to);
  });
  return joined_axes(axes);
}

Walk<2> walk_of(const std::vector<StridedAxis>& axes) {
  Walk<2> walk;
  for (const StridedAxis& axis : axes) walk.add(axis.size, {axis.from, axis.to});
  return walk;
}

// Whether runs along the last axis can be copied in quads.
bool in_quads(const std::vector<StridedAxis>& axes, const float* from, const float* to) {
  if (axes.empty() || !is_aligned16(from) || !is_aligned16(to)) return false;
  const StridedAxis& run = axes.back();
  return run.from == 1 && run.to == 1 && run.size % 4 == 0 &&
         std::all_of(axes.begin(), axes.end() - 1, [](const StridedAxis& axis) {
           return axis.from % 4 == 0 && axis.to % 4 == 0;
         });
}

void copy_in_quads(cudaStream_t stream, std::vector<StridedAxis> axes, const float* from, float* to,
                   bool add) {
  for (StridedAxis& axis : axes) axis.from /= 4, axis.to /= 4;
  axes.back() = {axes.back().size / 4, 1, 1};
  const Walk<2> walk = walk_of(axes);
  launch("copy_quads", stream, over(walk.count), copy_words<float4>, walk,
         reinterpret_cast<const float4*>(from), reinterpret_cast<float4*>(to), add);
}

// Where among the axes the one is that `from` is contiguous along; −1 where tiles do not pay.
std::ptrdiff_t tile_rows(const std::vector<StridedAxis>& axes) {
  const auto wide = [](const StridedAxis& axis) { return axis.size >= TileTuning::kLeastSide; };
  if (axes.size() < 2) return -1;
  const StridedAxis& run = axes.back();
  if (run.to != 1 || run.from == 1 || !wide(run)) return -1;
  const auto rows = std::find_if(axes.begin(), axes.end(), [&](const StridedAxis& axis) {
    return axis.from == 1 && wide(axis);
  });
  return rows == axes.end() ? -1 : rows - axes.begin();
}

void copy_in_tiles(cudaStream_t stream, std::vector<StridedAxis> axes, std::ptrdiff_t rows,
                   const float* from, float* to, bool add) {
  const auto tiles_of = [](std::int64_t size) {
    return (size + TileTuning::kTile - 1) / TileTuning::kTile;
  };
  const StridedAxis row = axes[static_cast<std::size_t>(rows)];
  const StridedAxis run = axes.back();
  axes.pop_back();
  axes.erase(axes.begin() + rows);
  const Walk<2> outer = walk_of(axes);
  const Tiles tiles = {row.size, run.size,           row.to,
                       run.from, tiles_of(row.size), tiles_of(run.size)};
  const std::int64_t blocks =
      std::min(outer.count * tiles.row_tiles * tiles.run_tiles, kMostBlocks);
  const LaunchShape shape = {dim3(static_cast<unsigned>(blocks)),
                             dim3(TileTuning::kTile * TileTuning::kRowsOfThreads), 0};
  launch("copy_tiles", stream, shape, copy_tiles, outer, tiles, from, to, add);
}

class MoveKernel : public Kernel {
 public:
  MoveKernel(Move move, const KernelContext& context)
      : move_(std::move(move)), back_(move_.map.reversed()), context_(context) {}

  void forward(const NodeIo& io) override {
    const TensorView& y = io.outputs[0];
    if (move_.elsewhere) fill_elements(context_.stream, words_of(y), y.count(), word(y.dtype));
    copy_strided(context_.stream, move_.map, io.batch, words_of(io.inputs[0]), words_of(y), false);
  }

  void backward(const NodeIo& io) override {
    if (!io.grad_inputs[0]) return;
    auto* grad_input = io.grad_inputs[0].as<float>();
    const bool add = io.accumulate[0];
    if (move_.partial && !add) {
      fill_elements(context_.stream, grad_input, io.grad_inputs[0].count(), 0.0F);
    }
    copy_strided(context_.stream, back_, io.batch, io.grad_outputs[0].as<float>(), grad_input, add);
  }

 private:
  // The bits of `elsewhere` as an element of this type.
  [[nodiscard]] float word(DType dtype) const {
    const double value = *move_.elsewhere;
    return dtype == DType::kI32 ? std::bit_cast<float>(static_cast<std::int32_t>(value))
                                : static_cast<float>(value);
  }

  Move move_;
  StridedMap back_;
  KernelContext context_;
};

}  // namespace

void copy_elements(cudaStream_t stream, const float* from, float* to, std::int64_t count,
                   bool add) {
  if (from == to && !add) return;
  map_elements("copy_elements", stream, Identity{}, from, to, count, add);
}

void fill_elements(cudaStream_t stream, float* to, std::int64_t count, float value) {
  const std::int64_t quads = quads_of({to}, count);
  launch("fill_words", stream, over_quads(quads, count), fill_words, to, count, quads, value);
}

void copy_strided(cudaStream_t stream, const StridedMap& map, std::int64_t batch, const float* from,
                  float* to, bool add) {
  std::vector<StridedAxis> axes = ordered_axes(map, batch);
  from += map.from_offset;
  to += map.to_offset;
  if (in_quads(axes, from, to)) return copy_in_quads(stream, std::move(axes), from, to, add);
  const std::ptrdiff_t rows = tile_rows(axes);
  if (rows >= 0) return copy_in_tiles(stream, axes, rows, from, to, add);
  const Walk<2> walk = walk_of(axes);
  launch("copy_words", stream, over(walk.count), copy_words<float>, walk, from, to, add);
}

bool is_walkable(const StridedMap& map) {
  return static_cast<int>(map.batched_axes(2).size()) <= kMostWalkAxes;
}

float* words_of(const TensorView& view) {
  FM_CHECK(dtype_size(view.dtype) == 4, INTERNAL, "tensor view holds ", dtype_name(view.dtype),
           ", not elements of 4 bytes");
  return reinterpret_cast<float*>(view.data);
}

std::unique_ptr<Kernel> make_move_kernel(Move move, const KernelContext& context) {
  if (!is_walkable(move.map)) return nullptr;
  return std::make_unique<MoveKernel>(std::move(move), context);
}

}  // namespace fishermask::cuda
