// The passes over one row of attention's scores, in f32.
#pragma once

#include <cstdint>

namespace fishermask {

// scores[s] = softmax of scale · scores[s] + mask[s]; mask may be null. Zeros where no such value
// is above `nothing`; NaN anywhere makes the whole row NaN.
void masked_softmax_row(float* scores, std::int64_t count, float scale, const float* mask,
                        float nothing);

// From the gradient of the weights to that of the scores: g[s] = P[s] · (g[s] − Σ P·g).
void softmax_row_gradient(const float* weights, std::int64_t count, float* gradient);

// to += from
void add_row(const float* from, std::int64_t count, float* to);

// row *= by
void scale_row(float* row, std::int64_t count, float by);

}  // namespace fishermask
