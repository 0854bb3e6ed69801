// Accumulates the diagonal Fisher of a network over batches: F_S[i] = Σ_{n∈S} (∂ℓ_n/∂θ_i)², sums in
// f64. Source: DESIGN; the batch-mean form is that of the code published with Liu et al.,
// arXiv:2310.05331.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fisher/fisher_sums.h"
#include "graph/batch.h"
#include "graph/network.h"
#include "ops/logits.h"

namespace fishermask {

enum class FisherLabels : std::uint8_t { kEmpirical, kExpected, kSampled };
enum class FisherGradient : std::uint8_t { kPerSample, kBatchMean };

struct FisherOptions {
  FisherLabels labels = FisherLabels::kEmpirical;
  FisherGradient gradient = FisherGradient::kPerSample;
  double temperature = 1.0;    // logits are divided by it, the loss multiplied by it
  std::uint64_t seed = 0;      // for kSampled
  bool gradient_sums = false;  // also Σ_n ∂ℓ_n/∂θ, always with the data's labels
  bool per_token = false;      // a term for each counted token of a sequence, not one for their sum
  bool generic = false;        // the generic rule instead of the fused kernels
  bool training = false;  // refused: there only so that asking for it is an error and not ignored
};

class FisherPass {
 public:
  // network must outlive the pass. Errors: ARGUMENT (temperature), STATE (training), OUT_OF_MEMORY.
  FisherPass(Network& network, FisherOptions options);

  // Adds one batch. labels: (N, …) int32, −1 not counted; first_sample: the number of the batch's
  // first sample in the whole pass (the `sampled` labels of a sample do not depend on the batch
  // size). Errors: SHAPE, ARGUMENT (labels), NON_FINITE naming the sample, UNSUPPORTED (expected
  // labels on sequences). After an error the sums are those of before the call only if nothing was
  // added yet: the caller drops the pass.
  void step(const BatchData& batch, std::span<const std::int32_t> labels,
            std::uint64_t first_sample);

  // By parameter index; empty for buffers. Errors: NON_FINITE naming the parameter.
  [[nodiscard]] const std::vector<std::vector<double>>& square_sums() const;
  [[nodiscard]] const std::vector<std::vector<double>>& gradient_sums() const;
  [[nodiscard]] std::int64_t samples() const noexcept { return samples_; }
  // What the sums are divided by for the mean: samples, or batches for kBatchMean.
  [[nodiscard]] std::int64_t terms() const noexcept { return terms_; }
  [[nodiscard]] double loss_sum() const noexcept { return loss_sum_; }
  [[nodiscard]] std::int64_t correct() const noexcept { return correct_; }

 private:
  struct Batch;
  void add_per_sample(const Batch& batch);
  void add_squares(const Batch& batch, std::span<const std::int32_t> labels,
                   const BackwardRequest& request);
  void add_batch_mean(const Batch& batch);
  // Whether one reverse pass can take squares and gradients: both of the data's labels.
  [[nodiscard]] bool gradients_ride_along() const;
  void reverse_gradients(const Batch& batch);
  // The loss of the batch; a NON_FINITE error says where in the pass the batch begins.
  [[nodiscard]] LossResult checked_loss(const Batch& batch) const;
  // Seeds the reverse pass with labels and scales, and runs it.
  void reverse(const Batch& batch, std::span<const std::int32_t> labels,
               std::span<const double> scales, const BackwardRequest& request) const;
  void clear_gradients() const;
  // `label` for every sample that is counted.
  [[nodiscard]] static std::vector<std::int32_t> class_labels(std::span<const std::int32_t> labels,
                                                              std::size_t label);
  [[nodiscard]] std::vector<std::int32_t> sampled_labels(const Batch& batch) const;
  [[nodiscard]] BackwardRequest squares_request();
  [[nodiscard]] BackwardRequest gradients_request() const;
  // Errors: NON_FINITE naming the parameter.
  void check_finite(const std::vector<std::vector<double>>& sums) const;
  // (N · positions, C) on the host, at the pass's temperature.
  [[nodiscard]] std::vector<double> class_probabilities(const Batch& batch) const;

  Network& network_;
  FisherOptions options_;
  std::unique_ptr<SquareSink> sink_;  // of the network's device
  FisherSums squares_;
  FisherSums gradients_;
  std::vector<Tensor> batch_gradients_;  // by parameter index; for batch-mean and gradient sums
  std::int64_t samples_ = 0;
  std::int64_t terms_ = 0;
  double loss_sum_ = 0.0;
  std::int64_t correct_ = 0;
};

}  // namespace fishermask
