#include "fisher/fisher_pass.h"

#include <algorithm>
#include <cmath>

#include "core/placement.h"
#include "fisher/cpu_square_sink.h"
#include "ops/logits.h"

namespace fishermask {

struct FisherPass::Batch {
  Executor& executor;
  LogitsShape shape;
  std::span<const std::int32_t> labels;
  std::uint64_t first_sample;
};

FisherPass::FisherPass(Network& network, FisherOptions options)
    : network_(network), options_(options) {
  FM_CHECK(options_.temperature > 0.0 && std::isfinite(options_.temperature), ARGUMENT,
           "expected a temperature above 0 but received ", options_.temperature);
  FM_CHECK(!options_.training, STATE,
           "the Fisher runs batch norm on its running statistics: in training mode it mixes the "
           "samples of a batch, and per-sample gradients do not exist");
  FM_CHECK(!options_.per_token || options_.gradient == FisherGradient::kPerSample, ARGUMENT,
           "expected per-sample gradients with a Fisher per token but received batch-mean");
  squares_ = FisherSums(network_);
  if (options_.gradient_sums) gradients_ = FisherSums(network_);
  if (options_.gradient_sums || options_.gradient == FisherGradient::kBatchMean) {
    for (const Parameter& parameter : network_.graph().parameters()) {
      batch_gradients_.push_back(
          parameter.trainable()
              ? make_tensor(network_.device(), network_.real(), parameter.shape, "gradients")
              : Tensor());
    }
  }
  if (network_.device() == nullptr) {
    sink_ = std::make_unique<CpuSquareSink>();
  } else {
    sink_ = network_.device()->make_square_sink();
  }
}

void FisherPass::step(const BatchData& batch, std::span<const std::int32_t> labels,
                      std::uint64_t first_sample) {
  FM_CHECK(!batch.view.shape.empty() && batch.view.shape[0] > 0, ARGUMENT,
           "expected a batch of at least one sample");
  ExecutorOptions options;
  options.batch = batch.view.shape[0];
  options.backward = true;
  // Several reverse passes keep the activations; a single one gives their memory to the gradients.
  options.repeatable = options_.labels == FisherLabels::kExpected || options_.per_token ||
                       (options_.gradient_sums && !gradients_ride_along());
  options.squares = options_.gradient == FisherGradient::kPerSample;
  Executor& executor = network_.executor(options);
  write_batch(batch, executor.input(), network_.device());
  executor.forward();
  const Batch work{executor, logits_shape(executor.output()), labels, first_sample};
  FM_CHECK(static_cast<std::int64_t>(labels.size()) == work.shape.batch * work.shape.positions,
           SHAPE, "expected ", work.shape.batch * work.shape.positions, " labels but received ",
           labels.size());
  FM_CHECK(
      options_.labels != FisherLabels::kExpected || options_.per_token || work.shape.positions == 1,
      UNSUPPORTED,
      "expected labels on sequences need one reverse pass per combination of tokens; use "
      "empirical or sampled labels, or take the Fisher per token");
  const LossResult loss = checked_loss(work);
  if (options_.gradient == FisherGradient::kPerSample) {
    add_per_sample(work);
    terms_ += options_.per_token ? loss.counted : work.shape.batch;
  } else {
    add_batch_mean(work);
    terms_ += 1;
  }
  if (options_.gradient_sums) {
    if (!gradients_ride_along()) reverse_gradients(work);
    gradients_.add_values(batch_gradients_);
  }
  samples_ += work.shape.batch;
  correct_ += loss.correct;
  for (const double value : loss.per_sample) loss_sum_ += value;
}

LossResult FisherPass::checked_loss(const Batch& batch) const {
  try {
    return loss_of(batch.executor.output(), batch.labels, options_.temperature, network_.device());
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kNON_FINITE) throw;
    fail(e.code(), e.what(), "; the batch begins at sample ", batch.first_sample, " of the pass");
  }
}

void FisherPass::reverse(const Batch& batch, std::span<const std::int32_t> labels,
                         std::span<const double> scales, const BackwardRequest& request) const {
  seed_loss(batch.executor.output(), labels, options_.temperature, scales,
            batch.executor.output_gradient(), network_.device());
  batch.executor.backward(request);
}

BackwardRequest FisherPass::squares_request() {
  BackwardRequest request;
  for (std::size_t p = 0; p < squares_.size(); ++p) {
    request.square_sums.push_back(squares_.data(p));
  }
  // The fused kernels are f32; in f64 every parameter takes the generic rule.
  const bool fused = !options_.generic && network_.real() == DType::kF32;
  request.sink = fused ? sink_.get() : nullptr;
  return request;
}

BackwardRequest FisherPass::gradients_request() const {
  BackwardRequest request;
  for (const Tensor& gradient : batch_gradients_)
    request.grad_parameters.push_back(gradient.view());
  return request;
}

std::vector<double> FisherPass::class_probabilities(const Batch& batch) const {
  return probabilities(batch.executor.output(), options_.temperature, network_.device());
}

void FisherPass::clear_gradients() const {
  for (const Tensor& gradient : batch_gradients_) {
    if (gradient.view()) clear(network_.device(), gradient.view());
  }
}

namespace {

// The labels of position t of each sample, and −1 elsewhere.
std::vector<std::int32_t> labels_at(std::span<const std::int32_t> labels, std::size_t positions,
                                    std::size_t t) {
  std::vector<std::int32_t> out(labels.size(), -1);
  for (std::size_t row = t; row < labels.size(); row += positions) out[row] = labels[row];
  return out;
}

bool counts(std::span<const std::int32_t> labels) {
  return std::any_of(labels.begin(), labels.end(), [](std::int32_t label) { return label >= 0; });
}

}  // namespace

void FisherPass::add_per_sample(const Batch& batch) {
  BackwardRequest request = squares_request();
  if (gradients_ride_along()) {
    clear_gradients();
    request.grad_parameters = gradients_request().grad_parameters;
  }
  std::vector<std::int32_t> drawn;
  if (options_.labels == FisherLabels::kSampled) drawn = sampled_labels(batch);
  const std::span<const std::int32_t> labels = drawn.empty() ? batch.labels : drawn;
  if (!options_.per_token) return add_squares(batch, labels, request);
  // One token of every sample at a time: samples do not mix, so their squares do not either.
  const auto positions = static_cast<std::size_t>(batch.shape.positions);
  for (std::size_t t = 0; t < positions; ++t) {
    const std::vector<std::int32_t> at = labels_at(labels, positions, t);
    if (counts(at)) add_squares(batch, at, request);
  }
}

void FisherPass::add_squares(const Batch& batch, std::span<const std::int32_t> labels,
                             const BackwardRequest& request) {
  const auto count = static_cast<std::size_t>(batch.shape.batch);
  if (options_.labels != FisherLabels::kExpected) {
    reverse(batch, labels, std::vector<double>(count, 1.0), request);
    return;
  }
  // Σ_y p_y g_y² = Σ_y (√p_y g_y)²: the weight goes into the seed. A sample has one counted row at
  // most.
  const std::vector<double> p = class_probabilities(batch);
  const auto classes = static_cast<std::size_t>(batch.shape.classes);
  const auto positions = static_cast<std::size_t>(batch.shape.positions);
  std::vector<double> scales(count);
  for (std::size_t y = 0; y < classes; ++y) {
    for (std::size_t row = 0; row < labels.size(); ++row) {
      if (labels[row] >= 0) scales[row / positions] = std::sqrt(p[row * classes + y]);
    }
    reverse(batch, class_labels(labels, y), scales, request);
  }
}

void FisherPass::add_batch_mean(const Batch& batch) {
  const BackwardRequest request = gradients_request();
  const auto count = static_cast<std::size_t>(batch.shape.batch);
  const std::vector<double> scales(count, 1.0 / static_cast<double>(count));
  const auto add = [&](std::span<const std::int32_t> labels, double weight) {
    clear_gradients();
    reverse(batch, labels, scales, request);
    squares_.add_squares(batch_gradients_, weight);
  };
  if (options_.labels == FisherLabels::kEmpirical) return add(batch.labels, 1.0);
  if (options_.labels == FisherLabels::kSampled) return add(sampled_labels(batch), 1.0);
  const std::vector<double> p = class_probabilities(batch);
  const auto classes = static_cast<std::size_t>(batch.shape.classes);
  for (std::size_t y = 0; y < classes; ++y) {
    double mean = 0.0;
    for (std::size_t n = 0; n < count; ++n) {
      if (batch.labels[n] >= 0) mean += p[n * classes + y];
    }
    add(class_labels(batch.labels, y), mean / static_cast<double>(count));
  }
}

bool FisherPass::gradients_ride_along() const {
  return options_.gradient_sums && options_.gradient == FisherGradient::kPerSample &&
         options_.labels == FisherLabels::kEmpirical;
}

void FisherPass::reverse_gradients(const Batch& batch) {
  clear_gradients();
  const std::vector<double> ones(static_cast<std::size_t>(batch.shape.batch), 1.0);
  reverse(batch, batch.labels, ones, gradients_request());
}

std::vector<std::int32_t> FisherPass::class_labels(std::span<const std::int32_t> labels,
                                                   std::size_t label) {
  std::vector<std::int32_t> out(labels.size(), static_cast<std::int32_t>(label));
  for (std::size_t n = 0; n < out.size(); ++n) {
    if (labels[n] < 0) out[n] = labels[n];
  }
  return out;
}

std::vector<std::int32_t> FisherPass::sampled_labels(const Batch& batch) const {
  const std::vector<double> p = class_probabilities(batch);
  const auto classes = static_cast<std::size_t>(batch.shape.classes);
  const auto positions = static_cast<std::uint64_t>(batch.shape.positions);
  std::vector<std::int32_t> labels(batch.labels.size());
  for (std::size_t row = 0; row < labels.size(); ++row) {
    if (batch.labels[row] < 0) {
      labels[row] = batch.labels[row];
      continue;
    }
    const std::uint64_t index = batch.first_sample * positions + row;
    double left = static_cast<double>(philox_uniform({options_.seed, 0x5A3D}, index));
    std::size_t drawn = 0;
    while (drawn + 1 < classes && left >= p[row * classes + drawn]) {
      left -= p[row * classes + drawn];
      ++drawn;
    }
    labels[row] = static_cast<std::int32_t>(drawn);
  }
  return labels;
}

void FisherPass::check_finite(const std::vector<std::vector<double>>& sums) const {
  for (std::size_t p = 0; p < sums.size(); ++p) {
    const bool finite =
        std::all_of(sums[p].begin(), sums[p].end(), [](double v) { return std::isfinite(v); });
    FM_CHECK(finite, NON_FINITE, "the Fisher of tensor '", network_.graph().parameters()[p].name,
             "' is not finite after ", samples_, " samples");
  }
}

const std::vector<std::vector<double>>& FisherPass::square_sums() const {
  const std::vector<std::vector<double>>& sums = squares_.read();
  check_finite(sums);
  return sums;
}

const std::vector<std::vector<double>>& FisherPass::gradient_sums() const {
  const std::vector<std::vector<double>>& sums = gradients_.read();
  check_finite(sums);
  return sums;
}

}  // namespace fishermask
