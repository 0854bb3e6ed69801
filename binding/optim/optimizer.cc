#include "optim/optimizer.h"

#include <cmath>

#include "core/parallel.h"
#include "core/placement.h"

namespace fishermask {
namespace {

constexpr std::int64_t kGrain = 1 << 14;

// The numbers of a step, in the order in which PyTorch rounds them.
DeviceSgd sgd_numbers(const OptimizerOptions& o, bool first_step, double learning_rate) {
  DeviceSgd step;
  step.momentum = static_cast<float>(o.momentum);
  step.keep = static_cast<float>(1.0 - o.dampening);
  step.decay = static_cast<float>(o.weight_decay);
  step.rate = static_cast<float>(learning_rate);
  step.nesterov = o.nesterov;
  step.first_step = first_step;
  return step;
}

DeviceAdamW adamw_numbers(const OptimizerOptions& o, std::int64_t step, double learning_rate) {
  const double correction1 = 1.0 - std::pow(o.beta1, static_cast<double>(step));
  const double correction2 = 1.0 - std::pow(o.beta2, static_cast<double>(step));
  DeviceAdamW numbers;
  numbers.beta1 = static_cast<float>(o.beta1);
  numbers.beta2 = static_cast<float>(o.beta2);
  // Subtracted in f64: 1 − 0.999 in f32 is wrong by 1e-5 of itself.
  numbers.rest1 = static_cast<float>(1.0 - o.beta1);
  numbers.rest2 = static_cast<float>(1.0 - o.beta2);
  numbers.epsilon = static_cast<float>(o.epsilon);
  numbers.shrink = static_cast<float>(1.0 - learning_rate * o.weight_decay);
  numbers.rate = static_cast<float>(learning_rate / correction1);
  numbers.root_correction2 = static_cast<float>(std::sqrt(correction2));
  return numbers;
}

void sgd_step(const DeviceSgd& step, const DeviceOptimized& p) {
  parallel_for(p.count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    const DeviceSgd s = step;  // copies, so that no store can change them
    float* const value = p.value;
    float* const buffer = p.first;
    const float* const gradient = p.gradient;
    for (std::int64_t i = begin; i < end; ++i) {
      float g = gradient[i] + s.decay * value[i];
      if (buffer != nullptr) {
        // As in PyTorch, the first step takes the gradient whole, without dampening.
        buffer[i] = s.first_step ? g : s.momentum * buffer[i] + s.keep * g;
        g = s.nesterov ? g + s.momentum * buffer[i] : buffer[i];
      }
      value[i] -= s.rate * g;
    }
  });
}

void adamw_step(const DeviceAdamW& step, const DeviceOptimized& p) {
  parallel_for(p.count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    const DeviceAdamW s = step;
    float* const value = p.value;
    float* const first = p.first;
    float* const second = p.second;
    const float* const gradient = p.gradient;
    for (std::int64_t i = begin; i < end; ++i) {
      const float g = gradient[i];
      first[i] = s.beta1 * first[i] + s.rest1 * g;
      second[i] = s.beta2 * second[i] + s.rest2 * g * g;
      value[i] = value[i] * s.shrink -
                 s.rate * first[i] / (std::sqrt(second[i]) / s.root_correction2 + s.epsilon);
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

Optimizer::Optimizer(OptimizerOptions options, Device* device)
    : options_(options), device_(device) {
  check_options(options_);
}

void Optimizer::take_states(const std::vector<OptimizedParameter>& parameters) {
  const bool adam = options_.kind == OptimizerOptions::Kind::kAdamW;
  std::vector<State> states(parameters.size());
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    const Shape shape = {parameters[p].count};
    const auto state = [&] { return make_tensor(device_, DType::kF32, shape, "optimiser state"); };
    if (adam || options_.momentum > 0.0) states[p].first = state();
    if (adam) states[p].second = state();
  }
  states_ = std::move(states);
}

void Optimizer::clear_held(const OptimizedParameter& parameter, float* values) const {
  if (parameter.held_count == 0 || values == nullptr) return;
  if (device_ != nullptr) return device_->hold_zero(values, parameter.held, parameter.held_count);
  for (std::int64_t i = 0; i < parameter.held_count; ++i) values[parameter.held[i]] = 0.0F;
}

void Optimizer::step(const std::vector<OptimizedParameter>& parameters, double learning_rate) {
  FM_CHECK(learning_rate >= 0.0 && std::isfinite(learning_rate), ARGUMENT,
           "expected a learning rate of at least 0 but received ", learning_rate);
  const bool adam = options_.kind == OptimizerOptions::Kind::kAdamW;
  if (steps_ == 0) take_states(parameters);
  FM_CHECK(states_.size() == parameters.size(), STATE, "the optimiser began with ", states_.size(),
           " parameters but received ", parameters.size());
  std::vector<DeviceOptimized> optimized;
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    const OptimizedParameter& parameter = parameters[p];
    const auto data = [&](const Tensor& state) {
      FM_CHECK(!state.view() || state.count() == parameter.count, STATE,
               "a parameter changed its size between optimiser steps");
      return state.view() ? state.as<float>() : nullptr;
    };
    optimized.push_back({parameter.value, parameter.gradient, data(states_[p].first),
                         data(states_[p].second), parameter.count});
    clear_held(parameter, parameter.gradient);
    clear_held(parameter, parameter.value);
  }
  const DeviceSgd sgd = sgd_numbers(options_, steps_ == 0, learning_rate);
  const DeviceAdamW adamw = adamw_numbers(options_, steps_ + 1, learning_rate);
  if (device_ != nullptr) {
    adam ? device_->adamw_step(adamw, optimized) : device_->sgd_step(sgd, optimized);
  } else {
    for (const DeviceOptimized& one : optimized) {
      adam ? adamw_step(adamw, one) : sgd_step(sgd, one);
    }
  }
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    clear_held(parameters[p], parameters[p].value);
    clear_held(parameters[p], optimized[p].first);
    clear_held(parameters[p], optimized[p].second);
  }
  ++steps_;
}

}  // namespace fishermask
