#include "fisher/scatter.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "core/vector_clones.h"

namespace fishermask {
namespace {

// Channels of one thread at the least: a cache line of f32, so that no two threads share one.
constexpr std::int64_t kGrain = 16;

void check_ids(const ScatterForm& form) {
  const std::int64_t count = form.batch * form.positions;
  const std::int32_t* largest = std::max_element(form.ids, form.ids + count);
  FM_CHECK(count == 0 || *largest < form.rows, INTERNAL, "a scatter of squares met id ",
           count == 0 ? 0 : *largest, " for ", form.rows, " rows");
}

FM_VECTOR_CLONES void add_row(const float* __restrict delta, std::int64_t channels,
                              double* __restrict gradient) {
  for (std::int64_t c = 0; c < channels; ++c) gradient[c] += static_cast<double>(delta[c]);
}

FM_VECTOR_CLONES void add_squares(const double* __restrict gradient, std::int64_t channels,
                                  double* __restrict sums) {
  for (std::int64_t c = 0; c < channels; ++c) sums[c] += gradient[c] * gradient[c];
}

// Channels [begin, end) of one sample. gradient: end − begin values of scratch.
void add_sample(const ScatterForm& form, std::int64_t n, const std::int32_t* order,
                std::int64_t begin, std::int64_t end, std::vector<double>& gradient, double* sums) {
  const std::int32_t* ids = form.ids + n * form.positions;
  const float* delta = form.grad_output + n * form.positions * form.channels + begin;
  std::int64_t p = 0;
  while (p < form.positions && ids[order[p]] < 0) ++p;
  while (p < form.positions) {
    const std::int32_t id = ids[order[p]];
    std::fill(gradient.begin(), gradient.end(), 0.0);
    for (; p < form.positions && ids[order[p]] == id; ++p) {
      add_row(delta + order[p] * form.channels, end - begin, gradient.data());
    }
    add_squares(gradient.data(), end - begin, sums + id * form.channels + begin);
  }
}

}  // namespace

std::vector<std::int32_t> scatter_order(const ScatterForm& form) {
  check_ids(form);
  std::vector<std::int32_t> order(static_cast<std::size_t>(form.batch * form.positions));
  parallel_for(form.batch, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      const std::int32_t* ids = form.ids + n * form.positions;
      const auto first = order.begin() + n * form.positions;
      std::iota(first, first + form.positions, 0);
      std::stable_sort(first, first + form.positions,
                       [ids](std::int32_t a, std::int32_t b) { return ids[a] < ids[b]; });
    }
  });
  return order;
}

void accumulate_scatter(const ScatterForm& form, double* sums) {
  const std::vector<std::int32_t> order = scatter_order(form);
  parallel_for(form.channels, kGrain, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> gradient(static_cast<std::size_t>(end - begin));
    for (std::int64_t n = 0; n < form.batch; ++n) {
      add_sample(form, n, order.data() + n * form.positions, begin, end, gradient, sums);
    }
  });
}

}  // namespace fishermask
