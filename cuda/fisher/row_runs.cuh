// Walking over the positions that hold one embedding row, sample by sample.
#pragma once

#include "fisher/fast_divide.cuh"
#include "fisher/sorted_ids.h"

namespace fishermask::cuda {

__device__ __forceinline__ unsigned row_of(IdKey key) { return static_cast<unsigned>(key >> 32U); }
__device__ __forceinline__ int position_of(IdKey key) {
  return static_cast<int>(key & 0x7FFFFFFFU);
}
// Whether keys[e] is the first of its row.
__device__ __forceinline__ bool begins_row(const IdKey* keys, std::int64_t e) {
  return e == 0 || row_of(keys[e]) != row_of(keys[e - 1]);
}

// Calls end_sample(n, G) for each sample that holds the row of keys[first], in order, with G the
// sum of grad[position, c]. Reads are kAhead at a time, as each alone would wait for memory.
template <typename EndSample>
__device__ __forceinline__ void walk_row(const IdKey* keys, std::int64_t first, std::int64_t count,
                                         FastDivide by_positions, const float* grad,
                                         std::int64_t channels, std::int64_t c,
                                         const EndSample& end_sample) {
  constexpr int kAhead = 4;
  const unsigned row = row_of(keys[first]);
  int sample = by_positions.quotient(position_of(keys[first]));
  double sum = 0.0;
  for (std::int64_t e = first; e < count; e += kAhead) {
    int samples[kAhead];
    float values[kAhead];
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      const IdKey key = e + u < count ? keys[e + u] : kNoRow;
      const bool mine = row_of(key) == row;
      const int position = position_of(key);
      samples[u] = mine ? by_positions.quotient(position) : -1;
      values[u] = mine ? grad[position * channels + c] : 0.0F;
    }
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      if (samples[u] != sample) {
        end_sample(sample, sum);
        if (samples[u] < 0) return;
        sample = samples[u];
        sum = 0.0;
      }
      sum += static_cast<double>(values[u]);
    }
  }
  end_sample(sample, sum);
}

}  // namespace fishermask::cuda
