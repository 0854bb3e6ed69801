#include "fisher/reduction.h"

#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "core/vector_clones.h"

namespace fishermask {
namespace {

constexpr std::int64_t kRun = 64;
// Sixteen channels side by side; the compiler splits them for narrower machines.
constexpr std::int64_t kLanes = 16;
using Lanes [[gnu::vector_size(64), gnu::aligned(4), gnu::may_alias]] = float;
// Sums side by side over the positions, so that one addition need not wait for the last.
constexpr std::int64_t kChains = 4;

FM_INLINE_IN_CLONES const Lanes& at(const float* from) {
  return *reinterpret_cast<const Lanes*>(from);
}
FM_INLINE_IN_CLONES Lanes& at(float* to) { return *reinterpret_cast<Lanes*>(to); }

// The sums of one sample's run of positions. Null: not wanted.
struct Run {
  const float* delta = nullptr;
  const float* input = nullptr;
  std::int64_t positions = 0;
  std::int64_t channels = 0;
  float* plain = nullptr;     // Σ_p δ
  float* weighted = nullptr;  // Σ_p δ · (input − mean) · inv_std
};

FM_VECTOR_CLONES void reduce_plain(const Run& run) {
  std::int64_t c = 0;
  for (; c + kLanes <= run.channels; c += kLanes) {
    Lanes sum[kChains] = {};
    std::int64_t p = 0;
    for (; p + kChains <= run.positions; p += kChains) {
      for (std::int64_t i = 0; i < kChains; ++i)
        sum[i] += at(run.delta + (p + i) * run.channels + c);
    }
    for (; p < run.positions; ++p) sum[0] += at(run.delta + p * run.channels + c);
    at(run.plain + c) = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
  for (; c < run.channels; ++c) {
    float sum = 0;
    for (std::int64_t p = 0; p < run.positions; ++p) sum += run.delta[p * run.channels + c];
    run.plain[c] = sum;
  }
}

FM_VECTOR_CLONES void reduce_both(const Run& run, const float* mean, const float* inv_std) {
  std::int64_t c = 0;
  for (; c + kLanes <= run.channels; c += kLanes) {
    const Lanes middle = at(mean + c);
    Lanes sum[kChains] = {};
    Lanes product[kChains] = {};
    std::int64_t p = 0;
    for (; p + kChains <= run.positions; p += kChains) {
      for (std::int64_t i = 0; i < kChains; ++i) {
        const std::int64_t place = (p + i) * run.channels + c;
        const Lanes delta = at(run.delta + place);
        sum[i] += delta;
        product[i] += delta * (at(run.input + place) - middle);
      }
    }
    for (; p < run.positions; ++p) {
      const std::int64_t place = p * run.channels + c;
      const Lanes delta = at(run.delta + place);
      sum[0] += delta;
      product[0] += delta * (at(run.input + place) - middle);
    }
    at(run.plain + c) = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    at(run.weighted + c) =
        ((product[0] + product[1]) + (product[2] + product[3])) * at(inv_std + c);
  }
  for (; c < run.channels; ++c) {
    float sum = 0;
    float product = 0;
    for (std::int64_t p = 0; p < run.positions; ++p) {
      const float delta = run.delta[p * run.channels + c];
      sum += delta;
      product += delta * (run.input[p * run.channels + c] - mean[c]);
    }
    run.plain[c] = sum;
    run.weighted[c] = product * inv_std[c];
  }
}

// (N, C) f64 each: every sample's own gradients.
struct SampleGradients {
  double* plain = nullptr;
  double* weighted = nullptr;
};

void add_run(const std::vector<float>& run, double* gradient) {
  for (std::size_t c = 0; c < run.size(); ++c) gradient[c] += static_cast<double>(run[c]);
}

void reduce_sample(const ReductionForm& form, std::int64_t n, const SampleGradients& gradients) {
  const auto channels = static_cast<std::size_t>(form.channels);
  std::vector<float> plain(channels);
  std::vector<float> weighted(form.input == nullptr ? 0 : channels);
  for (std::int64_t p = 0; p < form.positions; p += kRun) {
    const std::int64_t start = (n * form.positions + p) * form.channels;
    Run run{form.grad_output + start,
            nullptr,
            std::min(kRun, form.positions - p),
            form.channels,
            plain.data(),
            weighted.data()};
    if (form.input == nullptr) {
      reduce_plain(run);
    } else {
      run.input = form.input + start;
      reduce_both(run, form.mean, form.inv_std);
      add_run(weighted, gradients.weighted + n * form.channels);
    }
    if (gradients.plain != nullptr) add_run(plain, gradients.plain + n * form.channels);
  }
}

// In the samples' order, whatever thread computed them.
void add_squares(const ReductionForm& form, const std::vector<double>& gradients, double* sums) {
  const auto channels = static_cast<std::size_t>(form.channels);
  for (std::size_t n = 0; n < static_cast<std::size_t>(form.batch); ++n) {
    for (std::size_t c = 0; c < channels; ++c) {
      const double gradient = gradients[n * channels + c];
      sums[c] += gradient * gradient;
    }
  }
}

// Either of the sums may be null.
void accumulate(const ReductionForm& form, double* weighted_sums, double* plain_sums) {
  const auto count = static_cast<std::size_t>(form.batch * form.channels);
  std::vector<double> weighted(weighted_sums == nullptr ? 0 : count);
  std::vector<double> plain(plain_sums == nullptr ? 0 : count);
  const SampleGradients gradients{plain_sums == nullptr ? nullptr : plain.data(),
                                  weighted_sums == nullptr ? nullptr : weighted.data()};
  parallel_for(form.batch, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) reduce_sample(form, n, gradients);
  });
  if (weighted_sums != nullptr) add_squares(form, weighted, weighted_sums);
  if (plain_sums != nullptr) add_squares(form, plain, plain_sums);
}

}  // namespace

void accumulate_reduction(const ReductionForm& form, double* sums) {
  if (form.input == nullptr) {
    accumulate(form, nullptr, sums);
  } else {
    accumulate(form, sums, nullptr);
  }
}

void accumulate_reduction_pair(const ReductionForm& normalised, double* scale_sums,
                               double* shift_sums) {
  accumulate(normalised, scale_sums, shift_sums);
}

}  // namespace fishermask
