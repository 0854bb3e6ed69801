// The weights of a convolution in the order in which a gather reads them.
#pragma once

#include "common/backend.h"
#include "ops/conv_problem.h"

namespace fishermask::cuda {

enum class PackOrder {
  kDepthColumn,  // (groups, depth, columns): the f32 tiles
  kColumnDepth,  // (groups, columns, depth): the tensor cores' tiles
  kDirect,       // (depth, groups · columns): the direct kernel, not padded
};

// W is (O, I/groups, taps). A gather that goes forward reads input channels and writes outputs;
// transposed it reads outputs and writes inputs.
struct ConvPack {
  const float* weight = nullptr;
  float* packed = nullptr;
  PackOrder order = PackOrder::kDepthColumn;
  bool transposed = false;
  int groups = 1;
  int taps = 0, tap_columns = 0;  // that the gather uses
  int kernel_taps = 1, kernel_columns = 1;
  int first_row = 0, row_step = 1, first_column = 0, column_step = 1;  // tap of the kernel
  int source_per_group = 1, dest_per_group = 1;
  int depth = 0, columns = 0;  // of a group, padded with 0

  [[nodiscard]] std::int64_t count() const { return std::int64_t{groups} * depth * columns; }
};

void pack_weights(cudaStream_t stream, const ConvPack& pack);

}  // namespace fishermask::cuda
