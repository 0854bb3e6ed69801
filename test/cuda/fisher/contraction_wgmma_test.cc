// Contractions by wgmma: against their definition in f64 and against the tiles, over sizes around
// the edges of its tiles and stages; when it is chosen; how its check switches it off.
#include <algorithm>
#include <cstdlib>

#include "cuda/fisher/device_sums.h"
#include "fisher/contraction.h"

using namespace fishermask;
using namespace fishermask::test;

namespace {

constexpr const char* kSwitch = "FISHERMASK_CUDA_WGMMA";
constexpr const char* kFault = "FISHERMASK_EMULATED_WGMMA_FAULT";

// An environment variable, as long as this lives.
class Setting {
 public:
  Setting(const char* name, const char* value) : name_(name) {
    const char* const old = std::getenv(name);
    had_ = old != nullptr;
    if (had_) old_ = old;
    REQUIRE(setenv(name, value, 1) == 0);
  }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;
  ~Setting() { had_ ? setenv(name_, old_.c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  bool had_ = false;
  std::string old_;
};

bool has_wgmma() { return device(Precision::kBf16).info().compute_capability == 90; }

std::shared_ptr<Device> fresh_device(Precision precision = Precision::kBf16) {
  DeviceOptions options;
  options.precision = precision;
  return open_cuda_device(options);
}

ContractionCase sequence(std::int64_t batch, std::int64_t in, std::int64_t out,
                         std::int64_t positions) {
  return {.batch = batch,
          .in = in,
          .out = out,
          .height = 1,
          .width = positions,
          .kernel_height = 1,
          .kernel_width = 1};
}

std::string kernel_of(Device& on, const ContractionCase& c, std::int64_t skew = 0) {
  const RandomContraction problem(c);
  (void)DeviceContraction(on, problem, skew).run();
  return on.square_report().kernel;
}

// By wgmma where there is one, else by the tiles: the sums hold either way.
void check_case(const ContractionCase& c) {
  Device& on = device(Precision::kBf16);
  const RandomContraction problem(c);
  const DeviceContraction on_device(on, problem);
  const std::vector<double> found = on_device.run(0.5);
  CHECK_MESSAGE(on.square_report().kernel == (has_wgmma() ? "wgmma" : "tiles"), describe(c), ": ",
                on.square_report().wgmma);
  const double error = relative_error(found, problem.run(accumulate_contraction_reference, 0.5));
  CHECK_MESSAGE(error <= 2e-2, describe(c), ": ", error);
  const Setting off(kSwitch, "off");
  const double beside_tiles = relative_error(found, on_device.run(0.5));
  CHECK_MESSAGE(on.square_report().kernel == "tiles", describe(c));
  CHECK_MESSAGE(beside_tiles <= 1e-4, describe(c), ": ", beside_tiles);
}

// Wide and low tiles, with and without shares of the samples.
const ContractionCase kKernels[] = {sequence(5, 192, 128, 64),
                                    sequence(2, 264, 200, 97),
                                    sequence(3, 256, 64, 70),
                                    {.batch = 3,
                                     .in = 24,
                                     .out = 72,
                                     .height = 9,
                                     .width = 8,
                                     .pad_top = 1,
                                     .pad_left = 1,
                                     .pad_bottom = 1,
                                     .pad_right = 1}};

}  // namespace

TEST_CASE("cuda contractions by wgmma: sizes around the tiles' edges") {
  for (const std::int64_t out : {64, 72, 120, 128, 136}) check_case(sequence(1, 192, out, 64));
  for (const std::int64_t in : {128, 184, 192, 200, 392}) check_case(sequence(1, in, 128, 64));
  for (const std::int64_t in : {248, 256, 264}) check_case(sequence(1, in, 64, 64));
}

TEST_CASE("cuda contractions by wgmma: positions that are no multiple of a stage") {
  for (const std::int64_t positions : {64, 65, 79, 80, 81, 95, 96, 97, 255, 256, 300}) {
    check_case(sequence(2, 128, 64, positions));
  }
  check_case(sequence(2, 136, 80, 333));
}

TEST_CASE("cuda contractions by wgmma: strides, padding, dilation, groups") {
  check_case({.batch = 2,
              .in = 16,
              .out = 72,
              .height = 17,
              .width = 19,
              .stride_height = 2,
              .stride_width = 2,
              .pad_top = 1,
              .pad_left = 1});
  check_case({.batch = 2,
              .in = 40,
              .out = 64,
              .height = 9,
              .width = 11,
              .kernel_height = 2,
              .dilation_height = 3,
              .dilation_width = 2,
              .pad_top = 3,
              .pad_left = 1,
              .pad_right = 4});
  check_case({.batch = 1,
              .in = 24,
              .out = 64,
              .height = 2,
              .width = 3,
              .kernel_height = 3,
              .kernel_width = 2,
              .pad_top = 9,
              .pad_left = 3,
              .pad_bottom = 8,
              .pad_right = 3});
  check_case({.batch = 2,
              .in = 48,
              .out = 144,
              .height = 8,
              .width = 9,
              .pad_top = 1,
              .pad_left = 1,
              .pad_bottom = 1,
              .pad_right = 1,
              .groups = 2});
  check_case({.batch = 2, .in = 48, .out = 192, .height = 10, .width = 10, .groups = 3});
  check_case({.batch = 2,
              .in = 128,
              .out = 136,
              .height = 17,
              .width = 15,
              .kernel_height = 1,
              .kernel_width = 1,
              .stride_height = 2,
              .stride_width = 2});
}

TEST_CASE("cuda contractions by wgmma: more samples than go to f64 at once") {
  check_case(sequence(300, 128, 64, 64));  // in shares of the samples
  check_case(sequence(65, 200, 136, 64));  // without
}

TEST_CASE("cuda contractions by wgmma: the same bits twice, added to what was there") {
  Device& on = device(Precision::kBf16);
  for (const ContractionCase& c : kKernels) {
    const RandomContraction problem(c);
    const DeviceContraction on_device(on, problem);
    const std::vector<double> once = on_device.run();
    CHECK_MESSAGE(same_bits(once, on_device.run()), describe(c));
    std::vector<double> above = on_device.run(1024.0);
    for (double& sum : above) sum -= 1024.0;
    CHECK_MESSAGE(relative_error(above, once) <= 1e-9, describe(c));
  }
}

TEST_CASE("cuda contractions by wgmma: NaN reaches the sums, and only those that it touches") {
  RandomContraction problem(sequence(2, 128, 72, 65));
  std::vector<float> delta(problem.form.grad_output,
                           problem.form.grad_output + DeviceContraction::grad_count(problem.form));
  delta[64 * 72 + 7] = std::numeric_limits<float>::quiet_NaN();
  problem.form.grad_output = delta.data();
  const std::vector<double> sums = DeviceContraction(device(Precision::kBf16), problem).run();
  for (std::size_t i = 0; i < sums.size(); ++i) CHECK(std::isnan(sums[i]) == (i / 128 == 7));
}

TEST_CASE("cuda contractions by wgmma: chosen for large problems in bf16 alone") {
  Device& on = device(Precision::kBf16);
  const std::string large = has_wgmma() ? "wgmma" : "tiles";
  CHECK(kernel_of(on, sequence(1, 128, 64, 64)) == large);
  CHECK(kernel_of(on, sequence(1, 128, 64, 63)) == "tiles");
  CHECK(kernel_of(on, sequence(1, 120, 64, 64)) == "tiles");
  CHECK(kernel_of(on, sequence(1, 128, 56, 64)) == "tiles");
  CHECK(kernel_of(on, sequence(1, 132, 64, 64)) == "tiles");
  CHECK(kernel_of(on, sequence(1, 128, 68, 64)) == "tiles");
  CHECK(kernel_of(on, sequence(1, 128, 64, 64), 1) == "tiles");  // off an alignment
  CHECK(kernel_of(on, sequence(3, 128, 64, 1)) == "vectors");
  CHECK(kernel_of(device(Precision::kTf32), sequence(1, 128, 64, 64)) == "tiles");
  CHECK(kernel_of(device(Precision::kF32), sequence(1, 128, 64, 64)) == "tiles");
}

TEST_CASE("cuda contractions by wgmma: the switch, and the check at the first use") {
  const ContractionCase c = sequence(1, 128, 64, 64);
  const std::shared_ptr<Device> on = fresh_device();
  CHECK(on->square_report().wgmma.empty());
  {
    const Setting off(kSwitch, "off");
    CHECK(kernel_of(*on, c) == "tiles");
    CHECK(on->square_report().wgmma == "off: FISHERMASK_CUDA_WGMMA says so");
  }
  {
    const Setting wrong(kSwitch, "perhaps");
    const RandomContraction problem(c);
    const DeviceContraction on_device(*on, problem);
    CHECK_THROWS_WITH_AS((void)on_device.run(), doctest::Contains("off, on or checked"), Error);
  }
  if (!has_wgmma()) {
    CHECK(kernel_of(*on, c) == "tiles");
    CHECK(on->square_report().wgmma == "off: not a device of compute capability 9.0");
    return;
  }
  CHECK(kernel_of(*on, c) == "wgmma");
  CHECK(on->square_report().wgmma == "checked");
  const Setting always(kSwitch, "on");
  CHECK(kernel_of(*on, c) == "wgmma");
  CHECK(on->square_report().wgmma == "on, unchecked");
}

TEST_CASE("cuda contractions by wgmma: switched off where it is wrong") {
  if (!device(Precision::kBf16).info().emulated) return;
  const Setting fault(kFault, "1");
  const std::shared_ptr<Device> on = fresh_device();
  const RandomContraction problem(sequence(2, 128, 64, 64));
  const DeviceContraction on_device(*on, problem);
  for (int i = 0; i < 2; ++i) {
    const std::vector<double> found = on_device.run(0.5);
    CHECK(on->square_report().kernel == "tiles");
    CHECK(on->square_report().wgmma.starts_with("off: its check failed: sum "));
    CHECK(relative_error(found, problem.run(accumulate_contraction_reference, 0.5)) <= 2e-2);
  }
}
