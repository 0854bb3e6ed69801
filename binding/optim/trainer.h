// Training steps on a network: forward in training mode, mean cross-entropy, backward, optimiser.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "graph/batch.h"
#include "graph/network.h"
#include "ops/logits.h"
#include "optim/optimizer.h"

namespace fishermask {

class Trainer {
 public:
  // network must outlive the trainer and be f32. Errors: STATE (f64), CONFIG (options),
  // OUT_OF_MEMORY.
  Trainer(Network& network, OptimizerOptions options, std::uint64_t seed);

  // Holds the weights whose bit in `keep` is 0 (one bit per weight, LSB first) at exactly 0 from
  // now on. Errors: ARGUMENT (unknown tensor, wrong length).
  void hold(const std::string& parameter, std::span<const std::uint8_t> keep);

  // sign +1 descends the mean loss, −1 ascends it. Loss and accuracy are those before the step.
  // Errors: those of write_batch and loss_of; NON_FINITE when a gradient is not finite (the weights
  // are unchanged then).
  LossResult step(const BatchData& batch, std::span<const std::int32_t> labels,
                  double learning_rate, double sign = 1.0);

 private:
  void check_gradients() const;

  Network& network_;
  Optimizer optimizer_;
  std::uint64_t seed_;
  std::vector<Tensor> gradients_;  // by parameter index; empty for buffers
  struct Held {
    std::vector<std::int64_t> indices;     // ascending
    std::shared_ptr<std::byte> on_device;  // the same, where the network is on a device
  };
  std::map<int, Held> held_;  // by parameter index
};

// Forward in evaluation mode. Values named in `keep` can be read from the returned executor until
// the next pass.
struct Evaluation {
  LossResult loss;
  Executor* executor = nullptr;
};
[[nodiscard]] Evaluation evaluate_batch(Network& network, const BatchData& batch,
                                        std::span<const std::int32_t> labels, double temperature,
                                        const std::vector<std::string>& keep);

}  // namespace fishermask
