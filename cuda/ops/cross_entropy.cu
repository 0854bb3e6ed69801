// cross_entropy: the loss on logits, its seeds and the probabilities; ops/loss.h says what they
// are.
// Shapes:     logits (N · positions, C) on the device, C up to the largest vocabularies; labels,
//             scales, losses, predictions and probabilities on the host.
// A warp (C ≤ 1024) or a block takes one position. It reads its logits two (loss) or three times
// (seeds); after the first time they come from the caches.
// Precision:  exponentials and sums in f64; p − 1 from the other classes' probabilities.
// Workspace:  16 bytes a position; probabilities: parts of at most 64 MiB.
// Deterministic: yes. A sample's positions are added on the host, in their order.
// Bound by the f64 units, as an exponential takes tens of their instructions, and by memory where
// rows are too long for the caches.
#include <algorithm>
#include <cstring>
#include <vector>

#include "common/parts.h"
#include "common/reduce.cuh"
#include "core/error.h"

namespace fishermask::cuda {
namespace {

constexpr std::int64_t kProbabilityBytes = std::int64_t{64} << 20;

// The largest logit and its class, the first among equals; class 0 where its logit is NaN.
template <Team kTeam>
__device__ __forceinline__ Located largest_logit(const float* z, std::int64_t classes) {
  Located best = FirstMost::none();
  for (std::int64_t c = team_rank<kTeam>(); c < classes; c += team_size<kTeam>()) {
    const Located next = {z[c], static_cast<int>(c)};
    best = FirstMost::join(best, next);
  }
  best = team_reduce<kTeam, FirstMost>(best);
  const float first = z[0];
  return first != first ? Located{first, 0} : best;
}

// e^((z − top)/T); inverse: 1/T, as f64 divides slowly.
__device__ __forceinline__ double exponential(float z, float top, double inverse) {
  return exp((static_cast<double>(z) - static_cast<double>(top)) * inverse);
}

// Σ e^((z[c] − top)/T) over all classes but one (−1: over all).
template <Team kTeam>
__device__ __forceinline__ double exponentials_without(int left_out, const float* z,
                                                       std::int64_t classes, float top,
                                                       double inverse) {
  double sum = 0;
  for (std::int64_t c = team_rank<kTeam>(); c < classes; c += team_size<kTeam>()) {
    if (c != left_out) sum += exponential(z[c], top, inverse);
  }
  return team_sum<kTeam>(sum);
}

// T · (logsumexp(z/T) − z_y/T), shifted by the largest logit; log1p keeps a small loss's digits.
template <Team kTeam>
__global__ void position_losses(const float* logits, const std::int32_t* labels,
                                std::int64_t positions, std::int64_t classes, double inverse,
                                double* losses, std::int32_t* predictions) {
  for (std::int64_t i = first_row<kTeam>(); i < positions; i += row_step<kTeam>()) {
    const float* const z = logits + i * classes;
    const Located top = largest_logit<kTeam>(z, classes);
    const int label = labels[i];
    double loss = 0;
    if (label != kNotCounted) {
      const double others = exponentials_without<kTeam>(top.index, z, classes, top.value, inverse);
      loss = log1p(others) / inverse +
             (static_cast<double>(top.value) - static_cast<double>(z[label]));
    }
    if (team_rank<kTeam>() == 0) {
      losses[i] = loss;
      predictions[i] = top.index;
    }
  }
}

template <Team kTeam>
__global__ void position_seeds(const float* logits, const std::int32_t* labels,
                               const double* scales, std::int64_t positions, std::int64_t classes,
                               std::int64_t positions_per_sample, double inverse,
                               float* grad_logits) {
  for (std::int64_t i = first_row<kTeam>(); i < positions; i += row_step<kTeam>()) {
    const float* const z = logits + i * classes;
    float* const grad = grad_logits + i * classes;
    const int label = labels[i];
    if (label == kNotCounted) {
      for (std::int64_t c = team_rank<kTeam>(); c < classes; c += team_size<kTeam>()) grad[c] = 0;
      continue;
    }
    const float top = largest_logit<kTeam>(z, classes).value;
    const double others = exponentials_without<kTeam>(label, z, classes, top, inverse);
    const double factor =
        scales[i / positions_per_sample] / (exponential(z[label], top, inverse) + others);
    for (std::int64_t c = team_rank<kTeam>(); c < classes; c += team_size<kTeam>()) {
      const double share = c == label ? -others : exponential(z[c], top, inverse);
      grad[c] = static_cast<float>(share * factor);
    }
  }
}

template <Team kTeam>
__global__ void position_probabilities(const float* logits, std::int64_t positions,
                                       std::int64_t classes, double inverse,
                                       double* probabilities) {
  for (std::int64_t i = first_row<kTeam>(); i < positions; i += row_step<kTeam>()) {
    const float* const z = logits + i * classes;
    const float top = largest_logit<kTeam>(z, classes).value;
    const double sum = exponentials_without<kTeam>(-1, z, classes, top, inverse);
    for (std::int64_t c = team_rank<kTeam>(); c < classes; c += team_size<kTeam>()) {
      probabilities[i * classes + c] = exponential(z[c], top, inverse) / sum;
    }
  }
}

void check_temperature(double temperature) {
  FM_CHECK(temperature > 0 && std::isfinite(temperature), ARGUMENT,
           "Expected a positive finite number for temperature but received ", temperature);
}

void check_labels(const LogitsShape& shape, std::span<const std::int32_t> labels) {
  const std::int64_t positions = shape.batch * shape.positions;
  FM_CHECK(static_cast<std::int64_t>(labels.size()) == positions, SHAPE, "expected ", positions,
           " labels but received ", labels.size());
  for (std::int64_t i = 0; i < positions; ++i) {
    const std::int32_t label = labels[static_cast<std::size_t>(i)];
    FM_CHECK(label >= kNotCounted && label < shape.classes, ARGUMENT, "Expected a label in [-1, ",
             shape.classes, ") for sample ", i / shape.positions, " but received ", label);
  }
}

template <typename T>
std::int64_t bytes_of(std::int64_t count) {
  return count * static_cast<std::int64_t>(sizeof(T));
}

// What comes back for every position, in one copy: the losses, then the predictions.
struct PositionResults {
  PositionResults(Backend& backend, const double* from, std::int64_t positions)
      : losses(static_cast<std::size_t>(positions)), predictions(losses.size()) {
    const std::int64_t bytes = bytes_of<double>(positions) + bytes_of<std::int32_t>(positions);
    std::vector<std::byte> both(static_cast<std::size_t>(bytes));
    backend.to_host(both.data(), from, bytes);
    const std::size_t split = losses.size() * sizeof(double);
    std::memcpy(losses.data(), both.data(), split);
    std::memcpy(predictions.data(), both.data() + split, both.size() - split);
  }
  std::vector<double> losses;
  std::vector<std::int32_t> predictions;
};

}  // namespace

PredictionCounts cross_entropy(Backend& backend, const LogitsShape& shape, const float* logits,
                               std::span<const std::int32_t> labels, double temperature,
                               double* per_sample_loss, std::int32_t* predictions) {
  check_temperature(temperature);
  check_labels(shape, labels);
  const std::int64_t positions = shape.batch * shape.positions;
  std::fill_n(per_sample_loss, shape.batch, 0.0);
  if (positions == 0) return {};
  std::byte* const memory =
      backend.scratch(bytes_of<double>(positions) + 2 * bytes_of<std::int32_t>(positions));
  auto* const losses = reinterpret_cast<double*>(memory);
  auto* const classes = reinterpret_cast<std::int32_t*>(memory + bytes_of<double>(positions));
  std::int32_t* const device_labels = classes + positions;
  backend.from_host(device_labels, labels.data(), bytes_of<std::int32_t>(positions));
  launch_rows("position_losses", backend.stream(), positions, shape.classes,
              position_losses<Team::kWarp>, position_losses<Team::kBlock>, logits, device_labels,
              positions, shape.classes, 1 / temperature, losses, classes);
  const PositionResults results(backend, losses, positions);

  PredictionCounts counts;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (predictions != nullptr) predictions[i] = results.predictions[i];
    if (labels[i] == kNotCounted) continue;
    per_sample_loss[static_cast<std::int64_t>(i) / shape.positions] += results.losses[i];
    ++counts.counted;
    counts.correct += results.predictions[i] == labels[i] ? 1 : 0;
  }
  for (std::int64_t n = 0; n < shape.batch; ++n) {
    FM_CHECK(std::isfinite(per_sample_loss[n]), NON_FINITE, "Expected a finite loss for sample ", n,
             " of the batch but received ", per_sample_loss[n]);
  }
  return counts;
}

void cross_entropy_seed(Backend& backend, const LogitsShape& shape, const float* logits,
                        std::span<const std::int32_t> labels, double temperature,
                        std::span<const double> scales, float* grad_logits) {
  check_temperature(temperature);
  check_labels(shape, labels);
  FM_CHECK(static_cast<std::int64_t>(scales.size()) == shape.batch, SHAPE, "expected ", shape.batch,
           " scales but received ", scales.size());
  const std::int64_t positions = shape.batch * shape.positions;
  if (positions == 0) return;
  std::byte* const memory =
      backend.scratch(bytes_of<double>(shape.batch) + bytes_of<std::int32_t>(positions));
  auto* const device_scales = reinterpret_cast<double*>(memory);
  auto* const device_labels =
      reinterpret_cast<std::int32_t*>(memory + bytes_of<double>(shape.batch));
  backend.from_host(device_scales, scales.data(), bytes_of<double>(shape.batch));
  backend.from_host(device_labels, labels.data(), bytes_of<std::int32_t>(positions));
  launch_rows("position_seeds", backend.stream(), positions, shape.classes,
              position_seeds<Team::kWarp>, position_seeds<Team::kBlock>, logits, device_labels,
              device_scales, positions, shape.classes, shape.positions, 1 / temperature,
              grad_logits);
}

void softmax_probabilities(Backend& backend, const LogitsShape& shape, const float* logits,
                           double temperature, double* probabilities) {
  check_temperature(temperature);
  const std::int64_t positions = shape.batch * shape.positions;
  const std::int64_t part =
      std::max<std::int64_t>(1, kProbabilityBytes / bytes_of<double>(shape.classes));
  for (std::int64_t begin = 0; begin < positions; begin += part) {
    const std::int64_t rows = std::min(part, positions - begin);
    const std::int64_t bytes = bytes_of<double>(rows * shape.classes);
    auto* const out = reinterpret_cast<double*>(backend.scratch(bytes));
    launch_rows("position_probabilities", backend.stream(), rows, shape.classes,
                position_probabilities<Team::kWarp>, position_probabilities<Team::kBlock>,
                logits + begin * shape.classes, rows, shape.classes, 1 / temperature, out);
    backend.to_host(probabilities + begin * shape.classes, out, bytes);
  }
}

}  // namespace fishermask::cuda
