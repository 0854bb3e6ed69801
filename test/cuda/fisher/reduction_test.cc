// The device's reductions (bias, norm scale and shift) against their definition in f64.
#include <limits>

#include "cuda/fisher/device_sums.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

struct ReductionCase {
  std::int64_t batch, positions, channels;
};

constexpr double kTolerance = 2e-6;

// Widths below, at and above a block; positions below and above what is summed directly, what is
// one f32 run, and what is shared out among blocks.
constexpr ReductionCase kCases[] = {{1, 1, 1},    {5, 1, 33},   {2, 4, 17},   {3, 5, 1},
                                    {2, 9, 3},    {17, 130, 3}, {2, 70, 257}, {1, 300, 65},
                                    {2, 12, 256}, {4, 1, 600},  {1, 5000, 2}, {33, 31, 31}};

struct RandomReduction {
  explicit RandomReduction(const ReductionCase& c, Device& on = device())
      : size(c),
        delta(normals(c.batch * c.positions * c.channels, 1)),
        input(normals(c.batch * c.positions * c.channels, 2)),
        mean(normals(c.channels, 3)),
        inv_std(normals(c.channels, 4)),
        on_device{DeviceArray<float>(on, delta), DeviceArray<float>(on, input),
                  DeviceArray<float>(on, mean), DeviceArray<float>(on, inv_std)} {
    normalised.grad_output = on_device[0].data();
    normalised.batch = c.batch, normalised.positions = c.positions;
    normalised.channels = c.channels;
    plain = normalised;
    normalised.input = on_device[1].data();
    normalised.mean = on_device[2].data(), normalised.inv_std = on_device[3].data();
  }

  [[nodiscard]] std::vector<double> naive(bool weighted, double start) const {
    std::vector<double> sums(mean.size(), start);
    for (std::int64_t n = 0; n < size.batch; ++n) {
      for (std::size_t c = 0; c < sums.size(); ++c) {
        double gradient = 0.0;
        for (std::int64_t p = 0; p < size.positions; ++p) {
          const std::size_t at =
              static_cast<std::size_t>((n * size.positions + p) * size.channels) + c;
          const double factor =
              weighted ? (static_cast<double>(input[at]) - static_cast<double>(mean[c])) *
                             static_cast<double>(inv_std[c])
                       : 1.0;
          gradient += static_cast<double>(delta[at]) * factor;
        }
        sums[c] += gradient * gradient;
      }
    }
    return sums;
  }

  ReductionCase size;
  std::vector<float> delta, input, mean, inv_std;
  std::array<DeviceArray<float>, 4> on_device;
  ReductionForm normalised, plain;
};

std::string describe(const ReductionCase& c) {
  return text("batch ", c.batch, ", positions ", c.positions, ", channels ", c.channels);
}

}  // namespace

TEST_CASE("cuda reductions: with and without an input") {
  for (const ReductionCase& c : kCases) {
    const RandomReduction problem(c);
    const double plain = relative_error(sink_sums(device(), problem.plain, c.channels, 0.25),
                                        problem.naive(false, 0.25));
    CHECK_MESSAGE(plain <= kTolerance, describe(c), ": ", plain);
    const double weighted = relative_error(
        sink_sums(device(), problem.normalised, c.channels, 0.25), problem.naive(true, 0.25));
    CHECK_MESSAGE(weighted <= kTolerance, describe(c), ", weighted: ", weighted);
  }
}

TEST_CASE("cuda reductions: a norm's scale and shift together are what they are alone") {
  for (const ReductionCase& c : kCases) {
    const RandomReduction problem(c);
    const std::vector<double> zeros(static_cast<std::size_t>(c.channels), 0.0);
    const DeviceArray<double> scale(device(), zeros);
    const DeviceArray<double> shift(device(), zeros);
    const SquareProblem problems[] = {{"bias", problem.plain}, {"weight", problem.normalised}};
    const SquareTask tasks[] = {{&problems[0], shift.data()}, {&problems[1], scale.data()}};
    device().make_square_sink()->accumulate(tasks);
    CHECK_MESSAGE(same_bits(scale.host(), sink_sums(device(), problem.normalised, c.channels, 0)),
                  describe(c));
    CHECK_MESSAGE(same_bits(shift.host(), sink_sums(device(), problem.plain, c.channels, 0)),
                  describe(c));
  }
}

TEST_CASE("cuda reductions: the same bits twice; samples are added one by one") {
  for (const ReductionCase& c : kCases) {
    const RandomReduction problem(c);
    const std::vector<double> whole = sink_sums(device(), problem.normalised, c.channels, 0.0);
    CHECK_MESSAGE(same_bits(whole, sink_sums(device(), problem.normalised, c.channels, 0.0)),
                  describe(c));
    std::vector<double> parts(whole.size(), 0.0);
    for (std::int64_t n = 0; n < c.batch; ++n) {
      ReductionForm part = problem.normalised;
      part.batch = 1;
      part.grad_output += n * c.positions * c.channels;
      part.input += n * c.positions * c.channels;
      const std::vector<double> one = sink_sums(device(), part, c.channels, 0.0);
      for (std::size_t i = 0; i < parts.size(); ++i) parts[i] += one[i];
    }
    CHECK_MESSAGE(relative_error(parts, whole) <= 1e-6, describe(c));
  }
}

TEST_CASE("cuda reductions: no samples change nothing; NaN stays in its channel") {
  RandomReduction problem({3, 40, 5});
  ReductionForm none = problem.normalised;
  none.batch = 0;
  CHECK(sink_sums(device(), none, 5, 0.5) == std::vector<double>(5, 0.5));
  std::vector<float> delta = problem.delta;
  delta[5 * 7 + 3] = std::numeric_limits<float>::quiet_NaN();
  const DeviceArray<float> bad(device(), delta);
  problem.plain.grad_output = bad.data();
  const std::vector<double> sums = sink_sums(device(), problem.plain, 5, 0.0);
  for (std::size_t c = 0; c < sums.size(); ++c) CHECK(std::isnan(sums[c]) == (c == 3));
}
