#include "ops/softmax_row.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/vector_clones.h"
#include "ops/vector_math.h"

namespace fishermask {
namespace {

constexpr std::int64_t kLanes = 16;
using Lanes [[gnu::vector_size(64), gnu::aligned(4), gnu::may_alias]] = float;

FM_INLINE_IN_CLONES const Lanes& load(const float* from) {
  return *reinterpret_cast<const Lanes*>(from);
}

FM_VECTOR_CLONES void shift_scores(float* __restrict scores, std::int64_t count, float scale,
                                   const float* __restrict mask) {
  if (mask == nullptr) {
    for (std::int64_t s = 0; s < count; ++s) scores[s] *= scale;
  } else {
    for (std::int64_t s = 0; s < count; ++s) scores[s] = scores[s] * scale + mask[s];
  }
}

// NaN takes no part.
FM_VECTOR_CLONES float largest_of(const float* row, std::int64_t count) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  float largest = kLowest;
  std::int64_t s = 0;
  if (count >= kLanes) {
    Lanes lanes = Lanes{} + kLowest;
    for (; s + kLanes <= count; s += kLanes) {
      const Lanes& next = load(row + s);
      lanes = next > lanes ? next : lanes;
    }
    for (std::int64_t i = 0; i < kLanes; ++i) largest = std::max(largest, lanes[i]);
  }
  for (; s < count; ++s) largest = std::max(largest, row[s]);
  return largest;
}

FM_VECTOR_CLONES void exponentials(float* row, std::int64_t count, float largest) {
  for (std::int64_t s = 0; s < count; ++s) row[s] = vector_math::exp(row[s] - largest);
}

FM_VECTOR_CLONES float sum_of(const float* row, std::int64_t count) {
  Lanes lanes = {};
  float sum = 0;
  std::int64_t s = 0;
  for (; s + kLanes <= count; s += kLanes) lanes += load(row + s);
  for (; s < count; ++s) sum += row[s];
  for (std::int64_t i = 0; i < kLanes; ++i) sum += lanes[i];
  return sum;
}

FM_VECTOR_CLONES float product_of(const float* a, const float* b, std::int64_t count) {
  Lanes lanes = {};
  float sum = 0;
  std::int64_t s = 0;
  for (; s + kLanes <= count; s += kLanes) lanes += load(a + s) * load(b + s);
  for (; s < count; ++s) sum += a[s] * b[s];
  for (std::int64_t i = 0; i < kLanes; ++i) sum += lanes[i];
  return sum;
}

FM_VECTOR_CLONES void gradient_of(const float* __restrict weights, std::int64_t count, float mean,
                                  float* __restrict gradient) {
  for (std::int64_t s = 0; s < count; ++s) gradient[s] = weights[s] * (gradient[s] - mean);
}

FM_VECTOR_CLONES void add_values(const float* __restrict from, std::int64_t count,
                                 float* __restrict to) {
  for (std::int64_t s = 0; s < count; ++s) to[s] += from[s];
}

FM_VECTOR_CLONES void scale_values(float* row, std::int64_t count, float by) {
  for (std::int64_t s = 0; s < count; ++s) row[s] *= by;
}

}  // namespace

void masked_softmax_row(float* scores, std::int64_t count, float scale, const float* mask,
                        float nothing) {
  shift_scores(scores, count, scale, mask);
  const float largest = largest_of(scores, count);
  if (largest <= nothing) {
    const bool is_nan =
        std::any_of(scores, scores + count, [](float score) { return std::isnan(score); });
    std::fill_n(scores, count, is_nan ? std::numeric_limits<float>::quiet_NaN() : 0.0F);
    return;
  }
  exponentials(scores, count, largest);
  scale_values(scores, count, 1.0F / sum_of(scores, count));
}

void softmax_row_gradient(const float* weights, std::int64_t count, float* gradient) {
  gradient_of(weights, count, product_of(weights, gradient, count), gradient);
}

void add_row(const float* from, std::int64_t count, float* to) { add_values(from, count, to); }

void scale_row(float* row, std::int64_t count, float by) { scale_values(row, count, by); }

}  // namespace fishermask
