#include "optim/trainer.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "core/placement.h"

namespace fishermask {
namespace {

// On the host: the first tensor that holds NaN or infinity, if any does.
std::optional<std::size_t> find_non_finite(std::span<const TensorView> tensors) {
  const auto finite = [](float value) { return std::isfinite(value); };
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto* const values = tensors[i].as<float>();
    if (!std::all_of(values, values + tensors[i].count(), finite)) return i;
  }
  return {};
}

}  // namespace

Trainer::Trainer(Network& network, OptimizerOptions options, std::uint64_t seed)
    : network_(network), optimizer_(options, network.device()), seed_(seed) {
  FM_CHECK(network.real() == DType::kF32, STATE, "training runs in f32, not in ",
           dtype_name(network.real()));
  for (const Parameter& parameter : network.graph().parameters()) {
    gradients_.push_back(parameter.trainable() ? make_tensor(network.device(), DType::kF32,
                                                             parameter.shape, "gradients")
                                               : Tensor());
  }
}

void Trainer::hold(const std::string& parameter, std::span<const std::uint8_t> keep) {
  const int index = network_.graph().parameter_index(parameter);
  const std::int64_t count = network_.parameters()[static_cast<std::size_t>(index)].count();
  FM_CHECK(static_cast<std::int64_t>(keep.size()) == (count + 7) / 8, ARGUMENT, "expected ",
           (count + 7) / 8, " bytes of keep-mask for tensor '", parameter, "' but received ",
           keep.size());
  Held held;
  for (std::int64_t i = 0; i < count; ++i) {
    const unsigned byte = keep[static_cast<std::size_t>(i / 8)];
    if (((byte >> static_cast<unsigned>(i % 8)) & 1U) == 0) held.indices.push_back(i);
  }
  if (Device* const device = network_.device(); device != nullptr && !held.indices.empty()) {
    const std::span bytes = std::as_bytes(std::span(held.indices));
    const auto size = static_cast<std::int64_t>(bytes.size());
    held.on_device = device->allocate(size, "the held weights");
    device->upload(held.on_device.get(), bytes.data(), size);
  }
  held_[index] = std::move(held);
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
  write_batch(batch, executor.input(), network_.device());
  executor.forward({seed_, static_cast<std::uint64_t>(optimizer_.steps())});
  LossResult result = loss_of(executor.output(), labels, 1.0, network_.device());
  const std::vector<double> scales(static_cast<std::size_t>(options.batch),
                                   sign / static_cast<double>(options.batch));
  seed_loss(executor.output(), labels, 1.0, scales, executor.output_gradient(), network_.device());
  BackwardRequest request;
  for (const Tensor& gradient : gradients_) {
    if (gradient.view()) clear(network_.device(), gradient.view());
    request.grad_parameters.push_back(gradient.view());
  }
  executor.backward(request);
  check_gradients();
  std::vector<OptimizedParameter> parameters;
  for (std::size_t p = 0; p < gradients_.size(); ++p) {
    if (!gradients_[p].view()) continue;
    const Tensor& value = network_.parameters()[p];
    const auto held = held_.find(static_cast<int>(p));
    OptimizedParameter parameter{value.as<float>(), gradients_[p].as<float>(), value.count()};
    if (held != held_.end()) {
      const Held& units = held->second;
      parameter.held = units.on_device
                           ? reinterpret_cast<const std::int64_t*>(units.on_device.get())
                           : units.indices.data();
      parameter.held_count = static_cast<std::int64_t>(units.indices.size());
    }
    parameters.push_back(parameter);
  }
  optimizer_.step(parameters, learning_rate);
  return result;
}

void Trainer::check_gradients() const {
  std::vector<TensorView> views;
  std::vector<std::size_t> parameters;
  for (std::size_t p = 0; p < gradients_.size(); ++p) {
    if (!gradients_[p].view()) continue;
    views.push_back(gradients_[p].view());
    parameters.push_back(p);
  }
  Device* const device = network_.device();
  const std::optional<std::size_t> bad =
      device != nullptr ? device->find_non_finite(views) : find_non_finite(views);
  if (!bad) return;
  fail(ErrorCode::kNON_FINITE, "the gradient of tensor '",
       network_.graph().parameters()[parameters[*bad]].name, "' is not finite at step ",
       optimizer_.steps() + 1, "; the weights are unchanged");
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
  write_batch(batch, evaluation.executor->input(), network.device());
  evaluation.executor->forward();
  evaluation.loss = loss_of(evaluation.executor->output(), labels, temperature, network.device());
  return evaluation;
}

}  // namespace fishermask
