// Convolution and linear on sequences: the tile kernel of contraction_tile.cuh over whole samples,
// and what its launches share.
#include <algorithm>

#include "fisher/contraction.h"
#include "fisher/contraction_tile.cuh"

namespace fishermask::cuda {
namespace {

// One thread per element of a tile; its splits are added in their order.
__global__ void add_tiles(const TileProblem problem, int tile_rows, int tile_columns,
                          std::int64_t count) {
  for (std::int64_t e = first_item(); e < count; e += item_step()) {
    const auto column = static_cast<int>(e % tile_columns);
    const auto row = static_cast<int>(e / tile_columns % tile_rows);
    std::int64_t tile = e / tile_columns / tile_rows;
    const int j = static_cast<int>(tile % problem.column_tiles) * tile_columns + column;
    tile /= problem.column_tiles;
    const int o = static_cast<int>(tile % problem.row_tiles) * tile_rows + row;
    const std::int64_t group = tile / problem.row_tiles;
    if (j >= problem.columns || o >= problem.group_out) continue;
    double sum = 0.0;
#pragma unroll 8
    for (int split = 0; split < problem.splits; ++split) sum += problem.partial[split * count + e];
    const int tap = problem.by_group_in.quotient(j);
    const std::int64_t weight =
        (group * problem.group_out + o) * problem.columns +
        static_cast<std::int64_t>(j - tap * problem.group_in) * problem.taps + tap;
    problem.sums[weight] += sum;
  }
}

int narrow(std::int64_t value, const char* what) {
  constexpr std::int64_t kMost = std::int64_t{1} << 29U;
  FM_CHECK(value >= 0 && value < kMost, UNSUPPORTED, "squares of a contraction with ", what, " ",
           value, " are beyond the CUDA backend");
  return static_cast<int>(value);
}

bool in_fours(const float* memory, std::int64_t channels, std::int64_t of_group) {
  return reinterpret_cast<std::uintptr_t>(memory) % 16 == 0 && channels % 4 == 0 &&
         of_group % 4 == 0;
}

}  // namespace

TileProblem describe_contraction(const ContractionForm& form, double* sums) {
  TileProblem problem;
  problem.grad_output = form.grad_output;
  problem.input = form.input;
  problem.sums = sums;
  problem.batch = form.batch;
  problem.positions = narrow(form.out_height * form.out_width, "positions");
  problem.grad_rows = form.batch * problem.positions;
  problem.in_height = narrow(form.in_height, "height");
  problem.in_width = narrow(form.in_width, "width");
  problem.out_width = narrow(form.out_width, "width");
  problem.stride_height = narrow(form.stride_height, "stride");
  problem.stride_width = narrow(form.stride_width, "stride");
  problem.pad_top = narrow(form.pad_top, "padding");
  problem.pad_left = narrow(form.pad_left, "padding");
  // The reach of a window, and of the strides over an image: their sums stay below 2^31.
  (void)narrow(form.kernel_height * form.dilation_height, "kernel reach");
  (void)narrow(form.kernel_width * form.dilation_width, "kernel reach");
  (void)narrow(form.out_height * form.stride_height, "strided height");
  (void)narrow(form.out_width * form.stride_width, "strided width");
  problem.dilation_height = narrow(form.dilation_height, "dilation");
  problem.dilation_width = narrow(form.dilation_width, "dilation");
  problem.kernel_width = narrow(form.kernel_width, "kernel");
  problem.in_channels = narrow(form.in_channels, "channels");
  problem.out_channels = narrow(form.out_channels, "channels");
  problem.groups = narrow(form.groups, "groups");
  problem.group_in = problem.in_channels / problem.groups;
  problem.group_out = problem.out_channels / problem.groups;
  problem.taps = narrow(form.kernel_height * form.kernel_width, "kernel positions");
  problem.columns = narrow(static_cast<std::int64_t>(problem.group_in) * problem.taps, "weights");
  problem.wide_grad = in_fours(form.grad_output, form.out_channels, problem.group_out);
  problem.wide_input = in_fours(form.input, form.in_channels, problem.group_in);
  problem.by_out_width = FastDivide(problem.out_width);
  problem.by_group_in = FastDivide(problem.group_in);
  problem.by_kernel_width = FastDivide(problem.kernel_width);
  return problem;
}

void add_partial_tiles(Backend& backend, const TileProblem& problem, int tile_rows,
                       int tile_columns) {
  const std::int64_t count = problem.tiles() * tile_rows * tile_columns;
  launch("add_tiles", backend.stream(), over(count), add_tiles, problem, tile_rows, tile_columns,
         count);
}

std::int64_t count_splits(const Backend& backend, std::int64_t items, std::int64_t per_processor,
                          std::int64_t samples, std::int64_t least) {
  // Waves of blocks, so that the last and only partly filled one is a small part. Not measured on
  // a GPU.
  constexpr std::int64_t kWaves = 3;
  const std::int64_t wanted = kWaves * per_processor * backend.device_info().processors;
  const std::int64_t most = std::max<std::int64_t>(samples / least, 1);
  return std::clamp<std::int64_t>(wanted / std::max<std::int64_t>(items, 1), 1, most);
}

void accumulate_contraction_tiles(Backend& backend, const ContractionForm& form, double* sums) {
  if (form.batch == 0) return;
  launch_tiles<false>(backend, describe_contraction(form, sums));
}

}  // namespace fishermask::cuda
