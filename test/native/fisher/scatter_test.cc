// The fused scatter kernel (embedding) against its definition in f64.
#include "fisher/scatter.h"

#include <doctest/doctest.h>

#include <cstring>

#include "core/parallel.h"
#include "native/fisher/random_form.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

struct ScatterCase {
  std::int64_t batch, positions, channels, rows;
  std::int64_t lowest = 0;  // ids are drawn from [lowest, rows)
};

std::string describe(const ScatterCase& c) {
  return text("batch ", c.batch, ", positions ", c.positions, ", channels ", c.channels, ", rows ",
              c.rows, ", ids from ", c.lowest);
}

class RandomScatter {
 public:
  explicit RandomScatter(const ScatterCase& c)
      : delta_(normals(c.batch * c.positions * c.channels, 1)) {
    const InputDraw draw = {static_cast<double>(c.lowest), static_cast<double>(c.rows), true};
    for (const float id : uniforms(c.batch * c.positions, 2, draw)) {
      ids_.push_back(static_cast<std::int32_t>(id));
    }
    form.grad_output = delta_.data();
    form.ids = ids_.data();
    form.batch = c.batch, form.positions = c.positions;
    form.channels = c.channels, form.rows = c.rows;
  }
  RandomScatter(const RandomScatter&) = delete;
  RandomScatter& operator=(const RandomScatter&) = delete;

  [[nodiscard]] std::vector<double> fused() const {
    std::vector<double> sums(static_cast<std::size_t>(form.rows * form.channels), 0.25);
    accumulate_scatter(form, sums.data());
    return sums;
  }

  [[nodiscard]] std::vector<double> naive() const {
    std::vector<double> sums(static_cast<std::size_t>(form.rows * form.channels), 0.25);
    for (std::int64_t n = 0; n < form.batch; ++n) {
      std::vector<double> gradient(sums.size());
      for (std::int64_t p = n * form.positions; p < (n + 1) * form.positions; ++p) {
        if (ids_[static_cast<std::size_t>(p)] < 0) continue;
        for (std::int64_t c = 0; c < form.channels; ++c) {
          const std::int64_t at = ids_[static_cast<std::size_t>(p)] * form.channels + c;
          gradient[static_cast<std::size_t>(at)] +=
              static_cast<double>(form.grad_output[p * form.channels + c]);
        }
      }
      for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += gradient[i] * gradient[i];
    }
    return sums;
  }

  std::vector<std::int32_t>& ids() { return ids_; }
  ScatterForm form;

 private:
  std::vector<float> delta_;
  std::vector<std::int32_t> ids_;
};

constexpr ScatterCase kCases[] = {{1, 1, 1, 1},        {3, 7, 5, 4},       {2, 65, 33, 1},
                                  {5, 20, 17, 6, -1},  {4, 3, 64, 1000},   {1, 50, 100, 3, -2},
                                  {6, 4, 16, 2, -100}, {9, 31, 1, 40, -5}, {0, 4, 3, 2}};

}  // namespace

TEST_CASE("scatters: the fused kernel against the definition") {
  for (const ScatterCase& c : kCases) {
    const RandomScatter problem(c);
    const double error = relative_error(problem.fused(), problem.naive());
    CHECK_MESSAGE(error <= 1e-14, describe(c), ": ", error);
  }
}

TEST_CASE("scatters: the positions of one row are added before they are squared") {
  const std::vector<float> delta = {1, 10, 2, 20, 4, 40, 8, 80};
  const std::vector<std::int32_t> ids = {1, -1, 1, 0};
  std::vector<double> sums(6);
  ScatterForm form;
  form.grad_output = delta.data(), form.ids = ids.data();
  form.batch = 1, form.positions = 4, form.channels = 2, form.rows = 3;
  accumulate_scatter(form, sums.data());
  CHECK(sums == std::vector<double>{64, 6400, 25, 2500, 0, 0});
  // As two samples of two positions, row 1 is squared in each alone.
  form.batch = 2, form.positions = 2;
  std::fill(sums.begin(), sums.end(), 0.0);
  accumulate_scatter(form, sums.data());
  CHECK(sums == std::vector<double>{64, 6400, 17, 1700, 0, 0});
}

TEST_CASE("scatters: the same bits on 1, 2, 3 and 5 threads") {
  const int before = thread_count();
  for (const ScatterCase& c : kCases) {
    const RandomScatter problem(c);
    set_thread_count(1);
    const std::vector<double> one = problem.fused();
    for (const int threads : {2, 3, 5}) {
      set_thread_count(threads);
      const std::vector<double> sums = problem.fused();
      CHECK_MESSAGE(std::memcmp(one.data(), sums.data(), one.size() * sizeof(double)) == 0,
                    describe(c), " on ", threads, " threads");
    }
  }
  set_thread_count(before);
}

TEST_CASE("scatters: an id beyond the rows is refused before anything is added") {
  RandomScatter problem({2, 5, 3, 4});
  problem.ids().back() = 4;
  std::vector<double> sums(12, 0.5);
  CHECK_THROWS_AS(accumulate_scatter(problem.form, sums.data()), Error);
  CHECK(sums == std::vector<double>(12, 0.5));
}
