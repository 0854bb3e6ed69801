#include "fisher/reduction.h"

#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "core/vector_clones.h"

namespace fishermask {
namespace {

constexpr std::int64_t kRun = 64;

// run[c] = Σ_p δ·f over `positions` rows.
FM_VECTOR_CLONES void reduce_run(const float* delta, std::int64_t positions, std::int64_t channels,
                                 float* run) {
  std::fill(run, run + channels, 0.0F);
  for (std::int64_t p = 0; p < positions; ++p) {
    for (std::int64_t c = 0; c < channels; ++c) run[c] += delta[p * channels + c];
  }
}

FM_VECTOR_CLONES void reduce_normalised_run(const float* delta, const float* input,
                                            const float* mean, const float* inv_std,
                                            std::int64_t positions, std::int64_t channels,
                                            float* run) {
  std::fill(run, run + channels, 0.0F);
  for (std::int64_t p = 0; p < positions; ++p) {
    for (std::int64_t c = 0; c < channels; ++c) {
      run[c] += delta[p * channels + c] * ((input[p * channels + c] - mean[c]) * inv_std[c]);
    }
  }
}

// gradient[c] = G_n[c] of one sample.
void sample_gradient(const ReductionForm& form, std::int64_t n, std::vector<float>& run,
                     double* gradient) {
  const std::int64_t channels = form.channels;
  std::fill(gradient, gradient + channels, 0.0);
  for (std::int64_t p = 0; p < form.positions; p += kRun) {
    const std::int64_t rows = std::min(kRun, form.positions - p);
    const std::int64_t start = (n * form.positions + p) * channels;
    if (form.input == nullptr) {
      reduce_run(form.grad_output + start, rows, channels, run.data());
    } else {
      reduce_normalised_run(form.grad_output + start, form.input + start, form.mean, form.inv_std,
                            rows, channels, run.data());
    }
    for (std::int64_t c = 0; c < channels; ++c) {
      gradient[c] += static_cast<double>(run[static_cast<std::size_t>(c)]);
    }
  }
}

}  // namespace

void accumulate_reduction(const ReductionForm& form, double* sums) {
  const auto channels = static_cast<std::size_t>(form.channels);
  std::vector<double> gradients(static_cast<std::size_t>(form.batch) * channels);
  parallel_for(form.batch, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> run(channels);
    for (std::int64_t n = begin; n < end; ++n) {
      sample_gradient(form, n, run, gradients.data() + static_cast<std::size_t>(n) * channels);
    }
  });
  // In the samples' order, whatever thread computed them.
  for (std::size_t n = 0; n < static_cast<std::size_t>(form.batch); ++n) {
    for (std::size_t c = 0; c < channels; ++c) {
      const double gradient = gradients[n * channels + c];
      sums[c] += gradient * gradient;
    }
  }
}

}  // namespace fishermask
