// cross_entropy: the loss on logits, and its gradients as seeds of the reverse pass.
// Math:       ℓ_n = T · Σ_p (logsumexp(z_np/T) − z_np[y_np]/T) over the counted positions p of
// sample
//             n; ∂ℓ_n/∂z_np = softmax(z_np/T) − onehot(y_np).
// Shapes:     logits (N, …, C) as (batch, positions, classes); labels (N, …) int32; label −1 is not
//             counted. Temperature T > 0.
// Reduction:  a SUM over a sample's positions; nothing is divided by the batch. Scale the seeds for
//             what is wanted: 1 for the empirical Fisher, 1/N to train on the mean, √p(y|x) with
//             the label y in every sample for one class of the expected Fisher (label −1
//             elsewhere).
// Precision:  exponentials and sums in f64; p − 1 is taken from the other classes' probabilities,
// so
//             that a saturated sample keeps its digits.
// Deterministic: yes, for any thread count.
#pragma once

#include <cstdint>

#include "core/logits_shape.h"

namespace fishermask {

// Writes per_sample_loss (N,), and predictions (N, positions) unless null: the class of the largest
// logit, the first among equals, at every position, counted or not. T is float or double.
// Errors: ARGUMENT for a label outside [-1, C) or a temperature that is not positive; NON_FINITE
// naming the first sample whose loss is NaN or infinite.
template <typename T>
PredictionCounts cross_entropy_forward(const LogitsShape& shape, const T* logits,
                                       const std::int32_t* labels, double temperature,
                                       double* per_sample_loss,
                                       std::int32_t* predictions = nullptr);

// Overwrites grad_logits (N, …, C) with scales[n] · ∂ℓ_n/∂z; 0 at positions that are not counted.
// Errors: ARGUMENT as above.
template <typename T>
void cross_entropy_seed(const LogitsShape& shape, const T* logits, const std::int32_t* labels,
                        double temperature, const double* scales, T* grad_logits);

// probabilities (N, …, C) = softmax(logits/T). P is T or double. Errors: ARGUMENT (temperature).
template <typename T, typename P>
void softmax_probabilities(const LogitsShape& shape, const T* logits, double temperature,
                           P* probabilities);

}  // namespace fishermask
