// The device's contractions against their definition in f64, over shapes that meet every tile, edge
// and precision.
#include "fisher/contraction.h"

#include <algorithm>
#include <limits>
#include <random>

#include "cuda/fisher/device_sums.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

constexpr Precision kPrecisions[] = {Precision::kF32, Precision::kTf32, Precision::kBf16};

double tolerance(Precision precision) {
  if (precision == Precision::kF32) return 1e-5;
  return precision == Precision::kTf32 ? 2e-3 : 2e-2;
}

void check_case(const ContractionCase& c, std::int64_t skew = 0) {
  const RandomContraction problem(c);
  const std::vector<double> expected = problem.run(accumulate_contraction_reference, 0.5);
  for (const Precision precision : kPrecisions) {
    const DeviceContraction on_device(device(precision), problem, skew);
    const double error = relative_error(on_device.run(0.5), expected);
    CHECK_MESSAGE(error <= tolerance(precision), describe(c), ", ", precision_name(precision), ": ",
                  error);
  }
}

ContractionCase vectors(std::int64_t batch, std::int64_t in, std::int64_t out) {
  return {.batch = batch,
          .in = in,
          .out = out,
          .height = 1,
          .width = 1,
          .kernel_height = 1,
          .kernel_width = 1};
}

ContractionCase sequence(std::int64_t batch, std::int64_t in, std::int64_t out,
                         std::int64_t positions) {
  ContractionCase c = vectors(batch, in, out);
  c.width = positions;
  return c;
}

ContractionCase random_case(std::mt19937& random) {
  const auto draw = [&](std::int64_t least, std::int64_t most) {
    return std::uniform_int_distribution<std::int64_t>(least, most)(random);
  };
  ContractionCase c;
  c.groups = draw(0, 2) == 0 ? draw(2, 4) : 1;
  c.batch = draw(1, 6);
  c.in = c.groups * draw(1, 9);
  c.out = c.groups * draw(1, 20);
  c.kernel_height = draw(1, 4), c.kernel_width = draw(1, 4);
  c.stride_height = draw(1, 3), c.stride_width = draw(1, 3);
  c.dilation_height = draw(1, 3), c.dilation_width = draw(1, 3);
  c.pad_top = draw(0, 4), c.pad_left = draw(0, 4);
  c.pad_bottom = draw(0, 4), c.pad_right = draw(0, 4);
  const auto least = [](std::int64_t kernel, std::int64_t dilation, std::int64_t pads) {
    return std::max<std::int64_t>(dilation * (kernel - 1) + 1 - pads, 1);
  };
  c.height = least(c.kernel_height, c.dilation_height, c.pad_top + c.pad_bottom) + draw(0, 4);
  c.width = least(c.kernel_width, c.dilation_width, c.pad_left + c.pad_right) + draw(0, 4);
  return c;
}

// Samples [first, first + count).
ContractionForm part_of(const ContractionForm& form, std::int64_t first, std::int64_t count) {
  ContractionForm part = form;
  part.batch = count;
  part.grad_output += first * form.out_height * form.out_width * form.out_channels;
  part.input += first * form.in_height * form.in_width * form.in_channels;
  return part;
}

// One of every kernel: tiles of each size, vectors, depthwise; with and without shares of samples.
const ContractionCase kKernels[] = {
    {.batch = 9, .in = 5, .out = 12, .pad_top = 1, .pad_left = 1},
    {.batch = 17, .in = 8, .out = 32, .height = 4, .width = 3, .pad_top = 1},
    {.batch = 3, .in = 42, .out = 190, .height = 3, .width = 3, .pad_top = 1, .pad_left = 1},
    sequence(3, 255, 250, 5),
    sequence(17, 8, 6, 70),
    {.batch = 5, .in = 6, .out = 18, .height = 16, .width = 16, .pad_top = 1, .pad_left = 1},
    vectors(300, 33, 17),
    vectors(1100, 5, 3),
    {.batch = 21, .in = 34, .out = 34, .height = 4, .width = 5, .pad_left = 1, .groups = 34}};

}  // namespace

TEST_CASE("cuda contractions: ugly channels") {
  for (const std::int64_t in : {1, 3, 17, 33}) {
    for (const std::int64_t out : {1, 4, 17, 65}) {
      check_case({.in = in,
                  .out = out,
                  .height = 3,
                  .width = 4,
                  .kernel_height = 2,
                  .pad_top = 1,
                  .pad_left = 1});
    }
  }
}

TEST_CASE("cuda contractions: every kernel, off and on an alignment") {
  for (const ContractionCase& c : kKernels) {
    check_case(c);
    check_case(c, 1);
  }
}

TEST_CASE("cuda contractions: positions from 1 to 130, batches from 1 to 40") {
  for (const std::int64_t positions : {1, 2, 7, 8, 9, 15, 16, 17, 33, 130}) {
    check_case(sequence(2, 5, 6, positions));
  }
  for (const std::int64_t batch : {1, 2, 5, 17, 40}) check_case(sequence(batch, 8, 4, 3));
  // One position, but not linear on vectors: each sample an outer product.
  check_case({.batch = 19, .in = 7, .out = 9, .height = 3, .width = 3});
  check_case({.batch = 3,
              .in = 6,
              .out = 8,
              .height = 1,
              .width = 1,
              .kernel_height = 1,
              .kernel_width = 1,
              .groups = 2});
}

TEST_CASE("cuda contractions: linear on vectors") {
  check_case(vectors(1, 1, 1));
  check_case(vectors(2, 65, 33));
  check_case(vectors(5, 130, 10));
  check_case(vectors(65, 7, 3));
  check_case(vectors(130, 64, 64));
}

TEST_CASE("cuda contractions: taps partly and wholly in the padding") {
  check_case(
      {.height = 1, .width = 1, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1});
  check_case({.height = 2,
              .width = 2,
              .kernel_height = 5,
              .kernel_width = 5,
              .pad_top = 4,
              .pad_left = 4,
              .pad_bottom = 4,
              .pad_right = 4});
  check_case({.height = 2,
              .width = 3,
              .stride_height = 4,
              .stride_width = 4,
              .pad_top = 7,
              .pad_left = 6,
              .pad_bottom = 7,
              .pad_right = 6});
  check_case({.height = 3,
              .width = 3,
              .dilation_height = 5,
              .dilation_width = 5,
              .pad_top = 5,
              .pad_left = 5,
              .pad_bottom = 5,
              .pad_right = 5});
}

TEST_CASE("cuda contractions: groups of few channels") {
  check_case({.batch = 5, .in = 7, .out = 7, .pad_top = 1, .pad_left = 1, .groups = 7});
  check_case({.batch = 2,
              .in = 33,
              .out = 66,
              .height = 7,
              .width = 6,
              .stride_height = 2,
              .stride_width = 2,
              .pad_top = 1,
              .pad_left = 1,
              .groups = 33});
  check_case({.batch = 3, .in = 8, .out = 8, .kernel_height = 5, .kernel_width = 4, .groups = 4});
  check_case({.batch = 17,
              .in = 3,
              .out = 12,
              .height = 4,
              .dilation_height = 2,
              .pad_top = 2,
              .groups = 3});
  // Groups of more channels are tiles'.
  check_case({.batch = 3, .in = 15, .out = 10, .groups = 5});
  check_case({.batch = 2, .in = 40, .out = 72, .height = 4, .width = 4, .groups = 2});
}

TEST_CASE("cuda contractions: random shapes") {
  std::mt19937 random(12);
  for (int i = 0; i < 40; ++i) check_case(random_case(random));
}

TEST_CASE("cuda contractions: more samples than f32 sums may take before they go to f64") {
  check_case({.batch = 150,
              .in = 3,
              .out = 5,
              .height = 2,
              .width = 2,
              .kernel_height = 1,
              .kernel_width = 2});
}

TEST_CASE("cuda contractions: the same bits twice, added to what was there") {
  for (const Precision precision : kPrecisions) {
    for (const ContractionCase& c : kKernels) {
      const RandomContraction problem(c);
      const DeviceContraction on_device(device(precision), problem);
      const std::vector<double> once = on_device.run();
      CHECK_MESSAGE(same_bits(once, on_device.run()), describe(c));
      std::vector<double> above = on_device.run(1024.0);
      for (double& sum : above) sum -= 1024.0;
      CHECK_MESSAGE(relative_error(above, once) <= 1e-9, describe(c));
    }
  }
}

TEST_CASE("cuda contractions: samples are added one by one, however calls share them out") {
  Device& on = device();
  const auto sink = on.make_square_sink();
  for (const ContractionCase& c : kKernels) {
    const RandomContraction problem(c);
    const DeviceContraction on_device(on, problem);
    const DeviceArray<double> sums(
        on, std::vector<double>(static_cast<std::size_t>(on_device.weights), 0.0));
    for (std::int64_t first = 0; first < c.batch; first += 4) {
      const SquareProblem part = {
          "weight", part_of(on_device.form, first, std::min<std::int64_t>(4, c.batch - first))};
      const SquareTask task = {&part, sums.data()};
      sink->accumulate(std::span(&task, 1));
    }
    CHECK_MESSAGE(relative_error(sums.host(), on_device.run()) <= 1e-6, describe(c));
  }
}

TEST_CASE("cuda contractions: no samples change nothing") {
  RandomContraction problem({.in = 3, .out = 4});
  problem.form.batch = 0;
  const DeviceContraction on_device(device(), problem);
  CHECK(on_device.run(0.25) ==
        std::vector<double>(static_cast<std::size_t>(problem.weights), 0.25));
}

TEST_CASE("cuda contractions: NaN reaches the sums, and only those that it touches") {
  for (const Precision precision : kPrecisions) {
    RandomContraction problem({.in = 3, .out = 18, .height = 4, .width = 4});
    std::vector<float> delta(
        problem.form.grad_output,
        problem.form.grad_output + DeviceContraction::grad_count(problem.form));
    delta[18 + 7] = std::numeric_limits<float>::quiet_NaN();
    problem.form.grad_output = delta.data();
    const std::vector<double> sums = DeviceContraction(device(precision), problem).run();
    for (std::size_t i = 0; i < sums.size(); ++i) CHECK(std::isnan(sums[i]) == (i / 27 == 7));
  }
}
