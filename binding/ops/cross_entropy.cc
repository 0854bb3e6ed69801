#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "ops/loss.h"

namespace fishermask {
namespace {

// Positions per range of a parallel loop: about 2^14 exponentials.
std::int64_t grain(const LogitsShape& shape) {
  return (std::int64_t{1} << 14) / std::max<std::int64_t>(shape.classes, 1) + 1;
}

void check_temperature(double temperature) {
  FM_CHECK(temperature > 0 && std::isfinite(temperature), ARGUMENT,
           "Expected a positive finite number for temperature but received ", temperature);
}

void check_labels(const LogitsShape& shape, const std::int32_t* labels) {
  for (std::int64_t i = 0; i < shape.batch * shape.positions; ++i) {
    FM_CHECK(labels[i] >= kNotCounted && labels[i] < shape.classes, ARGUMENT,
             "Expected a label in [-1, ", shape.classes, ") for sample ", i / shape.positions,
             " but received ", labels[i]);
  }
}

// The first largest; NaN is never larger.
template <typename T>
std::int64_t largest(const T* z, std::int64_t classes) {
  std::int64_t best = 0;
  for (std::int64_t c = 1; c < classes; ++c) {
    if (z[c] > z[best]) best = c;
  }
  return best;
}

template <typename T>
double exponential(T z, T top, double temperature) {
  return std::exp((static_cast<double>(z) - static_cast<double>(top)) / temperature);
}

// T · (logsumexp(z/T) − z_y/T), shifted by the largest logit; log1p keeps a small loss's digits.
template <typename T>
double position_loss(const T* z, std::int64_t classes, std::int64_t label, double temperature) {
  const std::int64_t top = largest(z, classes);
  double others = 0;
  for (std::int64_t c = 0; c < classes; ++c) {
    if (c != top) others += exponential(z[c], z[top], temperature);
  }
  return temperature * std::log1p(others) +
         (static_cast<double>(z[top]) - static_cast<double>(z[label]));
}

template <typename T>
void position_seed(const T* z, std::int64_t classes, std::int64_t label, double temperature,
                   double scale, T* grad, std::vector<double>& exponentials) {
  const T top = z[largest(z, classes)];
  double others = 0;
  double own = 0;
  for (std::int64_t c = 0; c < classes; ++c) {
    const double e = exponential(z[c], top, temperature);
    exponentials[static_cast<std::size_t>(c)] = e;
    (c == label ? own : others) += e;
  }
  const double factor = scale / (own + others);
  for (std::int64_t c = 0; c < classes; ++c) {
    const double e = c == label ? -others : exponentials[static_cast<std::size_t>(c)];
    grad[c] = static_cast<T>(e * factor);
  }
}

}  // namespace

template <typename T>
PredictionCounts cross_entropy_forward(const LogitsShape& shape, const T* logits,
                                       const std::int32_t* labels, double temperature,
                                       double* per_sample_loss, std::int32_t* predictions) {
  check_temperature(temperature);
  check_labels(shape, labels);
  std::vector<std::int64_t> correct(static_cast<std::size_t>(shape.batch));
  const std::int64_t samples = grain(shape) / std::max<std::int64_t>(shape.positions, 1) + 1;
  parallel_for(shape.batch, samples, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      per_sample_loss[n] = 0;
      for (std::int64_t i = n * shape.positions; i < (n + 1) * shape.positions; ++i) {
        const T* z = logits + i * shape.classes;
        const auto prediction = static_cast<std::int32_t>(largest(z, shape.classes));
        if (predictions != nullptr) predictions[i] = prediction;
        if (labels[i] == kNotCounted) continue;
        per_sample_loss[n] += position_loss(z, shape.classes, labels[i], temperature);
        correct[static_cast<std::size_t>(n)] += prediction == labels[i] ? 1 : 0;
      }
    }
  });
  PredictionCounts counts;
  for (std::int64_t n = 0; n < shape.batch; ++n) {
    FM_CHECK(std::isfinite(per_sample_loss[n]), NON_FINITE, "Expected a finite loss for sample ", n,
             " of the batch but received ", per_sample_loss[n]);
    counts.correct += correct[static_cast<std::size_t>(n)];
  }
  for (std::int64_t i = 0; i < shape.batch * shape.positions; ++i) {
    counts.counted += labels[i] == kNotCounted ? 0 : 1;
  }
  return counts;
}

template <typename T>
void cross_entropy_seed(const LogitsShape& shape, const T* logits, const std::int32_t* labels,
                        double temperature, const double* scales, T* grad_logits) {
  check_temperature(temperature);
  check_labels(shape, labels);
  parallel_for(shape.batch * shape.positions, grain(shape),
               [&](std::int64_t begin, std::int64_t end) {
                 std::vector<double> exponentials(static_cast<std::size_t>(shape.classes));
                 for (std::int64_t i = begin; i < end; ++i) {
                   T* grad = grad_logits + i * shape.classes;
                   if (labels[i] == kNotCounted) {
                     std::fill_n(grad, shape.classes, T{0});
                   } else {
                     position_seed(logits + i * shape.classes, shape.classes, labels[i],
                                   temperature, scales[i / shape.positions], grad, exponentials);
                   }
                 }
               });
}

template <typename T, typename P>
void softmax_probabilities(const LogitsShape& shape, const T* logits, double temperature,
                           P* probabilities) {
  check_temperature(temperature);
  parallel_for(
      shape.batch * shape.positions, grain(shape), [&](std::int64_t begin, std::int64_t end) {
        std::vector<double> exponentials(static_cast<std::size_t>(shape.classes));
        for (std::int64_t i = begin; i < end; ++i) {
          const T* z = logits + i * shape.classes;
          const T top = z[largest(z, shape.classes)];
          double sum = 0;
          for (std::int64_t c = 0; c < shape.classes; ++c) {
            exponentials[static_cast<std::size_t>(c)] = exponential(z[c], top, temperature);
            sum += exponentials[static_cast<std::size_t>(c)];
          }
          for (std::int64_t c = 0; c < shape.classes; ++c) {
            probabilities[i * shape.classes + c] =
                static_cast<P>(exponentials[static_cast<std::size_t>(c)] / sum);
          }
        }
      });
}

#define FM_CROSS_ENTROPY(T)                                                                      \
  template PredictionCounts cross_entropy_forward<T>(                                            \
      const LogitsShape&, const T*, const std::int32_t*, double, double*, std::int32_t*);        \
  template void cross_entropy_seed<T>(const LogitsShape&, const T*, const std::int32_t*, double, \
                                      const double*, T*);                                        \
  template void softmax_probabilities<T, double>(const LogitsShape&, const T*, double, double*)
FM_CROSS_ENTROPY(float);
FM_CROSS_ENTROPY(double);
template void softmax_probabilities<float, float>(const LogitsShape&, const float*, double, float*);
#undef FM_CROSS_ENTROPY

}  // namespace fishermask
