#include "optim/optimizer.h"

#include <cmath>

#include "core/parallel.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 1 << 14;

void clear_held(const OptimizedParameter& p, float* values) {
  if (p.held == nullptr) return;
  for (const std::int64_t index : *p.held) values[index] = 0.0F;
}

void sgd_step(const OptimizerOptions& o, const OptimizedParameter& p, float* buffer, bool first,
              float rate) {
  const auto momentum = static_cast<float>(o.momentum);
  const auto keep = static_cast<float>(1.0 - o.dampening);
  const auto decay = static_cast<float>(o.weight_decay);
  const bool nesterov = o.nesterov;
  float* value = p.value;
  const float* gradient = p.gradient;
  parallel_for(p.count, kGrain, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      float g = gradient[i] + decay * value[i];
      if (buffer != nullptr) {
        // As in PyTorch, the first step takes the gradient whole, without dampening.
        buffer[i] = first ? g : momentum * buffer[i] + keep * g;
        g = nesterov ? g + momentum * buffer[i] : buffer[i];
      }
      value[i] -= rate * g;
    }
  });
}

void adamw_step(const OptimizerOptions& o, const OptimizedParameter& p, float* first, float* second,
                std::int64_t step, double learning_rate) {
  const auto b1 = static_cast<float>(o.beta1);
  const auto b2 = static_cast<float>(o.beta2);
  // Subtracted in f64: 1 − 0.999 in f32 is wrong by 1e-5 of itself.
  const auto rest1 = static_cast<float>(1.0 - o.beta1);
  const auto rest2 = static_cast<float>(1.0 - o.beta2);
  const auto epsilon = static_cast<float>(o.epsilon);
  const auto shrink = static_cast<float>(1.0 - learning_rate * o.weight_decay);
  const double correction1 = 1.0 - std::pow(o.beta1, static_cast<double>(step));
  const double correction2 = 1.0 - std::pow(o.beta2, static_cast<double>(step));
  const auto rate = static_cast<float>(learning_rate / correction1);
  const auto root_correction2 = static_cast<float>(std::sqrt(correction2));
  float* value = p.value;
  const float* gradient = p.gradient;
  parallel_for(p.count, kGrain, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float g = gradient[i];
      first[i] = b1 * first[i] + rest1 * g;
      second[i] = b2 * second[i] + rest2 * g * g;
      value[i] =
          value[i] * shrink - rate * first[i] / (std::sqrt(second[i]) / root_correction2 + epsilon);
    }
  });
}

}  // namespace

void check_options(const OptimizerOptions& o) {
  const auto in_unit = [](double v) { return v >= 0.0 && v < 1.0; };
  FM_CHECK(in_unit(o.momentum), CONFIG, "expected momentum in [0, 1) but received ", o.momentum);
  FM_CHECK(o.dampening >= 0.0 && o.dampening <= 1.0, CONFIG,
           "expected dampening in [0, 1] but received ", o.dampening);
  FM_CHECK(!o.nesterov || (o.momentum > 0.0 && o.dampening == 0.0), CONFIG,
           "nesterov needs momentum above 0 and no dampening");
  FM_CHECK(o.weight_decay >= 0.0 && std::isfinite(o.weight_decay), CONFIG,
           "expected weightDecay of at least 0 but received ", o.weight_decay);
  FM_CHECK(in_unit(o.beta1) && in_unit(o.beta2), CONFIG, "expected betas in [0, 1) but received ",
           o.beta1, " and ", o.beta2);
  FM_CHECK(o.epsilon > 0.0 && std::isfinite(o.epsilon), CONFIG,
           "expected epsilon above 0 but received ", o.epsilon);
}

Optimizer::Optimizer(OptimizerOptions options) : options_(options) { check_options(options_); }

void Optimizer::step(const std::vector<OptimizedParameter>& parameters, double learning_rate) {
  FM_CHECK(learning_rate >= 0.0 && std::isfinite(learning_rate), ARGUMENT,
           "expected a learning rate of at least 0 but received ", learning_rate);
  const bool adam = options_.kind == OptimizerOptions::Kind::kAdamW;
  const bool needs_first = adam || options_.momentum > 0.0;
  if (steps_ == 0) {
    std::vector<State> states(parameters.size());
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      const Shape shape = {parameters[p].count};
      if (needs_first) states[p].first = Tensor(DType::kF32, shape, "optimiser state");
      if (adam) states[p].second = Tensor(DType::kF32, shape, "optimiser state");
    }
    states_ = std::move(states);
  }
  FM_CHECK(states_.size() == parameters.size(), STATE, "the optimiser began with ", states_.size(),
           " parameters but received ", parameters.size());
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    const OptimizedParameter& parameter = parameters[p];
    State& state = states_[p];
    FM_CHECK(!needs_first || state.first.count() == parameter.count, STATE,
             "a parameter changed its size between optimiser steps");
    float* first = needs_first ? state.first.as<float>() : nullptr;
    clear_held(parameter, parameter.gradient);
    clear_held(parameter, parameter.value);
    if (adam) {
      adamw_step(options_, parameter, first, state.second.as<float>(), steps_ + 1, learning_rate);
    } else {
      sgd_step(options_, parameter, first, steps_ == 0, static_cast<float>(learning_rate));
    }
    clear_held(parameter, parameter.value);
    if (first != nullptr) clear_held(parameter, first);
    if (adam) clear_held(parameter, state.second.as<float>());
  }
  ++steps_;
}

}  // namespace fishermask
