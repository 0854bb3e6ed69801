// Convolution, and its transposed direction, as one gather (conv_problem.h).
#pragma once

#include "common/backend.h"
#include "ops/conv_pack.h"
#include "ops/conv_problem.h"

namespace fishermask::cuda {

// How the tiles of a gather want its weights: packed_depth, packed_columns are filled in.
PackOrder plan_gather(Precision precision, ConvGather& gather);
void run_gather(Backend& backend, Precision precision, ConvGather gather);

// A thread per destination, for groups of few channels, where a tile would be mostly padding.
// packed (depth, dest_channels). f32 whatever the precision.
void run_gather_direct(cudaStream_t stream, const ConvGather& gather);

}  // namespace fishermask::cuda
