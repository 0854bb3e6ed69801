// Whether a device may be given the wgmma kernel: it has not been run on a GPU by those who wrote
// it, so that each device compares its sums with the tiles' before it is used.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/text.h"
#include "fisher/contraction_wgmma.h"

namespace fishermask::cuda {
namespace {

constexpr const char* kHolds = "checked";
constexpr const char* kUnchecked = "on, unchecked";
constexpr const char* kFailed = "off: its check failed: ";

enum class Mode : std::uint8_t { kOff, kOn, kChecked };

Mode mode_of_environment() {
  const char* const word = std::getenv("FISHERMASK_CUDA_WGMMA");
  if (word == nullptr || std::strcmp(word, "checked") == 0) return Mode::kChecked;
  if (std::strcmp(word, "on") == 0) return Mode::kOn;
  FM_CHECK(std::strcmp(word, "off") == 0, ARGUMENT,
           "expected FISHERMASK_CUDA_WGMMA to be off, on or checked but received ", word);
  return Mode::kOff;
}

// In [−1, 1), the same ones everywhere.
std::vector<float> some_values(std::int64_t count, std::uint32_t seed) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) {
    seed = seed * 1664525U + 1013904223U;
    value = static_cast<float>(seed >> 8U) * 0x1p-23F - 1.0F;
  }
  return values;
}

// The wide tile: two tiles along both sides, the second ones in part; padding; a last stage of
// three positions; three samples one after the other in a block.
ContractionForm wide_form() {
  ContractionForm form;
  form.batch = 3;
  form.in_channels = 40;
  form.out_channels = 136;
  form.in_height = form.out_height = 9;
  form.in_width = form.out_width = 11;
  form.kernel_height = form.kernel_width = 3;
  form.pad_top = form.pad_left = 1;
  return form;
}

// The low tile: more stages of a sample than shared memory holds; a share for each sample.
ContractionForm low_form() {
  ContractionForm form;
  form.batch = 2;
  form.in_channels = 264;
  form.out_channels = 64;
  form.in_width = form.out_width = 300;
  return form;
}

enum class By : std::uint8_t { kTiles, kWgmma, kWgmmaInOneShare };

std::vector<double> sums_of(Backend& backend, const ContractionForm& form, By by) {
  std::vector<double> sums(static_cast<std::size_t>(form.out_channels * form.in_channels *
                                                    form.kernel_height * form.kernel_width));
  const auto count = static_cast<std::int64_t>(sums.size());
  const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(double));
  const Buffer<double> on_device(backend, count, "the check of wgmma");
  backend.from_host(on_device.data(), sums.data(), bytes);
  if (by == By::kTiles) {
    accumulate_contraction_tiles(backend, form, on_device.data());
  } else {
    accumulate_contraction_wgmma(backend, form, on_device.data(),
                                 by == By::kWgmma ? kMostShares : 1);
  }
  backend.to_host(sums.data(), on_device.data(), bytes);
#ifdef FM_EMULATION
  // For tests: a device whose wgmma is wrong in one sum.
  if (by != By::kTiles && std::getenv("FISHERMASK_EMULATED_WGMMA_FAULT") != nullptr) {
    sums.back() *= 1.01;
  }
#endif
  return sums;
}

// Empty: they agree. Both kernels round their operands alike; the order of f32 sums differs, which
// shows most where a gradient all but cancels out: hence the part of the largest sum.
std::string difference(const std::vector<double>& found, const std::vector<double>& expected) {
  constexpr double kTolerance = 1e-3, kTolerated = 1e-5;
  const double floor = kTolerated * *std::max_element(expected.begin(), expected.end());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (std::abs(found[i] - expected[i]) <= kTolerance * expected[i] + floor) continue;
    return text("sum ", i, " is ", found[i], " and by the tiles ", expected[i]);
  }
  return {};
}

std::string check_form(Backend& backend, ContractionForm form, By by) {
  const std::vector<float> grad =
      some_values(form.batch * form.out_height * form.out_width * form.out_channels, 1);
  const std::vector<float> input =
      some_values(form.batch * form.in_height * form.in_width * form.in_channels, 2);
  const auto upload = [&](const std::vector<float>& values) {
    Buffer<float> buffer(backend, static_cast<std::int64_t>(values.size()), "the check of wgmma");
    backend.from_host(buffer.data(), values.data(),
                      static_cast<std::int64_t>(values.size() * sizeof(float)));
    return buffer;
  };
  const Buffer<float> grad_on_device = upload(grad);
  const Buffer<float> input_on_device = upload(input);
  form.grad_output = grad_on_device.data();
  form.input = input_on_device.data();
  const std::vector<double> expected = sums_of(backend, form, By::kTiles);
  const std::vector<double> found = sums_of(backend, form, by);
  const std::vector<double> again = sums_of(backend, form, by);
  if (std::memcmp(found.data(), again.data(), found.size() * sizeof(double)) != 0) {
    return "other sums the second time";
  }
  return difference(found, expected);
}

// What is wrong; empty: nothing.
std::string check_device(Backend& backend) {
  try {
    const std::string wrong = check_form(backend, wide_form(), By::kWgmmaInOneShare);
    return wrong.empty() ? check_form(backend, low_form(), By::kWgmma) : wrong;
  } catch (const Error& e) {
    return e.what();  // a launch that the device refuses
  }
}

}  // namespace

bool may_use_wgmma(Backend& backend) {
  std::string& note = backend.square_notes().wgmma;
  const Mode mode = mode_of_environment();
  if (mode == Mode::kOff) {
    note = "off: FISHERMASK_CUDA_WGMMA says so";
    return false;
  }
  if (backend.device_info().compute_capability != 90) {
    note = "off: not a device of compute capability 9.0";
    return false;
  }
  if (mode == Mode::kOn) {
    note = kUnchecked;
    return true;
  }
  if (note != kHolds && !note.starts_with(kFailed)) {
    const std::string wrong = check_device(backend);
    note = wrong.empty() ? kHolds : kFailed + wrong;
  }
  return note == kHolds;
}

}  // namespace fishermask::cuda
