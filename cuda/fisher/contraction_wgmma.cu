// Contractions by wgmma, bf16 operands: the tensor cores' full rate on sm_90a, which mma.sync does
// not reach.
//
// What:       sums[o, j] += Σ_n G_n[o, j]², as the kernel of contraction_tile.cuh (which see for
//             rows, columns and the order of the weights), for large weight matrices and many
//             positions. First both operands are rounded to bf16 in memory, then a block of two
//             warpgroups owns a tile and walks over its share of the samples.
// Math:       G_n[o, tap · group_in + i] = Σ_p δ[n, p, o] · a[n, p·stride − pad + tap·dilation, i],
//             operands rounded to nearest even as for mma.sync, sums in f32 by the tensor cores
// Layout:     operands NHWC; channels of a group in eights, so that 16 bytes of bf16 are one copy.
//             In shared memory as common/wgmma.cuh has them:
//
//   stage       | δ: kRows / 64 blocks | a: kColumns / 64 blocks |
//   block       32 positions × 64 channels. The positions are one sample's; the last stage of a
//               sample ends with zeros.
//
//             Thread t copies position t / 8 of every stage, units t mod 8 of all of its blocks.
// Flow:       stage s is multiplied while the copies of stages s + 1 … s + kAhead are on their way,
//             and while stage s − 1 may still be in the tensor cores: its memory is filled again
//             one barrier later. One barrier a stage; no thread is a producer alone: five copies a
//             stage cost a thread little, and the registers belong to the sums.
// Registers:  a thread has kN / 2 sums of G_n and as many of squares: 192 of 255 in the wide tile.
// Why memory: with f32 operands a tile of 128 × 192 would take 107 bytes a cycle from the second-
//             level cache at the tensor cores' full rate; others have measured about 30 for each
//             processor. Rounded beforehand it takes 53, and the copies need no registers. Rounding
//             reads and writes six bytes an element once, against some hundreds of products with
//             it.
// TF32:       stays with mma.sync. Its operands cannot be halved, so the second-level cache bounds
//             both kernels alike, and wgmma reads TF32 only with positions running fastest, which
//             would mean to transpose each operand on its way.
// Workspace:  2 bytes per element of δ and a, of at most so many samples that it is kMostOperands
//             (of one sample at the least); 8 bytes per weight and share of the samples. One share
//             has its partial tiles too: the weights' order scatters what a thread has.
// Deterministic: yes; shares are added in their order.
// Targets:    sm_90a; the kernel is empty on others.
// Not run on a GPU: instructions, layouts and order are what the emulation checks, and the device's
// sums are compared with the tiles' before this kernel is used (contraction_wgmma_check.cu).
#include <algorithm>
#include <limits>

#include "common/launch.cuh"
#include "common/mma.cuh"
#include "common/wgmma.cuh"
#include "fisher/contraction_tile.cuh"
#include "fisher/contraction_wgmma.h"

namespace fishermask::cuda {
namespace {

struct WideTile {
  static constexpr int kRowGroups = 2, kColumnGroups = 1, kN = 192;  // warpgroups; columns of one
};
// For matrices of few rows.
struct LowTile {
  static constexpr int kRowGroups = 1, kColumnGroups = 2, kN = 128;
};

// Not measured on a GPU. 32 positions are two steps of the tensor cores, 384 cycles of the wide
// tile: several times what a barrier costs. Six stages ahead are 120 KiB on their way, more than
// the latency of memory times a processor's part of its bandwidth.
struct WgmmaPolicy {
  static constexpr int kThreads = 256;
  static constexpr int kDepth = 32;  // positions of a stage: eight threads for each
  static constexpr int kStages = 8;
  static constexpr int kAhead = kStages - 2;
  static constexpr int kStep = 16;  // positions of one wgmma
  static_assert(kAhead > 0 && kDepth % kStep == 0);
  // Going to f64 costs a tile as much as some 500 positions, so that it waits for this many
  // positions, but not for more squares than kMostFlushSamples: those are off by 4e-6 at most,
  // a five hundredth of what bf16 does to them.
  static constexpr int kFlushPositions = 8192;
  static constexpr int kMostFlushSamples = 64;
  // What a share of the samples costs beside its positions: its tile is written and added.
  static constexpr int kSharePositions = 1024;
  static constexpr std::int64_t kMostOperands = std::int64_t{1} << 28U;  // bytes
  // Smaller problems stay with the tiles, which have smaller ones.
  static constexpr int kLeastRows = 64, kLeastColumns = 128, kLeastPositions = 64;
};

template <typename Tile>
struct TileSizes {
  static constexpr int kRows = 64 * Tile::kRowGroups;
  static constexpr int kColumns = Tile::kN * Tile::kColumnGroups;
  static constexpr int kRowBlocks = kRows / 64, kColumnBlocks = kColumns / 64;
  static constexpr int kBlockUnits = WgmmaPolicy::kDepth * 8;  // of 16 bytes
  static constexpr int kStageUnits = (kRowBlocks + kColumnBlocks) * kBlockUnits;
  // The first stage begins at a multiple of a pattern, wherever dynamic shared memory does.
  static constexpr int kPatternUnits = 64;
  static constexpr int kUnits = WgmmaPolicy::kStages * kStageUnits + kPatternUnits;
  static constexpr int kSums = Tile::kN / 2;  // of a thread
  static_assert(2 * kSums <= 192, "G_n and squares leave no registers to the rest");
  static_assert(128 * Tile::kRowGroups * Tile::kColumnGroups == WgmmaPolicy::kThreads);
  static_assert(WgmmaPolicy::kDepth * 8 == WgmmaPolicy::kThreads && Tile::kN % 64 == 0);
};

struct WgmmaProblem {
  TileProblem tile;  // its operands are not read
  const std::uint16_t* grad = nullptr;
  const std::uint16_t* input = nullptr;
  int stages_per_sample = 1;
  int samples_per_flush = 1;
};

// Eight elements a thread; what the tiles round as they read it.
__global__ void __launch_bounds__(256)
    round_to_bf16(const float* from, std::uint16_t* to, std::int64_t eights) {
  for (std::int64_t i = first_item(); i < eights; i += item_step()) {
    const float4 low = reinterpret_cast<const float4*>(from)[2 * i];
    const float4 high = reinterpret_cast<const float4*>(from)[2 * i + 1];
    reinterpret_cast<uint4*>(to)[i] = {bf16_pair(low.x, low.y), bf16_pair(low.z, low.w),
                                       bf16_pair(high.x, high.y), bf16_pair(high.z, high.w)};
  }
}

#ifdef FM_WGMMA

// What a column unit (eight channels at one tap) adds to the place of a position's window.
__device__ __forceinline__ int4 describe_unit(const TileProblem& problem, int group, int column) {
  if (column >= problem.columns) return {0, 0, 0, 0};  // is not looked at
  const int tap = problem.by_group_in.quotient(column);
  const int tap_row = problem.by_kernel_width.quotient(tap);
  const int y = tap_row * problem.dilation_height;
  const int x = (tap - tap_row * problem.kernel_width) * problem.dilation_width;
  const int offset = (y * problem.in_width + x) * problem.in_channels + group * problem.group_in +
                     column - tap * problem.group_in;
  return {y, x, offset, 0};
}

// Asks for the stages of one block, one after the other. kPlain: each position meets one pixel, its
// own (a linear layer on sequences, a 1 × 1 convolution): nothing is to be worked out then.
template <typename Tile, bool kPlain>
class StageFiller {
 public:
  using Sizes = TileSizes<Tile>;

  // `first_row`, `first_column`: of the block's tile in its group.
  __device__ __forceinline__ StageFiller(const WgmmaProblem& problem, SharedArray<uint4> stages,
                                         SharedArray<int4> units, int group, int first_row,
                                         int first_column, std::int64_t first_sample)
      : problem_(problem), stages_(stages), units_(units) {
    const TileProblem& tile = problem.tile;
    const int thread = static_cast<int>(threadIdx.x);
    position_ = row_ = thread / 8;
    member_ = thread % 8;
    rows_left_ = tile.group_out - first_row - 8 * member_;
    columns_left_ = tile.columns - first_column - 8 * member_;
    grad_ = problem.grad + first_sample * tile.positions * tile.out_channels +
            (group * tile.group_out + first_row + 8 * member_);
    input_ = problem.input + first_sample * tile.in_height * tile.in_width * tile.in_channels +
             (kPlain ? group * tile.group_in + first_column + 8 * member_ : 0);
  }

  __device__ __forceinline__ void request(int slot) {
    const SharedArray<uint4> to =
        stages_.from(slot * Sizes::kStageUnits + row_ * 8 + (member_ ^ (row_ % 8)));
    const bool exists = position_ < problem_.tile.positions;
    const std::uint16_t* const grad =
        grad_ + static_cast<std::int64_t>(position_) * problem_.tile.out_channels;
#pragma unroll
    for (int b = 0; b < Sizes::kRowBlocks; ++b) {
      cp_async_unit(to, b * Sizes::kBlockUnits, grad + 64 * b, exists && 64 * b < rows_left_);
    }
    if constexpr (kPlain) {
      copy_pixel(to.from(Sizes::kRowBlocks * Sizes::kBlockUnits), exists);
    } else {
      copy_window(to.from(Sizes::kRowBlocks * Sizes::kBlockUnits), exists);
    }
    advance();
  }

 private:
  __device__ __forceinline__ void copy_pixel(SharedArray<uint4> to, bool exists) const {
    const std::uint16_t* const input =
        input_ + static_cast<std::int64_t>(position_) * problem_.tile.in_channels;
#pragma unroll
    for (int b = 0; b < Sizes::kColumnBlocks; ++b) {
      cp_async_unit(to, b * Sizes::kBlockUnits, input + 64 * b, exists && 64 * b < columns_left_);
    }
  }

  __device__ __forceinline__ void copy_window(SharedArray<uint4> to, bool exists) const {
    const TileProblem& tile = problem_.tile;
    const int out_y = tile.by_out_width.quotient(position_);
    const int y = out_y * tile.stride_height - tile.pad_top;
    const int x = (position_ - out_y * tile.out_width) * tile.stride_width - tile.pad_left;
    const std::uint16_t* const input =
        input_ + (static_cast<std::int64_t>(y) * tile.in_width + x) * tile.in_channels;
#pragma unroll
    for (int b = 0; b < Sizes::kColumnBlocks; ++b) {
      const int4 unit = units_[b * 8 + member_];
      const bool valid =
          exists && 64 * b < columns_left_ &&
          static_cast<unsigned>(y + unit.x) < static_cast<unsigned>(tile.in_height) &&
          static_cast<unsigned>(x + unit.y) < static_cast<unsigned>(tile.in_width);
      cp_async_unit(to, b * Sizes::kBlockUnits, input + unit.z, valid);
    }
  }

  __device__ __forceinline__ void advance() {
    const TileProblem& tile = problem_.tile;
    position_ += WgmmaPolicy::kDepth;
    if (position_ < problem_.stages_per_sample * WgmmaPolicy::kDepth) return;
    position_ = row_;
    grad_ += static_cast<std::int64_t>(tile.positions) * tile.out_channels;
    input_ += static_cast<std::int64_t>(tile.in_height) * tile.in_width * tile.in_channels;
  }

  const WgmmaProblem& problem_;
  SharedArray<uint4> stages_;
  SharedArray<int4> units_;
  int position_, row_, member_;
  int rows_left_, columns_left_;  // of the matrix, from this thread's first unit on
  const std::uint16_t* grad_;     // of the sample that is asked for
  const std::uint16_t* input_;
};

// A warpgroup's share of a tile, and a thread's place in it.
template <typename Tile>
struct Share {
  static __device__ __forceinline__ int row_group() {
    return static_cast<int>(threadIdx.x) / 128 / Tile::kColumnGroups;
  }
  static __device__ __forceinline__ int column_group() {
    return static_cast<int>(threadIdx.x) / 128 % Tile::kColumnGroups;
  }
  // Of sums 0 and 1; see common/wgmma.cuh.
  static __device__ __forceinline__ int row() {
    return 64 * row_group() + static_cast<int>(threadIdx.x) % 128 / 32 * 16 +
           static_cast<int>(threadIdx.x) % 32 / 4;
  }
  static __device__ __forceinline__ int column() {
    return Tile::kN * column_group() + 2 * (static_cast<int>(threadIdx.x) % 4);
  }
};

// To this block's partial tile in f64, which `first` writes. Eight pairs are read before the first
// of them is added to: one after the other they would cost the latency of memory each.
template <typename Tile>
__device__ __forceinline__ void flush_squares(float (&squares)[TileSizes<Tile>::kSums],
                                              double* partial, bool first) {
  constexpr int kColumns = TileSizes<Tile>::kColumns, kPairs = TileSizes<Tile>::kSums / 2;
  constexpr int kBatch = 8;
  double* const own = partial + Share<Tile>::row() * kColumns + Share<Tile>::column();
#pragma unroll
  for (int batch = 0; batch < kPairs; batch += kBatch) {
    double2 sums[kBatch];
#pragma unroll
    for (int e = 0; e < kBatch; ++e) {
      const int pair = batch + e;
      const double* const from = own + pair % 2 * 8 * kColumns + pair / 2 * 8;
      sums[e] = first ? double2{0.0, 0.0} : *reinterpret_cast<const double2*>(from);
    }
#pragma unroll
    for (int e = 0; e < kBatch; ++e) {
      const int pair = batch + e;
      double* const to = own + pair % 2 * 8 * kColumns + pair / 2 * 8;
      sums[e].x += static_cast<double>(squares[2 * pair]);
      sums[e].y += static_cast<double>(squares[2 * pair + 1]);
      *reinterpret_cast<double2*>(to) = sums[e];
      squares[2 * pair] = squares[2 * pair + 1] = 0.0F;
    }
    // All the batches at once would not fit the registers.
    pin(squares);
  }
}

#endif  // FM_WGMMA

template <typename Tile, bool kPlain>
__global__ void __launch_bounds__(WgmmaPolicy::kThreads, 1)
    contraction_wgmma(const __grid_constant__ WgmmaProblem problem) {
#ifdef FM_WGMMA
  using Sizes = TileSizes<Tile>;
  constexpr int kAhead = WgmmaPolicy::kAhead, kStages = WgmmaPolicy::kStages;
  FM_DYNAMIC_SHARED(uint4, memory, 0, Sizes::kUnits);
  FM_SHARED(int4, units, Sizes::kColumns / 8);

  const TileProblem& tile = problem.tile;
  int row_tile = 0;
  int column_tile = 0;
  int split = 0;
  const int group = tile_of(tile, &row_tile, &column_tile, &split);
  const int first_column = column_tile * Sizes::kColumns;
  if constexpr (!kPlain) {
    const auto thread = static_cast<int>(threadIdx.x);
    if (thread < Sizes::kColumns / 8) {
      units[thread] = describe_unit(tile, group, first_column + 8 * thread);
    }
    __syncthreads();
  }

  const unsigned misaligned = shared_address(memory) % (16 * Sizes::kPatternUnits);
  const SharedArray<uint4> stages = memory.from(
      static_cast<int>((16 * Sizes::kPatternUnits - misaligned) / 16 % Sizes::kPatternUnits));
  const std::int64_t first_sample = split * tile.samples_per_split;
  const std::int64_t left = tile.batch - first_sample;
  const auto samples =
      static_cast<int>(left < tile.samples_per_split ? left : tile.samples_per_split);
  const int stage_count = samples * problem.stages_per_sample;
  StageFiller<Tile, kPlain> filler(problem, stages, units, group, row_tile * Sizes::kRows,
                                   first_column, first_sample);
  for (int s = 0; s < kAhead; ++s) {
    if (s < stage_count) filler.request(s);
    cp_async_commit();
  }

  constexpr unsigned kBlockBytes = 16 * Sizes::kBlockUnits;
  constexpr unsigned kStepUnits = WgmmaPolicy::kStep * 8;
  const unsigned stages_at = shared_address(stages);
  const std::uint64_t grad_matrix =
      wgmma_descriptor(stages_at + kBlockBytes * Share<Tile>::row_group(), kBlockBytes);
  const std::uint64_t input_matrix = wgmma_descriptor(
      stages_at + kBlockBytes * (Sizes::kRowBlocks + Tile::kN / 64 * Share<Tile>::column_group()),
      kBlockBytes);
  double* const partial =
      tile.partial + static_cast<std::int64_t>(blockIdx.x) * Sizes::kRows * Sizes::kColumns;

  float gradient[Sizes::kSums];
  float squares[Sizes::kSums];
#pragma unroll
  for (int i = 0; i < Sizes::kSums; ++i) gradient[i] = squares[i] = 0.0F;
  int stage = 0;
  int slot = 0;
  int unflushed = 0;
  bool first = true;
  for (int sample = 0; sample < samples; ++sample) {
    for (int part = 0; part < problem.stages_per_sample; ++part, ++stage) {
      cp_async_wait<kAhead - 1>();
      proxy_fence();
      // Behind it: this stage is everybody's, and stage − 2 has left every warpgroup's wgmma.
      __syncthreads();
      wgmma_fence(gradient);
#pragma unroll
      for (int step = 0; step < WgmmaPolicy::kDepth / WgmmaPolicy::kStep; ++step) {
        const auto at = static_cast<unsigned>(slot * Sizes::kStageUnits) + step * kStepUnits;
        wgmma_bf16(gradient, grad_matrix + at, input_matrix + at, part > 0 || step > 0);
      }
      wgmma_commit();
      if (stage + kAhead < stage_count) {
        filler.request(slot + kAhead < kStages ? slot + kAhead : slot + kAhead - kStages);
      }
      cp_async_commit();
      wgmma_wait<1>();
      slot = slot + 1 < kStages ? slot + 1 : 0;
    }
    wgmma_wait_all(gradient);
#pragma unroll
    for (int i = 0; i < Sizes::kSums; ++i) {
      squares[i] = fmaf(gradient[i], gradient[i], squares[i]);
    }
    if (++unflushed == problem.samples_per_flush || sample + 1 == samples) {
      flush_squares<Tile>(squares, partial, first);
      first = false;
      unflushed = 0;
      // The next product does not read them; this frees their registers for the above.
#pragma unroll
      for (int i = 0; i < Sizes::kSums; ++i) gradient[i] = 0.0F;
    }
  }
  cp_async_wait<0>();
#endif
}

// Shares of the samples so that the last wave of blocks is not a large part of all, and the tiles
// that the shares write are not either.
std::int64_t choose_splits(const Backend& backend, const WgmmaProblem& problem,
                           std::int64_t most_shares) {
  const std::int64_t tiles = problem.tile.tiles();
  const std::int64_t processors = std::max(backend.device_info().processors, 1);
  constexpr std::int64_t kMostWaves = 8;
  const std::int64_t most = std::clamp<std::int64_t>(kMostWaves * processors / tiles, 1,
                                                     std::min(problem.tile.batch, most_shares));
  std::int64_t best = 1;
  std::int64_t least_cost = std::numeric_limits<std::int64_t>::max();
  for (std::int64_t splits = 1; splits <= most; ++splits) {
    const std::int64_t samples = (problem.tile.batch + splits - 1) / splits;
    const std::int64_t waves = (tiles * splits + processors - 1) / processors;
    const std::int64_t cost =
        waves * (samples * problem.tile.padded_positions + WgmmaPolicy::kSharePositions);
    if (cost < least_cost) {
      least_cost = cost;
      best = splits;
    }
  }
  return best;
}

bool is_plain(const TileProblem& tile) {
  return tile.taps == 1 && tile.stride_height == 1 && tile.stride_width == 1 && tile.pad_top == 0 &&
         tile.pad_left == 0 && tile.positions == tile.in_height * tile.in_width &&
         tile.out_width == tile.in_width;
}

template <typename Tile>
void launch_wgmma(Backend& backend, WgmmaProblem problem, std::int64_t operand_bytes,
                  std::int64_t most_shares) {
  using Sizes = TileSizes<Tile>;
  TileProblem& tile = problem.tile;
  tile.row_tiles = (tile.group_out + Sizes::kRows - 1) / Sizes::kRows;
  tile.column_tiles = (tile.columns + Sizes::kColumns - 1) / Sizes::kColumns;
  const std::int64_t wanted = choose_splits(backend, problem, most_shares);
  // Stages of a share are counted in int.
  const std::int64_t most_samples = (std::int64_t{1} << 30U) / problem.stages_per_sample;
  tile.samples_per_split = std::min((tile.batch + wanted - 1) / wanted, most_samples);
  const std::int64_t splits = (tile.batch + tile.samples_per_split - 1) / tile.samples_per_split;
  const std::int64_t blocks = splits * tile.tiles();
  FM_CHECK(blocks < std::int64_t{1} << 31U, UNSUPPORTED, "squares of a contraction in ", blocks,
           " tiles are beyond the CUDA backend");
  tile.splits = static_cast<int>(splits);

  const std::int64_t grad_count = tile.grad_rows * tile.out_channels;
  const std::int64_t input_count = tile.batch * tile.in_height * tile.in_width * tile.in_channels;
  const std::int64_t partial_bytes =
      blocks * Sizes::kRows * Sizes::kColumns * static_cast<std::int64_t>(sizeof(double));
  std::byte* const scratch = backend.scratch(operand_bytes + partial_bytes);
  auto* const grad = reinterpret_cast<std::uint16_t*>(scratch);
  std::uint16_t* const input = grad + grad_count;
  problem.grad = grad;
  problem.input = input;
  tile.partial = reinterpret_cast<double*>(scratch + operand_bytes);
  launch("round_to_bf16", backend.stream(), over(grad_count / 8), round_to_bf16, tile.grad_output,
         grad, grad_count / 8);
  launch("round_to_bf16", backend.stream(), over(input_count / 8), round_to_bf16, tile.input, input,
         input_count / 8);
  launch("contraction_wgmma", backend.stream(),
         {dim3(static_cast<unsigned>(blocks)), dim3(WgmmaPolicy::kThreads),
          sizeof(uint4) * Sizes::kUnits},
         is_plain(tile) ? contraction_wgmma<Tile, true> : contraction_wgmma<Tile, false>, problem);
  add_partial_tiles(backend, tile, Sizes::kRows, Sizes::kColumns);
}

// Bytes of one sample's operands in bf16.
std::int64_t sample_bytes(const ContractionForm& form) {
  return 2 * (form.out_height * form.out_width * form.out_channels +
              form.in_height * form.in_width * form.in_channels);
}

// Samples [first, first + count).
ContractionForm part_of(const ContractionForm& form, std::int64_t first, std::int64_t count) {
  ContractionForm part = form;
  part.batch = count;
  part.grad_output += first * form.out_height * form.out_width * form.out_channels;
  part.input += first * form.in_height * form.in_width * form.in_channels;
  return part;
}

void accumulate_part(Backend& backend, const ContractionForm& form, double* sums,
                     std::int64_t most_shares) {
  WgmmaProblem problem;
  problem.tile = describe_contraction(form, sums);
  TileProblem& tile = problem.tile;
  constexpr int kDepth = WgmmaPolicy::kDepth;
  problem.stages_per_sample = (tile.positions + kDepth - 1) / kDepth;
  tile.padded_positions = problem.stages_per_sample * kDepth;
  problem.samples_per_flush = std::clamp(WgmmaPolicy::kFlushPositions / tile.padded_positions,
                                         TilePolicy::kFlushSamples, WgmmaPolicy::kMostFlushSamples);
  const std::int64_t operand_bytes = (form.batch * sample_bytes(form) + 255) / 256 * 256;
  if (tile.group_out <= TileSizes<LowTile>::kRows) {
    launch_wgmma<LowTile>(backend, problem, operand_bytes, most_shares);
  } else {
    launch_wgmma<WideTile>(backend, problem, operand_bytes, most_shares);
  }
}

bool is_aligned(const float* memory) { return reinterpret_cast<std::uintptr_t>(memory) % 16 == 0; }

}  // namespace

bool fits_wgmma(Precision precision, const ContractionForm& form) {
  if (precision != Precision::kBf16) return false;
  const std::int64_t group_in = form.in_channels / form.groups;
  const std::int64_t group_out = form.out_channels / form.groups;
  // Offsets inside one sample are int.
  constexpr std::int64_t kMostInside = std::int64_t{1} << 29U;
  const std::int64_t reach = (form.in_height + form.kernel_height * form.dilation_height) *
                             (form.in_width + form.kernel_width * form.dilation_width) *
                             form.in_channels;
  return group_in % 8 == 0 && group_out % 8 == 0 && group_out >= WgmmaPolicy::kLeastRows &&
         group_in * form.kernel_height * form.kernel_width >= WgmmaPolicy::kLeastColumns &&
         form.out_height * form.out_width >= WgmmaPolicy::kLeastPositions && reach < kMostInside &&
         is_aligned(form.grad_output) && is_aligned(form.input);
}

void accumulate_contraction_wgmma(Backend& backend, const ContractionForm& form, double* sums,
                                  std::int64_t most_shares) {
  const std::int64_t most =
      std::max<std::int64_t>(WgmmaPolicy::kMostOperands / sample_bytes(form), 1);
  for (std::int64_t first = 0; first < form.batch; first += most) {
    accumulate_part(backend, part_of(form, first, std::min(most, form.batch - first)), sums,
                    most_shares);
  }
}

}  // namespace fishermask::cuda
