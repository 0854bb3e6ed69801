// One launch of the tile kernel of contraction_tile.cuh: a form with everything divided, folded and
// checked that the host can do once.
#pragma once

#include "common/backend.h"
#include "fisher/fast_divide.cuh"

namespace fishermask::cuda {

// Indices inside one sample are int, across samples int64.
struct TileProblem {
  const float* grad_output = nullptr;
  const float* input = nullptr;
  double* sums = nullptr;
  double* partial = nullptr;  // (splits, tiles, rows of a tile, columns of a tile); null: one split

  std::int64_t batch = 0;
  std::int64_t samples_per_split = 0;
  std::int64_t grad_rows = 0;  // positions of all samples; the last of vectors' may lack some
  int positions = 1;           // of one sample
  int padded_positions = 1;    // to a multiple of the step of the products
  int in_height = 1, in_width = 1, out_width = 1;
  int stride_height = 1, stride_width = 1, pad_top = 0, pad_left = 0;
  int dilation_height = 1, dilation_width = 1, kernel_width = 1;
  int in_channels = 1, out_channels = 1;  // of all groups
  int group_in = 1, group_out = 1;        // of one
  int groups = 1, taps = 1;               // taps: kernel positions
  int columns = 1;                        // group_in · taps, channels fastest
  int row_tiles = 1, column_tiles = 1, splits = 1;
  bool wide_grad = false, wide_input = false;  // channels in fours, aligned to 16 bytes
  FastDivide by_padded, by_out_width, by_group_in, by_kernel_width;

  [[nodiscard]] __host__ __device__ std::int64_t tiles() const {
    return static_cast<std::int64_t>(groups) * row_tiles * column_tiles;
  }
};

// Everything of the form; what depends on the shape of the tiles is left. Errors: UNSUPPORTED.
[[nodiscard]] TileProblem describe_contraction(const ContractionForm& form, double* sums);

// sums += the splits' partial tiles, in their order. Deterministic.
void add_partial_tiles(Backend& backend, const TileProblem& problem, int tile_rows,
                       int tile_columns);

// How many shares the samples (at least `least` each) are divided into so that `items` pieces of
// work, `per_processor` of which run on a processor at once, fill the device.
[[nodiscard]] std::int64_t count_splits(const Backend& backend, std::int64_t items,
                                        std::int64_t per_processor, std::int64_t samples,
                                        std::int64_t least);

}  // namespace fishermask::cuda
