// The cross-entropy of loss.h on the tensors of an executor, whatever its real type and device
// (null: the CPU).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/device.h"
#include "core/tensor.h"
#include "ops/loss.h"

namespace fishermask {

// logits (N, …, C) -> batch, positions, classes. Errors: SHAPE for fewer than two sizes.
[[nodiscard]] LogitsShape logits_shape(const TensorView& logits);

struct LossResult {
  std::vector<double> per_sample;         // (N,)
  std::vector<std::int32_t> predictions;  // (N · positions,)
  std::int64_t counted = 0;
  std::int64_t correct = 0;
};

// Errors: SHAPE (labels), and those of cross_entropy_forward.
[[nodiscard]] LossResult loss_of(const TensorView& logits, std::span<const std::int32_t> labels,
                                 double temperature, Device* device = nullptr);
// softmax(z/T) in f64, (N · positions, C).
[[nodiscard]] std::vector<double> probabilities(const TensorView& logits, double temperature,
                                                Device* device = nullptr);
// Overwrites grad_logits with scales[n] · ∂ℓ_n/∂z.
void seed_loss(const TensorView& logits, std::span<const std::int32_t> labels, double temperature,
               std::span<const double> scales, const TensorView& grad_logits,
               Device* device = nullptr);

}  // namespace fishermask
