// Squares of per-sample gradients of depthwise convolutions: vectors run along the channels.
//
//   G_n[c, kh, kw] = Σ_p δ[n, p, c] · a[n, p + (kh, kw), c]
//
// Two loads a product: bound by the caches, not by arithmetic. Threads take runs of channels.
#include <algorithm>
#include <cstdint>

#include "fisher/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "fisher/contraction_depthwise.cc"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include "core/parallel.h"
#include "fisher/contraction.h"
#include "fisher/contraction_taps.h"

HWY_BEFORE_NAMESPACE();
namespace fishermask {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVec = hn::Vec<FloatTag>;

// Independent sums hide the latency of one.
constexpr int kVectors = 4;

// The first `lanes` floats, zeros behind them; nothing past them is read.
HWY_INLINE FloatVec load_some(FloatTag d, const float* from, std::int64_t lanes) {
  const auto width = static_cast<std::int64_t>(hn::Lanes(d));
  if (lanes >= width) return hn::LoadU(d, from);
  HWY_ALIGN float some[HWY_MAX_BYTES / sizeof(float)] = {};
  std::copy_n(from, std::max<std::int64_t>(lanes, 0), some);
  return hn::Load(d, some);
}

// gradient[v·N + lane] of one tap and sample.
template <bool kWhole>
HWY_INLINE void sum_products(const Tap& tap, std::int64_t channels, const float* delta,
                             const float* input, std::int64_t lanes, FloatVec* gradient) {
  const FloatTag d;
  const auto width = static_cast<std::int64_t>(hn::Lanes(d));
  FloatVec sum[kVectors];
  for (int v = 0; v < kVectors; ++v) sum[v] = hn::Zero(d);
  for (std::int64_t y = 0; y < tap.rows; ++y) {
    const float* at_delta = delta + (tap.output.start + y * tap.output.row) * channels;
    const float* at_input = input + (tap.input.start + y * tap.input.row) * channels;
    for (std::int64_t x = 0; x < tap.cols; ++x) {
      for (int v = 0; v < kVectors; ++v) {
        const std::int64_t left = kWhole ? width : lanes - v * width;
        sum[v] = hn::MulAdd(load_some(d, at_delta + v * width, left),
                            load_some(d, at_input + v * width, left), sum[v]);
      }
      at_delta += tap.output.col * channels;
      at_input += tap.input.col * channels;
    }
  }
  for (int v = 0; v < kVectors; ++v) gradient[v] = sum[v];
}

// Channels [first, first + lanes) at one tap, over the whole batch; lanes <= channels_at_once().
template <bool kWhole>
HWY_INLINE void accumulate_tap(const ContractionForm& form, const Tap& tap, std::int64_t first,
                               std::int64_t lanes, double* totals) {
  constexpr std::int64_t kFlushSamples = 16;
  const FloatTag d;
  const auto width = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t channels = form.out_channels;
  const std::int64_t out_sample = form.out_height * form.out_width * channels;
  const std::int64_t in_sample = form.in_height * form.in_width * channels;
  for (std::int64_t n = 0; n < form.batch; n += kFlushSamples) {
    FloatVec squares[kVectors];
    for (int v = 0; v < kVectors; ++v) squares[v] = hn::Zero(d);
    const std::int64_t last = std::min(n + kFlushSamples, form.batch);
    for (std::int64_t sample = n; sample < last; ++sample) {
      FloatVec gradient[kVectors];
      sum_products<kWhole>(tap, channels, form.grad_output + sample * out_sample + first,
                           form.input + sample * in_sample + first, lanes, gradient);
      for (int v = 0; v < kVectors; ++v) {
        squares[v] = hn::MulAdd(gradient[v], gradient[v], squares[v]);
      }
    }
    HWY_ALIGN float rounded[kVectors * HWY_MAX_BYTES / sizeof(float)] = {};
    for (int v = 0; v < kVectors; ++v) hn::Store(squares[v], d, rounded + v * width);
    for (std::int64_t i = 0; i < lanes; ++i) totals[i] += static_cast<double>(rounded[i]);
  }
}

HWY_ATTR void accumulate_channels(const ContractionForm& form, const Tap& tap, std::int64_t first,
                                  std::int64_t lanes, double* totals) {
  if (lanes == kVectors * static_cast<std::int64_t>(hn::Lanes(FloatTag()))) {
    accumulate_tap<true>(form, tap, first, lanes, totals);
  } else {
    accumulate_tap<false>(form, tap, first, lanes, totals);
  }
}

std::int64_t channels_at_once() {
  return kVectors * static_cast<std::int64_t>(hn::Lanes(FloatTag()));
}

}  // namespace HWY_NAMESPACE
}  // namespace fishermask
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fishermask {
namespace {

HWY_EXPORT(accumulate_channels);
HWY_EXPORT(channels_at_once);

}  // namespace

void accumulate_contraction_depthwise(const ContractionForm& form, double* sums) {
  const std::vector<Tap> taps = contraction_taps(form);
  const std::int64_t step = HWY_DYNAMIC_DISPATCH(channels_at_once)();
  const std::int64_t runs = (form.out_channels + step - 1) / step;
  const auto tap_count = static_cast<std::int64_t>(taps.size());
  parallel_items(runs * tap_count, [&](std::int64_t item) {
    const std::int64_t first = item / tap_count * step;
    const std::int64_t t = item % tap_count;
    const Tap& tap = taps[static_cast<std::size_t>(t)];
    if (tap.rows <= 0 || tap.cols <= 0) return;
    const std::int64_t lanes = std::min(step, form.out_channels - first);
    std::vector<double> totals(static_cast<std::size_t>(lanes), 0.0);
    HWY_DYNAMIC_DISPATCH(accumulate_channels)(form, tap, first, lanes, totals.data());
    for (std::int64_t c = 0; c < lanes; ++c) {
      sums[(first + c) * tap_count + t] += totals[static_cast<std::size_t>(c)];
    }
  });
}

}  // namespace fishermask
#endif  // HWY_ONCE
