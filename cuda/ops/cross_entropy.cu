// cross_entropy: the loss on logits, its seeds and the probabilities; ops/loss.h says what they
// are.
// Shapes:     logits (N · positions, C) on the device, C up to the largest vocabularies; labels,
//             scales, losses, predictions and probabilities on the host.
// A warp (C ≤ 1024) or a block takes one position, and reads its logits once (loss) or twice
// (seeds): the largest and the sum are found together (Milakov, Gimelshein, "Online normalizer
// calculation for softmax", arXiv:1805.02867). Precision:  exponentials and sums in f64; p − 1 from
// the other classes' probabilities. Workspace:  16 bytes a position; probabilities: parts of at
// most 64 MiB. Deterministic: yes. A sample's positions are added on the host, in their order.
// Bound by the f64 units: an exponential takes tens of their instructions.
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

// What one reading of a position's logits finds: the largest, and Σ e^((z[c] − top)/T) over all
// classes but `left_out` (−1: over all).
struct Reading {
  Located top;
  double others;
};

// A thread keeps the sum of what it has read at its own largest logit so far, and takes the values
// kAhead at a time, so that it seldom has to scale the sum anew.
constexpr int kAhead = 4;  // not measured on a GPU

template <Team kTeam>
__device__ __forceinline__ Reading read_logits(const float* z, std::int64_t classes, int left_out,
                                               double inverse) {
  const std::int64_t size = team_size<kTeam>();
  Located own = FirstMost::none();
  double others = 0;
  for (std::int64_t first = team_rank<kTeam>(); first < classes; first += kAhead * size) {
    float values[kAhead];
    Located most = own;
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const std::int64_t c = first + k * size;
      values[k] = c < classes ? z[c] : 0.0F;
      const Located next = {values[k], static_cast<int>(c)};
      if (c < classes) most = FirstMost::join(most, next);
    }
    // A sum at −∞ is 0, or NaN.
    if (most.value > own.value && own.value != -HUGE_VALF) {
      others *= exponential(own.value, most.value, inverse);
    }
    own = most;
    // Where all are −∞ so far: e^(−∞ − 0) = 0.
    const float shift = own.value == -HUGE_VALF ? 0.0F : own.value;
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const std::int64_t c = first + k * size;
      if (c < classes && c != left_out) others += exponential(values[k], shift, inverse);
    }
  }
  Located top = team_reduce<kTeam, FirstMost>(own);
  if (own.value != -HUGE_VALF) others *= exponential(own.value, top.value, inverse);
  others = team_sum<kTeam>(others);
  const float start = z[0];
  if (start != start) top = {start, 0};  // nothing is larger than NaN
  return {top, others};
}

// T · (logsumexp(z/T) − z_y/T), shifted by the largest logit. Where that is the label's, log1p
// keeps a small loss's digits; elsewhere the loss is no smaller than T · log 2.
template <Team kTeam>
__global__ void __launch_bounds__(TeamTuning::kMostThreads, 1)
    position_losses(const float* logits, const std::int32_t* labels, std::int64_t positions,
                    std::int64_t classes, double inverse, double* losses,
                    std::int32_t* predictions) {
  for (std::int64_t i = first_row<kTeam>(); i < positions; i += row_step<kTeam>()) {
    const float* const z = logits + i * classes;
    const int label = labels[i];
    Located top;
    double loss = 0;
    if (label == kNotCounted) {
      top = largest_logit<kTeam>(z, classes);
    } else {
      const Reading all = read_logits<kTeam>(z, classes, label, inverse);
      top = all.top;
      const double log_sum = label == top.index
                                 ? log1p(all.others)
                                 : log(all.others + exponential(z[label], top.value, inverse));
      loss = log_sum / inverse + (static_cast<double>(top.value) - static_cast<double>(z[label]));
    }
    if (team_rank<kTeam>() == 0) {
      losses[i] = loss;
      predictions[i] = top.index;
    }
  }
}

template <Team kTeam>
__global__ void __launch_bounds__(TeamTuning::kMostThreads, 1)
    position_seeds(const float* logits, const std::int32_t* labels, const double* scales,
                   std::int64_t positions, std::int64_t classes, std::int64_t positions_per_sample,
                   double inverse, float* grad_logits) {
  for (std::int64_t i = first_row<kTeam>(); i < positions; i += row_step<kTeam>()) {
    const float* const z = logits + i * classes;
    float* const grad = grad_logits + i * classes;
    const int label = labels[i];
    if (label == kNotCounted) {
      for (std::int64_t c = team_rank<kTeam>(); c < classes; c += team_size<kTeam>()) grad[c] = 0;
      continue;
    }
    const Reading all = read_logits<kTeam>(z, classes, label, inverse);
    const float top = all.top.value;
    const double factor =
        scales[i / positions_per_sample] / (exponential(z[label], top, inverse) + all.others);
    for (std::int64_t c = team_rank<kTeam>(); c < classes; c += team_size<kTeam>()) {
      const double share = c == label ? -all.others : exponential(z[c], top, inverse);
      grad[c] = static_cast<float>(share * factor);
    }
  }
}

template <Team kTeam>
__global__ void __launch_bounds__(TeamTuning::kMostThreads, 1)
    position_probabilities(const float* logits, std::int64_t positions, std::int64_t classes,
                           double inverse, double* probabilities) {
  for (std::int64_t i = first_row<kTeam>(); i < positions; i += row_step<kTeam>()) {
    const float* const z = logits + i * classes;
    const Reading all = read_logits<kTeam>(z, classes, -1, inverse);
    for (std::int64_t c = team_rank<kTeam>(); c < classes; c += team_size<kTeam>()) {
      probabilities[i * classes + c] = exponential(z[c], all.top.value, inverse) / all.others;
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
