#include "optim/trainer.h"

#include <cmath>

namespace fishermask {

Trainer::Trainer(Network& network, OptimizerOptions options, std::uint64_t seed)
    : network_(network), optimizer_(options), seed_(seed) {
  FM_CHECK(network.real() == DType::kF32, STATE, "training runs in f32, not in ",
           dtype_name(network.real()));
  for (const Parameter& parameter : network.graph().parameters()) {
    gradients_.push_back(parameter.trainable() ? Tensor(DType::kF32, parameter.shape, "gradients")
                                               : Tensor());
  }
}

void Trainer::hold(const std::string& parameter, std::span<const std::uint8_t> keep) {
  const int index = network_.graph().parameter_index(parameter);
  const std::int64_t count = network_.parameters()[static_cast<std::size_t>(index)].count();
  FM_CHECK(static_cast<std::int64_t>(keep.size()) == (count + 7) / 8, ARGUMENT, "expected ",
           (count + 7) / 8, " bytes of keep-mask for tensor '", parameter, "' but received ",
           keep.size());
  std::vector<std::int64_t> masked;
  for (std::int64_t i = 0; i < count; ++i) {
    const unsigned byte = keep[static_cast<std::size_t>(i / 8)];
    if (((byte >> static_cast<unsigned>(i % 8)) & 1U) == 0) masked.push_back(i);
  }
  held_[index] = std::move(masked);
}

LossResult Trainer::step(const BatchData& batch, std::span<const std::int32_t> labels,
                         double learning_rate, double sign) {
  FM_CHECK(!batch.view.shape.empty() && batch.view.shape[0] > 0, ARGUMENT,
           "expected a batch of at least one sample");
  ExecutorOptions options;
  options.batch = batch.view.shape[0];
  options.training = true;
  options.backward = true;
  Executor& executor = network_.executor(options);
  write_batch(batch, executor.input());
  executor.forward({seed_, static_cast<std::uint64_t>(optimizer_.steps())});
  LossResult result = loss_of(executor.output(), labels, 1.0);
  const std::vector<double> scales(static_cast<std::size_t>(options.batch),
                                   sign / static_cast<double>(options.batch));
  seed_loss(executor.output(), labels, 1.0, scales, executor.output_gradient());
  BackwardRequest request;
  for (const Tensor& gradient : gradients_) {
    gradient.zero();
    request.grad_parameters.push_back(gradient.view());
  }
  executor.backward(request);
  check_gradients();
  std::vector<OptimizedParameter> parameters;
  for (std::size_t p = 0; p < gradients_.size(); ++p) {
    if (!gradients_[p].view()) continue;
    const Tensor& value = network_.parameters()[p];
    const auto held = held_.find(static_cast<int>(p));
    parameters.push_back({value.as<float>(), gradients_[p].as<float>(), value.count(),
                          held == held_.end() ? nullptr : &held->second});
  }
  optimizer_.step(parameters, learning_rate);
  return result;
}

void Trainer::check_gradients() const {
  for (std::size_t p = 0; p < gradients_.size(); ++p) {
    if (!gradients_[p].view()) continue;
    for (const float g : gradients_[p].span<float>()) {
      FM_CHECK(std::isfinite(g), NON_FINITE, "the gradient of tensor '",
               network_.graph().parameters()[p].name, "' is not finite at step ",
               optimizer_.steps() + 1, "; the weights are unchanged");
    }
  }
}

Evaluation evaluate_batch(Network& network, const BatchData& batch,
                          std::span<const std::int32_t> labels, double temperature,
                          const std::vector<std::string>& keep) {
  FM_CHECK(!batch.view.shape.empty() && batch.view.shape[0] > 0, ARGUMENT,
           "expected a batch of at least one sample");
  ExecutorOptions options;
  options.batch = batch.view.shape[0];
  options.keep = keep;
  Evaluation evaluation;
  evaluation.executor = &network.executor(options);
  write_batch(batch, evaluation.executor->input());
  evaluation.executor->forward();
  evaluation.loss = loss_of(evaluation.executor->output(), labels, temperature);
  return evaluation;
}

}  // namespace fishermask
