// Convolutions and linear layers whose squared per-sample gradients are checked and timed.
#pragma once

#include <string>
#include <vector>

#include "core/device.h"
#include "device_array.h"

namespace fishermask::cuda_bench {

struct SquareCase {
  std::string name;
  std::int64_t batch = 1;
  std::int64_t in = 1, out = 1;  // channels
  std::int64_t rows = 1, columns = 1, kernel = 1;

  // K: the length of the sums that a per-sample gradient is made of.
  [[nodiscard]] std::int64_t positions() const { return rows * columns; }
  [[nodiscard]] std::int64_t weights() const { return out * in * kernel * kernel; }
  // Two for each product that exists (those with padding do not); the squares do not count.
  [[nodiscard]] double operations() const {
    const auto taps = [this](std::int64_t size) {
      return size * kernel - 2 * (kernel / 2) * (kernel / 2 + 1) / 2;
    };
    return 2.0 * static_cast<double>(batch * out * in * taps(rows) * taps(columns));
  }
  // δ and a must be set.
  [[nodiscard]] ContractionForm form() const {
    ContractionForm form;
    form.batch = batch;
    form.in_height = form.out_height = rows;
    form.in_width = form.out_width = columns;
    form.in_channels = in;
    form.out_channels = out;
    form.kernel_height = form.kernel_width = kernel;
    form.pad_top = form.pad_left = kernel / 2;
    return form;
  }
};

// Of ResNet-18 on 32×32 and of a transformer of width 768: K = 16, 64, 256, 1024, and vectors (K =
// 1).
[[nodiscard]] inline std::vector<SquareCase> timed_square_cases(bool smoke) {
  if (smoke) {
    return {{"conv 3x3, 8 -> 8 at 4x4", 3, 8, 8, 4, 4, 3},
            {"linear, 24 -> 40, 16 tokens", 2, 24, 40, 1, 16, 1},
            {"linear, 136 -> 72, 70 tokens", 2, 136, 72, 1, 70, 1}};
  }
  return {{"conv 3x3, 512 -> 512 at 4x4", 512, 512, 512, 4, 4, 3},
          {"conv 3x3, 256 -> 256 at 8x8", 512, 256, 256, 8, 8, 3},
          {"conv 3x3, 128 -> 128 at 16x16", 512, 128, 128, 16, 16, 3},
          {"conv 3x3, 64 -> 64 at 32x32", 512, 64, 64, 32, 32, 3},
          {"conv 3x3, 256 -> 256 at 32x32", 64, 256, 256, 32, 32, 3},
          {"linear, 768 -> 3072, 16 tokens", 1024, 768, 3072, 1, 16, 1},
          {"linear, 768 -> 3072, 64 tokens", 256, 768, 3072, 1, 64, 1},
          {"linear, 768 -> 3072, 256 tokens", 64, 768, 3072, 1, 256, 1},
          {"linear, 768 -> 3072, 1024 tokens", 16, 768, 3072, 1, 1024, 1},
          {"linear, 768 -> 768, 256 tokens", 256, 768, 768, 1, 256, 1},
          {"linear, 3072 -> 768, 1024 tokens", 16, 3072, 768, 1, 1024, 1},
          {"linear, 4096 -> 4096, vectors", 8192, 4096, 4096, 1, 1, 1}};
}

// Sizes that meet tiles' edges; small enough for the plain definition on the host.
[[nodiscard]] inline std::vector<SquareCase> checked_square_cases(bool smoke) {
  std::vector<SquareCase> cases = {{"conv 3x3, 3 -> 16 at 5x7", 3, 3, 16, 5, 7, 3},
                                   {"linear, 31 -> 33, 17 tokens", 3, 31, 33, 1, 17, 1},
                                   {"linear, 65 -> 10, vectors", 5, 65, 10, 1, 1, 1}};
  if (smoke) return cases;
  cases.push_back({"conv 3x3, 64 -> 64 at 16x16", 17, 64, 64, 16, 16, 3});
  cases.push_back({"conv 1x1, 65 -> 127 at 8x8", 9, 65, 127, 8, 8, 1});
  cases.push_back({"conv 3x3, 48 -> 136 at 9x11", 9, 48, 136, 9, 11, 3});
  cases.push_back({"linear, 192 -> 576, 65 tokens", 9, 192, 576, 1, 65, 1});
  cases.push_back({"linear, 129 -> 257, 1000 tokens", 3, 129, 257, 1, 1000, 1});
  cases.push_back({"linear, 512 -> 1000, vectors", 127, 512, 1000, 1, 1, 1});
  return cases;
}

// A case with random operands on a device.
class SquareWork {
 public:
  SquareWork(Device& device, const SquareCase& of)
      : grad_output(random_array(device, of.batch * of.positions() * of.out, 4)),
        input(random_array(device, of.batch * of.positions() * of.in, 5)),
        sums(device, of.weights()),
        sink_(device.make_square_sink()) {
    ContractionForm form = of.form();
    form.grad_output = grad_output.data();
    form.input = input.data();
    problem_ = {"weight", form};
    sums.zero();
  }
  void run() {
    const SquareTask task{&problem_, sums.data()};
    sink_->accumulate({&task, 1});
  }

  DeviceArray<float> grad_output, input;
  DeviceArray<double> sums;

 private:
  SquareProblem problem_;
  std::unique_ptr<SquareSink> sink_;
};

}  // namespace fishermask::cuda_bench
