// Packs the weights of a convolution for one gather: depth (tap, source channel) by destination
// channel, padded with zeros to whole tiles, so that the gather need not check what it reads.
// Deterministic: yes. Bound by memory; reads stride by the kernel's taps.
#include "common/launch.cuh"
#include "ops/conv_pack.h"

namespace fishermask::cuda {
namespace {

__device__ __forceinline__ float weight_at(const ConvPack& p, int group, int depth, int column) {
  const int tap = depth / p.source_per_group;
  const int source = depth - tap * p.source_per_group;
  if (tap >= p.taps || column >= p.dest_per_group) return 0.0F;
  const int row = p.first_row + tap / p.tap_columns * p.row_step;
  const int across = p.first_column + tap % p.tap_columns * p.column_step;
  const int out = p.transposed ? source : column;
  const int in = p.transposed ? column : source;
  const int outs = p.transposed ? p.source_per_group : p.dest_per_group;
  const int ins = p.transposed ? p.dest_per_group : p.source_per_group;
  const std::int64_t channel = (std::int64_t{group} * outs + out) * ins + in;
  return p.weight[channel * p.kernel_taps + row * p.kernel_columns + across];
}

__global__ void pack_kernel(const ConvPack p) {
  const std::int64_t count = std::int64_t{p.groups} * p.depth * p.columns;
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    int group, depth, column;
    if (p.order == PackOrder::kDirect) {
      column = static_cast<int>(i % p.columns);
      group = static_cast<int>(i / p.columns % p.groups);
      depth = static_cast<int>(i / (std::int64_t{p.columns} * p.groups));
    } else {
      const std::int64_t per_group = std::int64_t{p.depth} * p.columns;
      group = static_cast<int>(i / per_group);
      const int rest = static_cast<int>(i - group * per_group);
      const bool column_inner = p.order == PackOrder::kDepthColumn;
      column = column_inner ? rest % p.columns : rest / p.depth;
      depth = column_inner ? rest / p.columns : rest % p.depth;
    }
    p.packed[i] = weight_at(p, group, depth, column);
  }
}

}  // namespace

void pack_weights(cudaStream_t stream, const ConvPack& pack) {
  if (pack.count() == 0) return;
  launch("conv_pack", stream, over(pack.count()), pack_kernel, pack);
}

}  // namespace fishermask::cuda
