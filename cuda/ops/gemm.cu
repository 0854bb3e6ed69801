// C = alpha · Σ op(A) · op(B) + beta · C + bias (gemm.h) by own kernels.
// Tiles:      128 × 128, or 64 × 64 where those would leave processors idle (gemm_tile.cuh).
// Workspace:  where even small tiles leave processors idle, the inner sum is split over `splits`
// blocks: (splits, batch, m, n) partial sums from the pool, added in order by a second kernel.
// Deterministic: yes; the order of every sum follows from the sizes and the number of processors.
// Bound by:   FFMA or the tensor cores for large sizes; not measured on a GPU.
#include "common/backend.h"
#include "common/launch.cuh"
#include "common/parts.h"
#include "core/error.h"
#include "ops/cublas.h"
#include "ops/gemm.h"
#include "ops/gemm_tile.cuh"

namespace fishermask::cuda {
namespace {

constexpr std::int64_t kLargestSize = (std::int64_t{1} << 31) - 129;
constexpr std::int64_t kFewestStagesOfSplit = 8;  // below, adding up costs more than it brings
constexpr std::int64_t kMostSplits = 32;

struct GemmWork {
  GemmCall call;
  std::int64_t row_tiles, column_tiles;
  int stages_per_term, stages, stages_per_split;
  std::int64_t splits;
  float* partial;  // (splits, batch, m, n), null: C itself
};

__device__ __forceinline__ float finish(const GemmCall& call, float sum, std::int64_t column,
                                        const float* c) {
  float value = call.alpha * sum;
  if (call.bias != nullptr) value += call.bias[column];
  if (call.beta != 0.0F) value = fmaf(call.beta, *c, value);
  return value;
}

__device__ __forceinline__ StoredMatrix matrix_of(const GemmCall& call, const GemmOperand& operand,
                                                  std::int64_t item, std::int64_t term, int rows,
                                                  int columns) {
  const std::int64_t at = operand.offsets != nullptr
                              ? operand.offsets[item * call.terms + term]
                              : item * operand.batch_stride + term * operand.term_stride;
  return {operand.data + at, operand.row_stride, operand.transposed ? columns : rows,
          operand.transposed ? rows : columns};
}

template <typename Tile, bool kTransposeA, bool kTransposeB, Precision kPrecision>
struct GemmTypes {
  using A = StagedOperand<!kTransposeA, Tile::kRows>;
  using B = StagedOperand<kTransposeB, Tile::kColumns>;
  using Sums = typename SumsOf<Tile, A, B, kPrecision>::Type;
  static constexpr int kStages = gemm_stages(kPrecision);
  static constexpr int kStageFloats = A::kFloats + B::kFloats;
  static constexpr std::size_t kSharedBytes = kStages * kStageFloats * sizeof(float);
};

template <typename Tile, bool kTransposeA, bool kTransposeB, Precision kPrecision>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerProcessor)
    gemm_tiles(const __grid_constant__ GemmWork work) {
  using Types = GemmTypes<Tile, kTransposeA, kTransposeB, kPrecision>;
  using A = typename Types::A;
  using B = typename Types::B;
  FM_DYNAMIC_SHARED(float, shared, 0, Types::kStages* Types::kStageFloats);
  const GemmCall& call = work.call;
  const int m = static_cast<int>(call.m);
  const int n = static_cast<int>(call.n);
  const int k = static_cast<int>(call.k);
  typename Types::Sums sums;

  const std::int64_t tiles = work.row_tiles * work.column_tiles;
  const std::int64_t count = tiles * call.batch * work.splits;
  for (std::int64_t i = blockIdx.x; i < count; i += gridDim.x) {
    const int row = static_cast<int>(i % tiles / work.column_tiles) * Tile::kRows;
    const int column = static_cast<int>(i % work.column_tiles) * Tile::kColumns;
    const std::int64_t item = i / tiles % call.batch;
    const std::int64_t split = i / tiles / call.batch;
    const int first = static_cast<int>(split) * work.stages_per_split;
    const int last = std::min(work.stages, first + work.stages_per_split);

    const auto begin = [&](int stage, SharedArray<float> to) {
      const int term = call.terms == 1 ? 0 : stage / work.stages_per_term;
      const int depth = (stage - term * work.stages_per_term) * kGemmDepth;
      const StoredMatrix a = matrix_of(call, call.a, item, term, m, k);
      const StoredMatrix b = matrix_of(call, call.b, item, term, k, n);
      begin_copy<A, Tile::kThreads>(to, a, aligned_for_16_bytes(a), row, depth);
      begin_copy<B, Tile::kThreads>(to.from(A::kFloats), b, aligned_for_16_bytes(b), column, depth);
    };

    sums.clear();
    StageRing<Types::kStages, Types::kStageFloats, decltype(begin)> ring(shared, first, last,
                                                                         begin);
    for (int stage = first; stage < last; ++stage) {
      const SharedArray<float> from = ring.next();
      sums.add(from, from.from(A::kFloats));
    }
    ring.finish();

    float* const partial = work.partial == nullptr
                               ? nullptr
                               : work.partial + (split * call.batch + item) * call.m * call.n;
    float* const c = call.c + item * call.c_batch_stride;
    sums.for_each([&](int tile_row, int tile_column, float sum) {
      const std::int64_t r = row + tile_row;
      const std::int64_t s = column + tile_column;
      if (r >= m || s >= n) return;
      if (partial != nullptr) {
        partial[r * n + s] = sum;
      } else {
        float* const to = c + r * call.c_row_stride + s;
        *to = finish(call, sum, s, to);
      }
    });
  }
}

__global__ void add_splits(const __grid_constant__ GemmWork work) {
  const GemmCall& call = work.call;
  const std::int64_t count = call.batch * call.m * call.n;
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    float sum = 0.0F;
    for (std::int64_t split = 0; split < work.splits; ++split) {
      sum += work.partial[split * count + i];
    }
    const std::int64_t column = i % call.n;
    float* const to = call.c + i / (call.m * call.n) * call.c_batch_stride +
                      i / call.n % call.m * call.c_row_stride + column;
    *to = finish(call, sum, column, to);
  }
}

std::int64_t parts(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

template <typename Tile>
std::int64_t tile_count(const GemmCall& call) {
  return parts(call.m, Tile::kRows) * parts(call.n, Tile::kColumns) * call.batch;
}

bool large_tiles(const GemmCall& call, std::int64_t processors) {
  if (call.tile != GemmTile::kChosen) return call.tile == GemmTile::kLarge;
  return call.m > SmallTile::kRows && call.n > SmallTile::kColumns &&
         tile_count<LargeTile>(call) >= processors;
}

std::int64_t chosen_splits(std::int64_t tiles, std::int64_t stages, std::int64_t processors) {
  if (tiles >= processors) return 1;
  return std::max<std::int64_t>(
      std::min({2 * processors / tiles, kMostSplits, stages / kFewestStagesOfSplit}), 1);
}

template <typename Tile>
GemmWork work_of(const GemmCall& call, std::int64_t processors) {
  GemmWork work = {};
  work.call = call;
  work.row_tiles = parts(call.m, Tile::kRows);
  work.column_tiles = parts(call.n, Tile::kColumns);
  const std::int64_t stages_per_term = parts(call.k, kGemmDepth);
  const std::int64_t stages = stages_per_term * call.terms;
  FM_CHECK(stages <= kLargestSize, ARGUMENT, "expected an inner size below 2^35 but received ",
           call.terms, " times ", call.k);
  const std::int64_t splits =
      call.splits > 0 ? call.splits : chosen_splits(tile_count<Tile>(call), stages, processors);
  const std::int64_t per_split = std::max<std::int64_t>(parts(stages, splits), 1);
  work.stages_per_term = static_cast<int>(stages_per_term);
  work.stages = static_cast<int>(stages);
  work.stages_per_split = static_cast<int>(per_split);
  work.splits = std::max<std::int64_t>(parts(stages, per_split), 1);
  return work;
}

template <typename Tile, bool kTransposeA, bool kTransposeB, Precision kPrecision>
void launch_tiles(Backend& backend, const GemmWork& work) {
  using Types = GemmTypes<Tile, kTransposeA, kTransposeB, kPrecision>;
  const std::int64_t blocks = std::min(
      work.row_tiles * work.column_tiles * work.call.batch * work.splits, std::int64_t{1} << 30);
  launch("gemm", backend.stream(),
         {dim3(static_cast<unsigned>(blocks)), dim3(Tile::kThreads), Types::kSharedBytes},
         gemm_tiles<Tile, kTransposeA, kTransposeB, kPrecision>, work);
}

template <typename Tile, Precision kPrecision>
void launch_transposed(Backend& backend, const GemmWork& work) {
  const bool a = work.call.a.transposed;
  const bool b = work.call.b.transposed;
  if (a && b) return launch_tiles<Tile, true, true, kPrecision>(backend, work);
  if (a) return launch_tiles<Tile, true, false, kPrecision>(backend, work);
  if (b) return launch_tiles<Tile, false, true, kPrecision>(backend, work);
  launch_tiles<Tile, false, false, kPrecision>(backend, work);
}

template <typename Tile>
void run(Backend& backend, const GemmCall& call) {
  GemmWork work = work_of<Tile>(call, backend.device_info().processors);
  if (work.splits > 1) {
    work.partial = reinterpret_cast<float*>(backend.product_scratch(
        work.splits * call.batch * call.m * call.n * static_cast<std::int64_t>(sizeof(float))));
  }
  switch (backend.matmul_precision()) {
    case Precision::kF32:
      launch_transposed<Tile, Precision::kF32>(backend, work);
      break;
    case Precision::kTf32:
      launch_transposed<Tile, Precision::kTf32>(backend, work);
      break;
    case Precision::kBf16:
      launch_transposed<Tile, Precision::kBf16>(backend, work);
      break;
  }
  if (work.splits > 1) {
    launch("add_splits", backend.stream(), over(call.batch * call.m * call.n), add_splits, work);
  }
}

}  // namespace

void gemm(Backend& backend, const GemmCall& call) {
  for (const std::int64_t size : {call.m, call.n, call.k}) {
    FM_CHECK(size >= 0 && size <= kLargestSize, ARGUMENT,
             "expected sizes of a matrix product below 2^31 - 128 but received ", call.m, "x",
             call.k, " by ", call.k, "x", call.n);
  }
  if (call.m == 0 || call.n == 0 || call.batch == 0) return;
  const Cublas* const cublas = backend.cublas();
  if (cublas != nullptr && cublas->multiply(backend, call)) return;
  if (large_tiles(call, backend.device_info().processors)) return run<LargeTile>(backend, call);
  run<SmallTile>(backend, call);
}

}  // namespace fishermask::cuda

#ifdef FM_EMULATION
// For tests of the emulated library: gemm on one of its devices.
extern "C" __attribute__((visibility("default"))) void fishermask_test_gemm(
    fishermask::Device& device, const fishermask::cuda::GemmCall& call) {
  auto* const backend = dynamic_cast<fishermask::cuda::Backend*>(&device);
  FM_CHECK(backend != nullptr, INTERNAL, "expected a device of this library");
  fishermask::cuda::gemm(*backend, call);
}
#endif
