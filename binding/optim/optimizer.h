// Optimisers: one step over all trainable parameters, in place. PyTorch's meaning of every
// hyper-parameter.
//
// Masked weights: a held unit's weight, gradient and state are set to exactly 0 before and after
// each step, so that momentum, weight decay and Adam's averages cannot bring it back.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/device.h"
#include "core/tensor.h"

namespace fishermask {

struct OptimizerOptions {
  enum class Kind : std::uint8_t { kSgd, kAdamW };
  Kind kind = Kind::kSgd;
  double momentum = 0.0;      // SGD
  double dampening = 0.0;     // SGD
  bool nesterov = false;      // SGD
  double weight_decay = 0.0;  // SGD: added to the gradient; AdamW: decoupled
  double beta1 = 0.9;         // AdamW
  double beta2 = 0.999;       // AdamW
  double epsilon = 1e-8;      // AdamW
};

// Throws CONFIG naming the option that is out of range.
void check_options(const OptimizerOptions& options);

// One parameter as the optimiser sees it. All f32, of the same count, in the optimiser's device's
// memory.
struct OptimizedParameter {
  float* value = nullptr;
  float* gradient = nullptr;  // ∂(mean loss)/∂value; masked entries are cleared
  std::int64_t count = 0;
  // Indices that are held at 0, ascending.
  const std::int64_t* held = nullptr;
  std::int64_t held_count = 0;
};

class Optimizer {
 public:
  // device: where the parameters are, and outlives the optimiser; null: the CPU.
  explicit Optimizer(OptimizerOptions options, Device* device = nullptr);
  // The same parameters in the same order at every step. State is taken at the first step.
  // Errors: OUT_OF_MEMORY, STATE when the parameters changed in number or size.
  void step(const std::vector<OptimizedParameter>& parameters, double learning_rate);
  [[nodiscard]] std::int64_t steps() const noexcept { return steps_; }

 private:
  struct State {
    Tensor first;   // momentum buffer, or Adam's first moment
    Tensor second;  // Adam's second moment
  };
  void take_states(const std::vector<OptimizedParameter>& parameters);
  void clear_held(const OptimizedParameter& parameter, float* values) const;
  OptimizerOptions options_;
  Device* device_ = nullptr;
  std::vector<State> states_;
  std::int64_t steps_ = 0;
};

}  // namespace fishermask
