// The rooms of the backend that the device puts together (device.cc), each with its own file.
#pragma once

#include <memory>
#include <span>

#include "common/backend.h"

namespace fishermask::cuda {

// cuda/fisher/square_sink.cu: the fused squared-gradient kernels.
[[nodiscard]] std::unique_ptr<SquareSink> make_square_sink(Backend& backend);

// cuda/ops/cross_entropy.cu: ops/loss.h with logits on the device, the rest on the host.
PredictionCounts cross_entropy(Backend& backend, const LogitsShape& shape, const float* logits,
                               std::span<const std::int32_t> labels, double temperature,
                               double* per_sample_loss, std::int32_t* predictions);
void cross_entropy_seed(Backend& backend, const LogitsShape& shape, const float* logits,
                        std::span<const std::int32_t> labels, double temperature,
                        std::span<const double> scales, float* grad_logits);
void softmax_probabilities(Backend& backend, const LogitsShape& shape, const float* logits,
                           double temperature, double* probabilities);

// cuda/optim/optimizer.cu
void sgd_step(Backend& backend, const DeviceSgd& step, std::span<const DeviceOptimized> parameters);
void adamw_step(Backend& backend, const DeviceAdamW& step,
                std::span<const DeviceOptimized> parameters);

// cuda/mask/top_k.cu
[[nodiscard]] DeviceMaskResult mask_top_k(Backend& backend, const DeviceMaskRequest& request);

}  // namespace fishermask::cuda
