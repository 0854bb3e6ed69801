// The fused reduction kernel (bias, norm scale and shift) against its definition in f64.
#include "fisher/reduction.h"

#include <doctest/doctest.h>

#include <cstring>

#include "core/parallel.h"
#include "native/fisher/random_form.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

struct ReductionCase {
  std::int64_t batch, positions, channels;
};

class RandomReduction {
 public:
  RandomReduction(const ReductionCase& c, bool normalised)
      : delta_(normals(c.batch * c.positions * c.channels, 1)),
        input_(normals(c.batch * c.positions * c.channels, 2)),
        mean_(normals(c.channels, 3)),
        inv_std_(normals(c.channels, 4)) {
    form.grad_output = delta_.data();
    form.batch = c.batch, form.positions = c.positions, form.channels = c.channels;
    if (!normalised) return;
    form.input = input_.data();
    form.mean = mean_.data();
    form.inv_std = inv_std_.data();
  }
  RandomReduction(const RandomReduction&) = delete;
  RandomReduction& operator=(const RandomReduction&) = delete;

  [[nodiscard]] std::vector<double> fused() const {
    std::vector<double> sums(static_cast<std::size_t>(form.channels), 0.25);
    accumulate_reduction(form, sums.data());
    return sums;
  }

  [[nodiscard]] std::vector<double> naive() const {
    std::vector<double> sums(static_cast<std::size_t>(form.channels), 0.25);
    for (std::int64_t n = 0; n < form.batch; ++n) {
      for (std::int64_t c = 0; c < form.channels; ++c) {
        double gradient = 0;
        for (std::int64_t p = 0; p < form.positions; ++p) {
          const std::int64_t at = (n * form.positions + p) * form.channels + c;
          double factor = 1;
          if (form.input != nullptr) {
            factor = (static_cast<double>(form.input[at]) - static_cast<double>(form.mean[c])) *
                     static_cast<double>(form.inv_std[c]);
          }
          gradient += static_cast<double>(form.grad_output[at]) * factor;
        }
        sums[static_cast<std::size_t>(c)] += gradient * gradient;
      }
    }
    return sums;
  }

  ReductionForm form;

 private:
  std::vector<float> delta_, input_, mean_, inv_std_;
};

constexpr ReductionCase kCases[] = {{1, 1, 1},  {3, 1, 10},   {2, 7, 3},      {5, 64, 16},
                                    {2, 65, 1}, {4, 200, 33}, {17, 1024, 16}, {1, 63, 64}};

}  // namespace

TEST_CASE("reductions: the fused kernel against the definition") {
  for (const ReductionCase& c : kCases) {
    for (const bool normalised : {false, true}) {
      const RandomReduction problem(c, normalised);
      const double error = relative_error(problem.fused(), problem.naive());
      CHECK_MESSAGE(error <= 2e-6, "batch ", c.batch, ", positions ", c.positions, ", channels ",
                    c.channels, normalised ? ", normalised: " : ": ", error);
    }
  }
}

TEST_CASE("reductions: scale and shift in one pass are the two alone, to the bit") {
  for (const ReductionCase& c : kCases) {
    const RandomReduction scale(c, true);
    ReductionForm shift = scale.form;
    shift.input = nullptr;
    std::vector<double> alone(static_cast<std::size_t>(c.channels), 0.25);
    accumulate_reduction(shift, alone.data());
    std::vector<double> scale_sums(alone.size(), 0.25);
    std::vector<double> shift_sums(alone.size(), 0.25);
    accumulate_reduction_pair(scale.form, scale_sums.data(), shift_sums.data());
    CHECK(scale_sums == scale.fused());
    CHECK(shift_sums == alone);
  }
}

TEST_CASE("reductions: the same bits on 1, 2 and 3 threads") {
  const int before = thread_count();
  for (const ReductionCase& c : kCases) {
    const RandomReduction problem(c, true);
    set_thread_count(1);
    const std::vector<double> one = problem.fused();
    for (const int threads : {2, 3}) {
      set_thread_count(threads);
      const std::vector<double> sums = problem.fused();
      CHECK(std::memcmp(one.data(), sums.data(), one.size() * sizeof(double)) == 0);
    }
  }
  set_thread_count(before);
}
