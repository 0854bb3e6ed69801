// Launchers of the loops of a pass that belong to no op (loops.cu). All pointers are the device's.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace fishermask::cuda {

// to[i] = (raw[i] / divisor − mean[c]) / deviation[c], c = i mod channels; mean null: the divisor
// alone.
void normalise_pixels(cudaStream_t stream, const std::uint8_t* raw, const float* mean,
                      const float* deviation, float divisor, std::int64_t channels,
                      std::int64_t count, float* to);
void normalise_pixels(cudaStream_t stream, const float* raw, const float* mean,
                      const float* deviation, float divisor, std::int64_t channels,
                      std::int64_t count, float* to);
// sums[i] += weight · g[i], or weight · g[i]².
void accumulate_sums(cudaStream_t stream, const float* g, std::int64_t count, double weight,
                     bool squared, double* sums);
// *found |= 1 where a value is NaN or infinite.
void note_non_finite(cudaStream_t stream, const float* values, std::int64_t count, unsigned* found);
void zero_elements(cudaStream_t stream, float* values, const std::int64_t* indices,
                   std::int64_t count);

}  // namespace fishermask::cuda
