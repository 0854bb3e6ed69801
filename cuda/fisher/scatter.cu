// The scatter form (scatter.h): the positions are sorted by their row; one block for each run of
// equal rows and up to kThreads channels. There is no N × V × C buffer and no atomic.
// Bound by memory: δ is read once, the touched rows of the sums are read and written once; a row
// that most positions hold is one block's work.
#include <algorithm>

#include "common/launch.cuh"
#include "fisher/row_runs.cuh"
#include "fisher/scatter.h"

namespace fishermask::cuda {
namespace {

constexpr int kThreads = 128;
// Of one processor at once: without a number the compiler aims at so many that it spills.
constexpr int kBlocks = 4;

__global__ void __launch_bounds__(kThreads, kBlocks)
    scatter_rows(const IdKey* keys, std::int64_t count, FastDivide by_positions, const float* grad,
                 std::int64_t channels, double* sums) {
  for (std::int64_t e = blockIdx.x; e < count; e += gridDim.x) {
    if (keys[e] == kNoRow) return;  // so are all behind it
    if (!begins_row(keys, e)) continue;
    double* const row = sums + row_of(keys[e]) * channels;
    for (std::int64_t c = static_cast<std::int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
         c < channels; c += static_cast<std::int64_t>(gridDim.y) * blockDim.x) {
      double squares = 0.0;
      walk_row(keys, e, count, by_positions, grad, channels, c,
               [&](int /*sample*/, double gradient) { squares += gradient * gradient; });
      row[c] += squares;
    }
  }
}

}  // namespace

void accumulate_scatter(Backend& backend, const ScatterForm& form, double* sums) {
  const SortedIds sorted = sort_ids(backend, form);
  if (sorted.count == 0) return;
  const std::int64_t threads = std::min<std::int64_t>((form.channels + 31) / 32 * 32, kThreads);
  const std::int64_t channel_blocks =
      std::min<std::int64_t>((form.channels + threads - 1) / threads, 65535);
  launch("scatter_rows", backend.stream(),
         {dim3(static_cast<unsigned>(std::min<std::int64_t>(sorted.count, kMostBlocks)),
               static_cast<unsigned>(channel_blocks)),
          dim3(static_cast<unsigned>(threads))},
         scatter_rows, sorted.keys.data(), sorted.count, FastDivide(form.positions),
         form.grad_output, form.channels, sums);
}

}  // namespace fishermask::cuda
