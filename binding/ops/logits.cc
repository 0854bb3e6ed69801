#include "ops/logits.h"

namespace fishermask {
namespace {
void check_labels(const LogitsShape& shape, std::span<const std::int32_t> labels) {
  FM_CHECK(static_cast<std::int64_t>(labels.size()) == shape.batch * shape.positions, SHAPE,
           "expected ", shape.batch * shape.positions, " labels but received ", labels.size());
}
}  // namespace

LogitsShape logits_shape(const TensorView& logits) {
  FM_CHECK(logits.shape.size() >= 2, SHAPE, "expected logits of shape (N, …, C) but received ",
           shape_text(logits.shape));
  LogitsShape shape;
  shape.batch = logits.shape.front();
  shape.classes = logits.shape.back();
  for (std::size_t i = 1; i + 1 < logits.shape.size(); ++i) shape.positions *= logits.shape[i];
  return shape;
}

LossResult loss_of(const TensorView& logits, std::span<const std::int32_t> labels,
                   double temperature, Device* device) {
  const LogitsShape shape = logits_shape(logits);
  check_labels(shape, labels);
  LossResult result;
  result.per_sample.resize(static_cast<std::size_t>(shape.batch));
  result.predictions.resize(labels.size());
  double* const losses = result.per_sample.data();
  std::int32_t* const predictions = result.predictions.data();
  PredictionCounts counts;
  if (device != nullptr) {
    counts =
        device->cross_entropy(shape, logits.as<float>(), labels, temperature, losses, predictions);
  } else if (logits.dtype == DType::kF64) {
    counts = cross_entropy_forward(shape, logits.as<double>(), labels.data(), temperature, losses,
                                   predictions);
  } else {
    counts = cross_entropy_forward(shape, logits.as<float>(), labels.data(), temperature, losses,
                                   predictions);
  }
  result.counted = counts.counted;
  result.correct = counts.correct;
  return result;
}

std::vector<double> probabilities(const TensorView& logits, double temperature, Device* device) {
  const LogitsShape shape = logits_shape(logits);
  std::vector<double> out(static_cast<std::size_t>(logits.count()));
  if (device != nullptr) {
    device->softmax_probabilities(shape, logits.as<float>(), temperature, out.data());
  } else if (logits.dtype == DType::kF64) {
    softmax_probabilities(shape, logits.as<double>(), temperature, out.data());
  } else {
    softmax_probabilities(shape, logits.as<float>(), temperature, out.data());
  }
  return out;
}

void seed_loss(const TensorView& logits, std::span<const std::int32_t> labels, double temperature,
               std::span<const double> scales, const TensorView& grad_logits, Device* device) {
  const LogitsShape shape = logits_shape(logits);
  check_labels(shape, labels);
  FM_CHECK(static_cast<std::int64_t>(scales.size()) == shape.batch, SHAPE, "expected ", shape.batch,
           " scales but received ", scales.size());
  if (device != nullptr) {
    device->cross_entropy_seed(shape, logits.as<float>(), labels, temperature, scales,
                               grad_logits.as<float>());
  } else if (logits.dtype == DType::kF64) {
    cross_entropy_seed(shape, logits.as<double>(), labels.data(), temperature, scales.data(),
                       grad_logits.as<double>());
  } else {
    cross_entropy_seed(shape, logits.as<float>(), labels.data(), temperature, scales.data(),
                       grad_logits.as<float>());
  }
}

}  // namespace fishermask
