// What conv_transpose2d's reference and fast kernels share (ops/conv_transpose2d.cc says what the
// op computes).
#pragma once

#include <memory>

#include "core/conv_sizes.h"
#include "graph/op.h"

namespace fishermask {

[[nodiscard]] std::unique_ptr<Kernel> make_conv_transpose2d_fast(const ConvTransposeSizes& sizes);

}  // namespace fishermask
