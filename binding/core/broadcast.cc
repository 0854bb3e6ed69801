#include "core/broadcast.h"

namespace fishermask {
namespace {

// Strides of a contiguous operand along the output's sizes, aligned at the end; 0 where repeated.
std::vector<std::int64_t> strides_along(const Shape& shape, const Shape& output) {
  std::vector<std::int64_t> strides(output.size(), 0);
  std::int64_t stride = 1;
  for (std::size_t back = 1; back <= shape.size() && back <= output.size(); ++back) {
    const std::int64_t size = shape[shape.size() - back];
    if (size != 1) strides[output.size() - back] = stride;
    stride *= size;
  }
  return strides;
}

bool continues(const BroadcastDim& outer, const BroadcastDim& inner) {
  for (std::size_t k = 0; k < outer.stride.size(); ++k) {
    if (outer.stride[k] != inner.stride[k] * inner.size) return false;
  }
  return true;
}

BroadcastDims merged(const BroadcastDims& dims) {
  BroadcastDims all;
  for (const BroadcastDim& dim : dims) {
    if (dim.size == 1) continue;
    if (!all.empty() && continues(all.back(), dim)) {
      all.back().size *= dim.size;
      all.back().stride = dim.stride;
    } else {
      all.push_back(dim);
    }
  }
  if (all.empty()) all.emplace_back();
  return all;
}

}  // namespace

std::optional<Shape> broadcast_shapes(const Shape& a, const Shape& b) {
  Shape result = a.size() >= b.size() ? a : b;
  const Shape& shorter = a.size() >= b.size() ? b : a;
  for (std::size_t back = 1; back <= shorter.size(); ++back) {
    std::int64_t& size = result[result.size() - back];
    const std::int64_t other = shorter[shorter.size() - back];
    if (size != other && size != 1 && other != 1) return {};
    if (size == 1) size = other;
  }
  return result;
}

BroadcastDims broadcast_dims(const std::vector<BroadcastOperand>& operands, const Shape& output,
                             std::int64_t batch) {
  FM_CHECK(operands.size() <= kMostOperands && output.size() <= kMostRank, INTERNAL,
           "more operands or sizes than a broadcast can walk");
  BroadcastDims dims(output.size() + 1);
  const auto set = [&](std::size_t lane, const Shape& shape, bool batched) {
    const std::vector<std::int64_t> strides = strides_along(shape, output);
    for (std::size_t d = 0; d < output.size(); ++d) dims[d + 1].stride[lane] = strides[d];
    dims[0].stride[lane] = batched ? element_count(shape) : 0;
  };
  for (std::size_t k = 0; k < operands.size(); ++k) {
    set(k, operands[k].shape, operands[k].batched);
  }
  set(kOutputLane, output, true);
  dims[0].size = batch;
  for (std::size_t d = 0; d < output.size(); ++d) dims[d + 1].size = output[d];
  return merged(dims);
}

SplitDims split_dims(const BroadcastDims& dims, std::size_t lane) {
  SplitDims split;
  for (const BroadcastDim& dim : dims) {
    (dim.stride[lane] != 0 ? split.kept : split.repeated).push_back(dim);
  }
  return split;
}

std::int64_t dims_count(const BroadcastDims& dims) {
  std::int64_t count = 1;
  for (const BroadcastDim& dim : dims) count *= dim.size;
  return count;
}

LaneOffsets offsets_at(const BroadcastDims& dims, std::int64_t flat) {
  LaneOffsets offsets{};
  for (std::size_t d = dims.size(); d-- > 0;) {
    const std::int64_t index = flat % dims[d].size;
    flat /= dims[d].size;
    for (std::size_t k = 0; k < offsets.size(); ++k) offsets[k] += index * dims[d].stride[k];
  }
  return offsets;
}

}  // namespace fishermask
