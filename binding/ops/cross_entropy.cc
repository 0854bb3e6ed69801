#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "core/vector_clones.h"
#include "ops/loss.h"
#include "ops/vector_math.h"

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

constexpr std::int64_t kLanes = 16;

template <typename T>
using Lanes [[gnu::vector_size(kLanes * sizeof(T)), gnu::aligned(alignof(T)), gnu::may_alias]] = T;

// The largest value; NaN is never larger. z[0] is not NaN.
template <typename T>
FM_INLINE_IN_CLONES T largest_value_loop(const T* z, std::int64_t classes) {
  T largest = z[0];
  std::int64_t c = 0;
  if (classes >= kLanes) {
    Lanes<T> lanes = Lanes<T>{} + largest;
    for (; c + kLanes <= classes; c += kLanes) {
      const Lanes<T>& next = *reinterpret_cast<const Lanes<T>*>(z + c);
      lanes = next > lanes ? next : lanes;
    }
    for (std::int64_t i = 0; i < kLanes; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
  }
  for (; c < classes; ++c) largest = z[c] > largest ? z[c] : largest;
  return largest;
}
FM_VECTOR_CLONES float largest_value(const float* z, std::int64_t classes) {
  return largest_value_loop(z, classes);
}
FM_VECTOR_CLONES double largest_value(const double* z, std::int64_t classes) {
  return largest_value_loop(z, classes);
}

// The first largest; 0 where the first is NaN, as nothing is larger.
template <typename T>
std::int64_t largest(const T* z, std::int64_t classes) {
  if (std::isnan(z[0])) return 0;
  return std::find(z, z + classes, largest_value(z, classes)) - z;
}

// out[c] = e^((z[c] − top)/T) in f64, whatever the logits' type: 1 − p keeps its digits where p is
// close to 1.
template <typename T>
FM_INLINE_IN_CLONES void exponentials_loop(const T* __restrict z, std::int64_t classes, T top,
                                           double temperature, double* __restrict out) {
  const auto shift = static_cast<double>(top);
  for (std::int64_t c = 0; c < classes; ++c) {
    out[c] = vector_math::exp((static_cast<double>(z[c]) - shift) / temperature);
  }
}
FM_VECTOR_CLONES void exponentials(const float* z, std::int64_t classes, float top,
                                   double temperature, double* out) {
  exponentials_loop(z, classes, top, temperature, out);
}
FM_VECTOR_CLONES void exponentials(const double* z, std::int64_t classes, double top,
                                   double temperature, double* out) {
  exponentials_loop(z, classes, top, temperature, out);
}

// In sixteen sums side by side, whatever the vectors' width.
FM_VECTOR_CLONES double sum_of(const double* values, std::int64_t count) {
  Lanes<double> lanes = {};
  double sum = 0;
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    lanes += *reinterpret_cast<const Lanes<double>*>(values + i);
  }
  for (; i < count; ++i) sum += values[i];
  for (std::int64_t lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
  return sum;
}

FM_VECTOR_CLONES void scale_into(const double* __restrict values, std::int64_t count, double factor,
                                 float* __restrict out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(values[i] * factor);
}
FM_VECTOR_CLONES void scale_into(const double* __restrict values, std::int64_t count, double factor,
                                 double* __restrict out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = values[i] * factor;
}

// T · (logsumexp(z/T) − z_y/T), shifted by the largest logit z[top]; log1p keeps a small loss's
// digits. scratch: one value per class.
template <typename T>
double position_loss(const T* z, std::int64_t classes, std::int64_t top, std::int64_t label,
                     double temperature, double* scratch) {
  exponentials(z, classes, z[top], temperature, scratch);
  scratch[top] = 0;  // e^0, the 1 of log1p
  return temperature * std::log1p(sum_of(scratch, classes)) +
         (static_cast<double>(z[top]) - static_cast<double>(z[label]));
}

template <typename T>
void position_seed(const T* z, std::int64_t classes, std::int64_t label, double temperature,
                   double scale, T* grad, double* scratch) {
  exponentials(z, classes, z[largest(z, classes)], temperature, scratch);
  const double own = scratch[label];
  scratch[label] = 0;
  const double others = sum_of(scratch, classes);
  scratch[label] = -others;
  scale_into(scratch, classes, scale / (own + others), grad);
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
    std::vector<double> scratch(static_cast<std::size_t>(shape.classes));
    for (std::int64_t n = begin; n < end; ++n) {
      per_sample_loss[n] = 0;
      for (std::int64_t i = n * shape.positions; i < (n + 1) * shape.positions; ++i) {
        const T* z = logits + i * shape.classes;
        const std::int64_t top = largest(z, shape.classes);
        const auto prediction = static_cast<std::int32_t>(top);
        if (predictions != nullptr) predictions[i] = prediction;
        if (labels[i] == kNotCounted) continue;
        per_sample_loss[n] +=
            position_loss(z, shape.classes, top, labels[i], temperature, scratch.data());
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
                 std::vector<double> scratch(static_cast<std::size_t>(shape.classes));
                 for (std::int64_t i = begin; i < end; ++i) {
                   T* grad = grad_logits + i * shape.classes;
                   if (labels[i] == kNotCounted) {
                     std::fill_n(grad, shape.classes, T{0});
                   } else {
                     position_seed(logits + i * shape.classes, shape.classes, labels[i],
                                   temperature, scales[i / shape.positions], grad, scratch.data());
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
        std::vector<double> scratch(static_cast<std::size_t>(shape.classes));
        for (std::int64_t i = begin; i < end; ++i) {
          const T* z = logits + i * shape.classes;
          exponentials(z, shape.classes, z[largest(z, shape.classes)], temperature, scratch.data());
          const double sum = sum_of(scratch.data(), shape.classes);
          std::transform(scratch.begin(), scratch.end(), probabilities + i * shape.classes,
                         [sum](double e) { return static_cast<P>(e / sum); });
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
