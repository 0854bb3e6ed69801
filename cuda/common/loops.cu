// write_pixels, add_squares, add_values, all_finite: the loops of a pass that belong to no op.
// Deterministic: yes. Bound by memory.
#include "common/launch.cuh"
#include "common/loops.h"

namespace fishermask::cuda {
namespace {

// (raw / divisor − mean[c]) / std[c], rounded after every step as on the CPU.
template <typename Raw>
__global__ void normalise(const Raw* raw, const float* mean, const float* deviation, float divisor,
                          std::int64_t channels, std::int64_t count, float* to) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    float value = static_cast<float>(raw[i]);
    if (divisor != 1.0F) value = __fdiv_rn(value, divisor);
    if (mean != nullptr)
      value = __fdiv_rn(__fsub_rn(value, mean[i % channels]), deviation[i % channels]);
    to[i] = value;
  }
}

__global__ void accumulate(const float* g, std::int64_t count, double weight, bool squared,
                           double* sums) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const double value = g[i];
    sums[i] += weight * (squared ? value * value : value);
  }
}

__global__ void find_non_finite(const float* values, std::int64_t count, unsigned* found) {
  bool bad = false;
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    // Exponent of ones: infinity or NaN.
    bad = bad || (__float_as_uint(values[i]) & 0x7F800000U) == 0x7F800000U;
  }
  if (bad) atomicOr(found, 1U);
}

__global__ void zero_at(float* values, const std::int64_t* indices, std::int64_t count) {
  for (std::int64_t i = first_item(); i < count; i += item_step()) values[indices[i]] = 0.0F;
}

}  // namespace

void normalise_pixels(cudaStream_t stream, const std::uint8_t* raw, const float* mean,
                      const float* deviation, float divisor, std::int64_t channels,
                      std::int64_t count, float* to) {
  launch("normalise", stream, over(count), normalise<std::uint8_t>, raw, mean, deviation, divisor,
         channels, count, to);
}
void normalise_pixels(cudaStream_t stream, const float* raw, const float* mean,
                      const float* deviation, float divisor, std::int64_t channels,
                      std::int64_t count, float* to) {
  launch("normalise", stream, over(count), normalise<float>, raw, mean, deviation, divisor,
         channels, count, to);
}

void accumulate_sums(cudaStream_t stream, const float* g, std::int64_t count, double weight,
                     bool squared, double* sums) {
  launch("accumulate", stream, over(count), accumulate, g, count, weight, squared, sums);
}

void note_non_finite(cudaStream_t stream, const float* values, std::int64_t count,
                     unsigned* found) {
  launch("find_non_finite", stream, over(count), find_non_finite, values, count, found);
}

void zero_elements(cudaStream_t stream, float* values, const std::int64_t* indices,
                   std::int64_t count) {
  launch("zero_at", stream, over(count), zero_at, values, indices, count);
}

}  // namespace fishermask::cuda
