#include "ops/row_norm.h"

#include <algorithm>
#include <cmath>

#include "core/vector_clones.h"

namespace fishermask {
namespace {

constexpr std::int64_t kLanes = 16;
using Lanes [[gnu::vector_size(64), gnu::aligned(4), gnu::may_alias]] = float;
constexpr std::int64_t kStretch = 1024;

// By reference: a vector returned by value has no fixed place before the clones are made.
FM_INLINE_IN_CLONES const Lanes& load(const float* from) {
  return *reinterpret_cast<const Lanes*>(from);
}

FM_INLINE_IN_CLONES double total(const Lanes& lanes, float rest) {
  double sum = static_cast<double>(rest);
  for (std::int64_t i = 0; i < kLanes; ++i) sum += static_cast<double>(lanes[i]);
  return sum;
}

FM_VECTOR_CLONES double sum_of(const float* x, std::int64_t width) {
  double sum = 0;
  for (std::int64_t first = 0; first < width; first += kStretch) {
    const std::int64_t end = std::min(width, first + kStretch);
    Lanes lanes = {};
    float rest = 0;
    std::int64_t c = first;
    for (; c + kLanes <= end; c += kLanes) lanes += load(x + c);
    for (; c < end; ++c) rest += x[c];
    sum += total(lanes, rest);
  }
  return sum;
}

// Σ (x − middle)² and Σ (x − middle), which is what rounding `middle` to f32 left.
struct Moments {
  double squares = 0;
  double rest = 0;
};

FM_VECTOR_CLONES Moments moments_of(const float* x, std::int64_t width, float middle) {
  Moments moments;
  for (std::int64_t first = 0; first < width; first += kStretch) {
    const std::int64_t end = std::min(width, first + kStretch);
    Lanes squares = {};
    Lanes aways = {};
    float last_squares = 0;
    float last_aways = 0;
    std::int64_t c = first;
    for (; c + kLanes <= end; c += kLanes) {
      const Lanes away = load(x + c) - middle;
      squares += away * away;
      aways += away;
    }
    for (; c < end; ++c) {
      const float away = x[c] - middle;
      last_squares += away * away;
      last_aways += away;
    }
    moments.squares += total(squares, last_squares);
    moments.rest += total(aways, last_aways);
  }
  return moments;
}

// Σ g and Σ g·(x − middle), g = grad_output · weight.
struct Projections {
  double sum = 0;
  double product = 0;
};

template <bool kWeighted>
FM_INLINE_IN_CLONES Projections projections(const RowGradient& of, float middle) {
  Projections all;
  for (std::int64_t first = 0; first < of.width; first += kStretch) {
    const std::int64_t end = std::min(of.width, first + kStretch);
    Lanes sums = {};
    Lanes products = {};
    float last_sum = 0;
    float last_product = 0;
    std::int64_t c = first;
    for (; c + kLanes <= end; c += kLanes) {
      Lanes grad = load(of.grad_output + c);
      if constexpr (kWeighted) grad *= load(of.weight + c);
      sums += grad;
      products += grad * (load(of.x + c) - middle);
    }
    for (; c < end; ++c) {
      const float grad = kWeighted ? of.grad_output[c] * of.weight[c] : of.grad_output[c];
      last_sum += grad;
      last_product += grad * (of.x[c] - middle);
    }
    all.sum += total(sums, last_sum);
    all.product += total(products, last_product);
  }
  return all;
}

FM_VECTOR_CLONES Projections weighted_projections(const RowGradient& of, float middle) {
  return projections<true>(of, middle);
}
FM_VECTOR_CLONES Projections plain_projections(const RowGradient& of, float middle) {
  return projections<false>(of, middle);
}

// What makes grad_input of one value: scale · g − offset − (x − mean) · slope.
struct InputGradient {
  float mean, scale, offset, slope;
};

template <bool kWeighted, bool kAdd>
FM_INLINE_IN_CLONES void spread(const float* __restrict x, const float* __restrict grad_output,
                                const float* __restrict weight, std::int64_t width,
                                InputGradient by, float* __restrict grad_input) {
  for (std::int64_t c = 0; c < width; ++c) {
    const float grad = kWeighted ? grad_output[c] * weight[c] : grad_output[c];
    const float value = by.scale * grad - by.offset - (x[c] - by.mean) * by.slope;
    grad_input[c] = kAdd ? grad_input[c] + value : value;
  }
}

FM_VECTOR_CLONES void spread_row(const RowGradient& of, InputGradient by, bool add,
                                 float* grad_input) {
  if (of.weight != nullptr && add) {
    spread<true, true>(of.x, of.grad_output, of.weight, of.width, by, grad_input);
  } else if (of.weight != nullptr) {
    spread<true, false>(of.x, of.grad_output, of.weight, of.width, by, grad_input);
  } else if (add) {
    spread<false, true>(of.x, of.grad_output, of.weight, of.width, by, grad_input);
  } else {
    spread<false, false>(of.x, of.grad_output, of.weight, of.width, by, grad_input);
  }
}

FM_VECTOR_CLONES void scale_row(const float* __restrict x, float mean, float inv_std,
                                std::int64_t width, float* __restrict y) {
  for (std::int64_t c = 0; c < width; ++c) y[c] = (x[c] - mean) * inv_std;
}
FM_VECTOR_CLONES void weigh_row(const float* __restrict weight, std::int64_t width,
                                float* __restrict y) {
  for (std::int64_t c = 0; c < width; ++c) y[c] *= weight[c];
}
FM_VECTOR_CLONES void shift_row(const float* __restrict bias, std::int64_t width,
                                float* __restrict y) {
  for (std::int64_t c = 0; c < width; ++c) y[c] += bias[c];
}

FM_VECTOR_CLONES void add_columns(const float* __restrict x, const float* __restrict grad_output,
                                  float mean, float inv_std, std::int64_t width,
                                  float* __restrict weight_sums, float* __restrict bias_sums) {
  for (std::int64_t c = 0; c < width; ++c) {
    weight_sums[c] += grad_output[c] * ((x[c] - mean) * inv_std);
    bias_sums[c] += grad_output[c];
  }
}

}  // namespace

RowStatistics row_statistics(const float* x, std::int64_t width, bool centred, double epsilon) {
  const auto count = static_cast<double>(width);
  const double mean = centred ? sum_of(x, width) / count : 0.0;
  const auto middle = static_cast<float>(mean);
  const Moments moments = moments_of(x, width, middle);
  const double rest = centred ? moments.rest * moments.rest / count : 0.0;
  // Written so that a NaN stays, which std::max may drop.
  const double squares = moments.squares - rest < 0 ? 0.0 : moments.squares - rest;
  const double correction = centred ? moments.rest / count : 0.0;
  return {.mean = static_cast<double>(middle) + correction,
          .inv_std = 1 / std::sqrt(squares / count + epsilon)};
}

void normalise_row(const float* x, const RowStatistics& row, std::int64_t width,
                   const float* weight, const float* bias, float* y) {
  scale_row(x, static_cast<float>(row.mean), static_cast<float>(row.inv_std), width, y);
  if (weight != nullptr) weigh_row(weight, width, y);
  if (bias != nullptr) shift_row(bias, width, y);
}

void row_input_gradient(const RowGradient& of, const RowStatistics& row, bool centred, bool add,
                        float* grad_input) {
  const auto count = static_cast<double>(of.width);
  const auto mean = static_cast<float>(row.mean);
  const Projections g =
      of.weight != nullptr ? weighted_projections(of, mean) : plain_projections(of, mean);
  const double offset = centred ? row.inv_std * g.sum / count : 0.0;
  const double slope = row.inv_std * row.inv_std * row.inv_std * g.product / count;
  spread_row(of,
             {.mean = mean,
              .scale = static_cast<float>(row.inv_std),
              .offset = static_cast<float>(offset),
              .slope = static_cast<float>(slope)},
             add, grad_input);
}

void add_parameter_gradients(const float* x, const float* grad_output, const RowStatistics& row,
                             std::int64_t width, float* weight_sums, float* bias_sums) {
  add_columns(x, grad_output, static_cast<float>(row.mean), static_cast<float>(row.inv_std), width,
              weight_sums, bias_sums);
}

}  // namespace fishermask
